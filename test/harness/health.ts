// What grpc.health.v1.Health says of a server.
import type { ClientReadableStream } from "@grpc/grpc-js";
import { service } from "grpc-health-check";
import { until } from "./postgres-watch.js";
import type { Stubs } from "./stubs.js";

interface HealthResponse {
  status: "SERVING" | "NOT_SERVING" | "SERVICE_UNKNOWN" | "UNKNOWN";
}

type Serialize = (value: object) => Buffer;
type Deserialize = (bytes: Buffer) => HealthResponse;

/** The services whose health follows the database. */
export const SERVICES = ["", "agentstore.v1.AgentStore"];

/** A Watch under way. */
export interface HealthWatch {
  /** What it has said so far, oldest first. */
  statuses: string[];
  /** Waits until the status it said last is this one. */
  until(status: HealthResponse["status"]): Promise<void>;
  stop(): void;
}

/** Asks once. */
export async function checkHealth(stubs: Stubs, name = ""): Promise<string> {
  const { path, requestSerialize, responseDeserialize } = service.Check!;
  return await new Promise((resolve, reject) => {
    stubs.channel.makeUnaryRequest(
      path,
      requestSerialize as Serialize,
      responseDeserialize as Deserialize,
      { service: name },
      (error, response) => (error ? reject(error) : resolve(response!.status)),
    );
  });
}

/** Follows the health of a service. */
export function watchHealth(stubs: Stubs, name = ""): HealthWatch {
  const { path, requestSerialize, responseDeserialize } = service.Watch!;
  const stream: ClientReadableStream<HealthResponse> = stubs.channel.makeServerStreamRequest(
    path,
    requestSerialize as Serialize,
    responseDeserialize as Deserialize,
    { service: name },
  );
  const statuses: string[] = [];
  stream.on("data", ({ status }: HealthResponse) => statuses.push(status));
  stream.on("error", () => {});
  return {
    statuses,
    async until(status) {
      await until(`health is ${status}`, () => statuses.at(-1) === status);
    },
    stop: () => stream.cancel(),
  };
}
