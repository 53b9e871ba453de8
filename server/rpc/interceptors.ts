// The interceptor chain: what happens to every call, unary or stream, in this order.
import { randomUUID } from "node:crypto";
import diagnostics from "node:diagnostics_channel";
import { status } from "@grpc/grpc-js";
import type { Logger } from "pino";
import type { Authenticate } from "../auth/tokens.js";
import { fromPostgresError } from "../errors/postgres.js";
import { RpcError } from "../errors/rpc-error.js";
import { infoWriter } from "../log.js";
import type { Call } from "./call.js";
import { type Decode, decodeRequest } from "./decode.js";
import { FieldChecks } from "./field-checks.js";
import type { AnyRpc } from "./method.js";

/**
 * A step of the chain. Steps wait for nothing, so that a call has one promise and not one for each
 * of them.
 */
export interface Interceptor {
  /** Before the handler, in the order of the steps. What it throws fails the call. */
  before?(call: Call): void;
  /**
   * When the call has ended, in the opposite order. Runs however far the call came.
   *
   * @param failure what the caller is about to hear; undefined when all went well
   */
  after?(call: Call, failure: RpcError | undefined): void;
}

/**
 * Joins steps, the first one outermost, around the handler.
 *
 * @returns runs a call; resolves to what failed it, if anything did
 */
export function chain(
  interceptors: Interceptor[],
  handler: (call: Call) => Promise<void>,
): (call: Call) => Promise<RpcError | undefined> {
  const before = interceptors.flatMap((step) => step.before?.bind(step) ?? []);
  const after = interceptors.flatMap((step) => step.after?.bind(step) ?? []).reverse();
  return async (call) => {
    let failure: RpcError | undefined;
    try {
      for (const step of before) step(call);
      await handler(call);
    } catch (error) {
      failure = toRpcError(error);
    }
    for (const step of after) step(call, failure);
    return failure;
  };
}

/** Takes the caller's x-request-id, if it is of a decent form, as the call's id. */
export const callId: Interceptor = {
  before(call) {
    const given = call.header("x-request-id");
    call.callId = given !== undefined && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
  },
};

/** Writes one line for each call that has ended. */
export function log(logger: Logger): Interceptor {
  const info = infoWriter(logger);
  return {
    after(call, failure) {
      const line = {
        call_id: call.callId,
        method: call.method,
        tenant: call.principal.tenant,
        principal: call.principal.name,
        peer: call.peer,
        code: status[failure?.code ?? status.OK],
        duration_ms: Math.round((performance.now() - call.startedMs) * 1000) / 1000,
        request_bytes: call.requestBytes,
        ...call.noted,
      };
      if (!failure) {
        info(line, "call");
        return;
      }
      // Who holds a lease is a text of the caller's own.
      const { holder: _, ...metadata } = failure.details.metadata ?? {};
      const fields = { ...metadata, ...line, reason: failure.reason };
      if (failure.reason === "INTERNAL") {
        logger.error({ ...fields, err: failure.details.cause }, "call");
      } else if (failure.code === status.UNAVAILABLE) logger.warn(fields, "call");
      else logger.info(fields, "call");
    },
  };
}

/** What subscribers of the channel `agentstore.call` receive. */
export interface CallMeasurement {
  method: string;
  code: string;
  durationMs: number;
}

const measurements = diagnostics.channel("agentstore.call");

/** Publishes a measurement of each call for whoever subscribes. */
export const metrics: Interceptor = {
  after(call, failure) {
    if (!measurements.hasSubscribers) return;
    const code = status[failure?.code ?? status.OK];
    const durationMs = performance.now() - call.startedMs;
    const measurement: CallMeasurement = { method: call.method, code, durationMs };
    measurements.publish(measurement);
  },
};

/** Finds out on whose behalf the call is. */
export function principal(authenticate: Authenticate): Interceptor {
  return {
    before(call) {
      call.principal = authenticate(call.header("authorization"));
    },
  };
}

/** Lets operators pass alone. */
export function operatorsOnly(service: string): Interceptor {
  return {
    before(call) {
      if (call.principal.admin) return;
      throw new RpcError(
        "PERMISSION_DENIED",
        "the call is an operator's: it takes a token that the server's token file marks with admin",
        { metadata: { service } },
      );
    },
  };
}

/** Decodes the request, or each of a stream as it comes, and refuses one that is not valid. */
export function validation(rpc: AnyRpc, decode: Decode): Interceptor {
  const read = (call: Call, bytes: Buffer) => {
    const request = decodeRequest(decode, `${call.method}Request`, bytes);
    const check = new FieldChecks();
    rpc.validate(request, check, call.limits);
    check.throwIfAny();
    return request;
  };
  return {
    before(call) {
      const { rawRequests } = call;
      call.request = Array.isArray(rawRequests)
        ? read(call, rawRequests[0])
        : each(rawRequests, (bytes) => read(call, bytes));
    },
  };
}

async function* each<T, U>(items: AsyncIterable<T>, turn: (item: T) => U): AsyncGenerator<U> {
  for await (const item of items) yield turn(item);
}

// Turns whatever was thrown into an RpcError; the unexpected gets an incident id.
function toRpcError(error: unknown): RpcError {
  const known = fromPostgresError(error);
  if (known) return known;
  const incident = randomUUID();
  return new RpcError(
    "INTERNAL",
    `internal error; tell the operator the incident id ${incident}, which the log has too`,
    { metadata: { incident_id: incident }, cause: error },
  );
}
