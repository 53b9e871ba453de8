// The RPCs of both services, each behind the interceptor chain, for whatever transport brings a call.
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import type { Logger } from "pino";
import { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import { AgentStoreAdminService } from "../../gen/agentstore/v1/agent_store_admin.js";
import type { Authenticate } from "../auth/tokens.js";
import type { RpcError } from "../errors/rpc-error.js";
import type { Decode } from "./decode.js";
import * as interceptors from "./interceptors.js";
import { type AdminRpcs, type AnyRpc, Encoded, type Rpcs } from "./method.js";
import type { ServedCall } from "./served-call.js";

/** One RPC, as transports serve it. */
export interface Method {
  /** For example `AddMessage`. */
  name: string;
  /** The full name of its service, for example `agentstore.v1.AgentStore`. */
  service: string;
  /** Where it is called, for example `/agentstore.v1.AgentStore/AddMessage`. */
  path: string;
  /** As ts-proto has made it. */
  definition: MethodDefinition<unknown, unknown>;
  /** The bytes of a response, to be copied at once; see Encoded.take(). */
  serialize: (response: unknown) => Buffer;
  /** Takes a call through the chain; resolves to what failed it, if anything did. */
  run(call: ServedCall): Promise<RpcError | undefined>;
}

/** Puts all RPCs of both services behind the chain. */
export function allMethods(
  rpcs: { store: Rpcs; admin: AdminRpcs },
  { logger, authenticate }: { logger: Logger; authenticate: Authenticate },
): Method[] {
  const first = [
    interceptors.callId,
    interceptors.log(logger),
    interceptors.metrics,
    interceptors.principal(authenticate),
  ];
  const guard = interceptors.operatorsOnly("agentstore.v1.AgentStoreAdmin");
  return [
    ...methodsOf(AgentStoreService, rpcs.store, first),
    ...methodsOf(AgentStoreAdminService, rpcs.admin, [...first, guard]),
  ];
}

function methodsOf<Service extends ServiceDefinition>(
  service: Service,
  rpcs: { [Name in keyof Service]: unknown },
  first: interceptors.Interceptor[],
): Method[] {
  const definitions = Object.entries(service) as [string, MethodDefinition<unknown, unknown>][];
  return definitions.map(([key, definition]) => {
    const rpc = rpcs[key] as AnyRpc;
    const decode = definition.requestDeserialize as unknown as Decode;
    const [, serviceName = "", name = ""] = definition.path.split("/");
    return {
      name,
      service: serviceName,
      path: definition.path,
      definition,
      serialize: (response) =>
        response instanceof Encoded ? response.take() : definition.responseSerialize(response),
      run: interceptors.chain([...first, interceptors.validation(rpc, decode)], (call) =>
        (call as ServedCall).answer(rpc),
      ),
    };
  });
}
