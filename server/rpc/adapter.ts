// Puts the services' RPCs on a grpc-js server, each behind the interceptor chain.
import type {
  MethodDefinition,
  Server,
  ServiceDefinition,
  sendUnaryData,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Logger } from "pino";
import { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import { AgentStoreAdminService } from "../../gen/agentstore/v1/agent_store_admin.js";
import type { AuditSealer } from "../audit/sealer.js";
import type { Authenticate } from "../auth/tokens.js";
import type { Database } from "../db/database.js";
import type { EmbeddingsEndpoint } from "../embeddings/endpoint.js";
import { shuttingDown } from "../errors/rpc-error.js";
import type { AppendQueue } from "../messages/append-queue.js";
import type { PolicySnapshots } from "../snapshots/policy-snapshots.js";
import type { Call, Limits } from "./call.js";
import type { Decode } from "./decode.js";
import { GrpcCall, type RawCall } from "./grpc-call.js";
import * as interceptors from "./interceptors.js";
import { type AdminRpcs, type AnyRpc, Encoded, type Rpcs } from "./method.js";

/** What the calls of a server share. */
export interface ServerContext {
  db: Database;
  appends: AppendQueue;
  audit: AuditSealer;
  snapshots: PolicySnapshots;
  /** What embeds queries; absent where none is configured. */
  embeddings?: EmbeddingsEndpoint | undefined;
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
 * Adds the services AgentStore and AgentStoreAdmin to a server.
 *
 * @returns a handle on their calls, for shutdown
 */
export function addServices(
  server: Server,
  rpcs: { store: Rpcs; admin: AdminRpcs },
  context: ServerContext,
): CallsInFlight {
  const calls: Calls = { all: new Set(), draining: false };
  const clock = setInterval(() => {
    const now = performance.now();
    for (const call of calls.all) call.abortIfDue(now);
  }, CHECK_EVERY_MS);
  clock.unref();
  addService(server, AgentStoreService, rpcs.store, [], context, calls);
  const guards = [interceptors.operatorsOnly("agentstore.v1.AgentStoreAdmin")];
  addService(server, AgentStoreAdminService, rpcs.admin, guards, context, calls);
  return {
    drain() {
      calls.draining = true;
      for (const call of calls.all) if (call.isStream) call.abort(shuttingDown());
    },
    abort() {
      for (const call of calls.all) call.abort(shuttingDown());
    },
    close() {
      clearInterval(clock);
    },
  };
}

interface Calls {
  all: Set<GrpcCall>;
  draining: boolean;
}

function addService<Service extends ServiceDefinition>(
  server: Server,
  service: Service,
  rpcs: { [Name in keyof Service]: unknown },
  guards: interceptors.Interceptor[],
  context: ServerContext,
  calls: Calls,
): void {
  const { logger, authenticate } = context;
  const definition: Record<string, unknown> = {};
  const implementation: UntypedServiceImplementation = {};
  const methods = Object.entries(service) as [string, MethodDefinition<unknown, unknown>][];
  for (const [key, method] of methods) {
    const name = method.path.slice(method.path.lastIndexOf("/") + 1);
    const rpc = rpcs[key] as AnyRpc;
    const run = interceptors.chain(
      [
        interceptors.callId,
        interceptors.log(logger),
        interceptors.metrics,
        interceptors.principal(authenticate),
        ...guards,
        interceptors.validation(rpc, method.requestDeserialize as unknown as Decode),
      ],
      (call: Call) => (call as GrpcCall).answer(rpc),
    );
    // Requests are decoded inside the chain, where a failure gets its reason and field.
    definition[key] = {
      ...method,
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: serializer(method.responseSerialize),
    };
    implementation[key] = (raw: RawCall, respond?: sendUnaryData<unknown>) => {
      const call = new GrpcCall(name, raw, context, respond);
      calls.all.add(call);
      if (calls.draining) call.abort(shuttingDown());
      void run(call).then((failure) => {
        calls.all.delete(call);
        if (failure) call.fail(failure);
        else call.succeed();
      });
    };
  }
  server.addService(definition as unknown as ServiceDefinition, implementation);
}

function serializer(serialize: (response: unknown) => Buffer): (response: unknown) => Buffer {
  return (response) => (response instanceof Encoded ? response.bytes : serialize(response));
}
