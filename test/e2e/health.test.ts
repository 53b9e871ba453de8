// grpc.health.v1.Health, as load balancers ask it.
import { makeGenericClientConstructor, type ServiceError, status } from "@grpc/grpc-js";
import { service } from "grpc-health-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { useStore } from "./store.js";

const store = useStore();

interface Answer {
  status: string;
}

interface HealthClient {
  check(
    request: { service: string },
    metadata: unknown,
    respond: (error: ServiceError | null, answer: Answer) => void,
  ): void;
  watch(
    request: { service: string },
    metadata: unknown,
  ): AsyncIterable<Answer> & { cancel(): void; on(event: "error", listener: () => void): void };
  close(): void;
}

let client: HealthClient;

beforeAll(() => {
  const type = makeGenericClientConstructor(service, "Health");
  client = store.connect(type) as unknown as HealthClient;
});

afterAll(() => client?.close());

function check(name: string): Promise<string> {
  return new Promise((resolve, reject) => {
    client.check({ service: name }, store.metadata(), (error, answer) => {
      if (error) reject(error);
      else resolve(answer.status);
    });
  });
}

async function firstOfWatch(name: string): Promise<string> {
  const watch = client.watch({ service: name }, store.metadata());
  // The cancel shows as an error.
  watch.on("error", () => {});
  for await (const answer of watch) {
    watch.cancel();
    return answer.status;
  }
  throw new Error("the watch ended without an answer");
}

describe.each(["", "agentstore.v1.AgentStore", "agentstore.v1.AgentStoreAdmin"])(
  "the service %j",
  (name) => {
    test("is SERVING", async () => {
      expect(await check(name)).toBe("SERVING");
    });

    test("is SERVING to who watches it", async () => {
      expect(await firstOfWatch(name)).toBe("SERVING");
    });
  },
);

test("a service that nobody knows is NOT_FOUND, and SERVICE_UNKNOWN to who watches it", async () => {
  await expect(check("no.such.Service")).rejects.toMatchObject({ code: status.NOT_FOUND });
  expect(await firstOfWatch("no.such.Service")).toBe("SERVICE_UNKNOWN");
});
