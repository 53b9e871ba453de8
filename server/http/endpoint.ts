// An RPC as HTTP serves it: by its descriptor, with no code of its own.
import { type DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { present } from "../present.js";
import { registry } from "../rpc/descriptors.js";
import type { Method } from "../rpc/methods.js";

/** One RPC. */
export interface Endpoint {
  method: Method;
  /** What the .proto files say of it. */
  descriptor: DescMethod;
  /** May it be called by GET? */
  hasNoSideEffects: boolean;
}

/** The RPCs by their paths. */
export function endpointsOf(methods: Method[]): Map<string, Endpoint> {
  return new Map(methods.map((method) => [method.path, endpointOf(method)]));
}

function endpointOf(method: Method): Endpoint {
  const service = present(registry.getService(method.service));
  const descriptor = present(service.methods.find(({ name }) => name === method.name));
  const { NO_SIDE_EFFECTS } = MethodOptions_IdempotencyLevel;
  return { method, descriptor, hasNoSideEffects: descriptor.idempotency === NO_SIDE_EFFECTS };
}
