// A small AgentStore server whose every answer a test decides, behind a proxy that can cut the line.
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { AgentStoreClient, type AgentStoreClientOptions } from "../../../client/index.js";
import { AgentStoreService } from "../../../gen/agentstore/v1/agent_store.js";
import { AgentMessage } from "../../../gen/agentstore/v1/messages.js";
import { BadRequest, ErrorInfo, RetryInfo } from "../../../gen/google/rpc/error_details.js";
import { Status } from "../../../gen/google/rpc/status.js";
import { startProxy } from "./proxy.js";

type Methods = typeof AgentStoreService;
type Request<M extends keyof Methods> = ReturnType<Methods[M]["requestDeserialize"]>;
type Response<M extends keyof Methods> = ReturnType<Methods[M]["responseDeserialize"]>;
type Streaming = "streamMessages" | "watchSession" | "watchSessions";

/**
 * What a test answers with: a method that it does not name answers UNIMPLEMENTED. A Buffer instead of
 * a response goes out as it is.
 */
export type Answers = {
  [M in Exclude<keyof Methods, Streaming>]?: (
    request: Request<M>,
    call: ServerUnaryCall<Request<M>, Response<M>>,
  ) => Response<M> | Promise<Response<M>>;
} & {
  [M in Streaming]?: (
    request: Request<M>,
    call: ServerWritableStream<Request<M>, Response<M>>,
  ) => Promise<void>;
};

export interface FakeServer {
  /** Through the proxy. */
  url: string;
  port: number;
  /** Cuts all connections, as a crash of the server does; the next ones are taken again. */
  cut(): void;
  /** As cut, once so many more bytes have come from the server. */
  cutAfter(bytes: number): void;
  /** Ends for good: nothing listens on the port any more. */
  stop(): Promise<void>;
}

export async function startFakeServer(answers: Answers): Promise<FakeServer> {
  const server = new Server();
  const implementation = Object.fromEntries(
    Object.entries(answers).map(([name, answer]) => [
      name,
      AgentStoreService[name as keyof Methods].responseStream
        ? streaming(answer as never)
        : unary(answer as never),
    ]),
  );
  server.addService(definition, implementation as UntypedServiceImplementation);
  const target = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
  const proxy = await startProxy(target);
  return {
    url: `agentstore://127.0.0.1:${proxy.port}`,
    port: proxy.port,
    cut: proxy.cut,
    cutAfter: proxy.cutAfter,
    async stop() {
      proxy.stop();
      server.forceShutdown();
    },
  };
}

const definition: ServiceDefinition = Object.fromEntries(
  Object.entries(AgentStoreService).map(([name, method]) => {
    const responseSerialize = (response: unknown): Buffer =>
      Buffer.isBuffer(response) ? response : method.responseSerialize(response as never);
    return [name, { ...method, responseSerialize }];
  }),
);

/** Starts a server and a client of it, which end when what is left in `closers` is called. */
export async function startWithClient(
  closers: (() => unknown)[],
  answers: Answers,
  options: AgentStoreClientOptions = {},
): Promise<{ server: FakeServer; store: AgentStoreClient }> {
  const server = await startFakeServer(answers);
  const store = new AgentStoreClient({ url: server.url, ...options });
  closers.push(
    () => store.close(),
    () => server.stop(),
  );
  return { server, store };
}

function unary(answer: (request: unknown, call: unknown) => unknown) {
  return (
    call: ServerUnaryCall<unknown, unknown>,
    callback: (error: unknown, response?: unknown) => void,
  ): void => {
    Promise.resolve()
      .then(() => answer(call.request, call))
      .then(
        (response) => callback(null, response),
        (error) => callback(error),
      );
  };
}

function streaming(answer: (request: unknown, call: unknown) => Promise<void>) {
  return (call: ServerWritableStream<unknown, unknown>): void => {
    answer(call.request, call).then(
      () => call.end(),
      (error) => call.emit("error", error),
    );
  };
}

/** An error as the real server sends it. */
export function failure(
  code: status,
  reason: string,
  more: {
    message?: string;
    metadata?: Record<string, string>;
    violations?: { field: string; description: string }[];
    retryDelayMs?: number;
    domain?: string;
  } = {},
): ServiceError {
  const message = more.message ?? `it failed: ${reason}`;
  const { metadata: facts = {}, violations, retryDelayMs, domain = "agentstore" } = more;
  const details = [
    any("ErrorInfo", ErrorInfo.encode({ reason, domain, metadata: facts }).finish()),
  ];
  if (violations !== undefined) {
    const fieldViolations = violations.map((violation) => ({ ...violation, reason: "" }));
    details.push(
      any("BadRequest", BadRequest.encode(BadRequest.fromPartial({ fieldViolations })).finish()),
    );
  }
  if (retryDelayMs !== undefined) {
    const retryDelay = {
      seconds: BigInt(Math.floor(retryDelayMs / 1000)),
      nanos: (retryDelayMs % 1000) * 1e6,
    };
    details.push(any("RetryInfo", RetryInfo.encode({ retryDelay }).finish()));
  }
  const metadata = new Metadata();
  metadata.set(
    "grpc-status-details-bin",
    Buffer.from(Status.encode({ code, message, details }).finish()),
  );
  return asError(code, message, metadata);
}

/** An error that says nothing but its code, as a proxy sends it. */
export function bare(code: status, details: string): ServiceError {
  return asError(code, details, new Metadata());
}

function asError(code: status, details: string, metadata: Metadata): ServiceError {
  return Object.assign(new Error(details), { code, details, metadata });
}

function any(name: string, value: Uint8Array): { typeUrl: string; value: Buffer } {
  return { typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(value) };
}

/** A stored message, as the server sends it. */
export function stored(seq: bigint, content = `message ${seq}`): AgentMessage {
  return AgentMessage.fromPartial({
    id: 1000n + seq,
    conversationId: 7n,
    seq,
    role: 2,
    content,
    timestampMs: 1n,
    revision: seq + 1n,
  });
}

/** Resolves when something has been called back. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

export { status };
