// Puts the service's RPCs on a grpc-js server, each behind the interceptor chain.
import type {
  Server,
  ServiceDefinition,
  sendUnaryData,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Logger } from "pino";
import { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import type { Authenticate } from "../auth/tokens.js";
import type { Database } from "../db/database.js";
import { shuttingDown } from "../errors/rpc-error.js";
import type { AppendQueue } from "../messages/append-queue.js";
import type { Call, Limits } from "./call.js";
import type { Decode } from "./decode.js";
import { GrpcCall, type RawStreamCall, type RawUnaryCall } from "./grpc-call.js";
import * as interceptors from "./interceptors.js";
import { Encoded, type Rpcs, type StreamRpc, type UnaryRpc } from "./method.js";

/** What the calls of a server share. */
export interface ServerContext {
  db: Database;
  appends: AppendQueue;
  limits: Limits;
  logger: Logger;
  authenticate: Authenticate;
}

// A timer for each call costs more than all its other bookkeeping: setting and clearing it wakes the
// event loop's own timer.
const CHECK_EVERY_MS = 1_000;

/** The calls in flight of one server. */
export interface CallsInFlight {
  /** Ends all streams with SHUTTING_DOWN, and refuses calls that come from now on. */
  drain(): void;
  /** Ends the unary calls too. */
  abort(): void;
  /** When all have ended. */
  close(): void;
}

/**
 * Adds the service AgentStore to a server.
 *
 * @returns a handle on its calls, for shutdown
 */
export function addAgentStore(server: Server, rpcs: Rpcs, context: ServerContext): CallsInFlight {
  const { db, appends, limits, logger, authenticate } = context;
  const calls = new Set<GrpcCall>();
  let draining = false;
  const clock = setInterval(() => {
    const now = performance.now();
    for (const call of calls) call.abortIfDue(now);
  }, CHECK_EVERY_MS);
  clock.unref();
  const definition: Record<string, unknown> = {};
  const implementation: UntypedServiceImplementation = {};

  for (const [key, method] of Object.entries(AgentStoreService)) {
    const name = method.path.slice(method.path.lastIndexOf("/") + 1);
    const rpc = rpcs[key as keyof Rpcs] as UnaryRpc<unknown, unknown> | StreamRpc<unknown, unknown>;
    const run = interceptors.chain(
      [
        interceptors.callId,
        interceptors.log(logger),
        interceptors.metrics,
        interceptors.principal(authenticate),
        interceptors.validation(rpc, method.requestDeserialize as unknown as Decode),
      ],
      (call: Call) => (call as GrpcCall).answer(rpc),
    );
    // Requests are decoded inside the chain, where a failure gets its reason and field.
    definition[key] = {
      ...method,
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: serializer(method.responseSerialize as (response: unknown) => Buffer),
    };
    implementation[key] = (raw: RawUnaryCall | RawStreamCall, respond?: sendUnaryData<unknown>) => {
      const call = new GrpcCall(name, raw, db, appends, limits, respond);
      calls.add(call);
      if (draining) call.abort(shuttingDown());
      void run(call).then((failure) => {
        calls.delete(call);
        if (failure) call.fail(failure);
        else call.succeed();
      });
    };
  }
  server.addService(definition as unknown as ServiceDefinition, implementation);

  return {
    drain() {
      draining = true;
      for (const call of calls) if (call.isStream) call.abort(shuttingDown());
    },
    abort() {
      for (const call of calls) call.abort(shuttingDown());
    },
    close() {
      clearInterval(clock);
    },
  };
}

// grpc-js copies what it gets before anything else can run.
function serializer(serialize: (response: unknown) => Buffer): (response: unknown) => Buffer {
  return (response) => (response instanceof Encoded ? response.take() : serialize(response));
}
