// The interceptor chain: what happens to every call, unary or stream, in this order.
import { randomUUID } from "node:crypto";
import diagnostics from "node:diagnostics_channel";
import { status } from "@grpc/grpc-js";
import type { Logger } from "pino";
import type { Authenticate } from "../auth/tokens.js";
import { fromPostgresError } from "../errors/postgres.js";
import { RpcError } from "../errors/rpc-error.js";
import type { Call } from "./call.js";
import { type Decode, decodeRequest } from "./decode.js";
import { FieldChecks } from "./field-checks.js";
import type { AnyRpc } from "./method.js";

/** A step of the chain: does its part before and after the steps behind it. */
export type Interceptor = (call: Call, next: () => Promise<void>) => Promise<void>;

/** Joins steps, the first one outermost, around the handler. */
export function chain(
  interceptors: Interceptor[],
  handler: (call: Call) => Promise<void>,
): (call: Call) => Promise<void> {
  return interceptors.reduceRight<(call: Call) => Promise<void>>(
    (next, interceptor) => (call) => interceptor(call, () => next(call)),
    handler,
  );
}

/** Takes the caller's x-request-id, if it is of a decent form, as the call's id. */
export const callId: Interceptor = (call, next) => {
  const given = call.metadata.get("x-request-id")[0];
  call.callId =
    typeof given === "string" && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
  return next();
};

/** Writes one line for each call that has ended. */
export function log(logger: Logger): Interceptor {
  return async (call, next) => {
    const start = performance.now();
    // Who called is not known any more when the caller has gone.
    const { peer } = call;
    const line = (code: status) => ({
      call_id: call.callId,
      method: call.method,
      tenant: call.principal.tenant,
      principal: call.principal.name,
      peer,
      code: status[code],
      duration_ms: Math.round((performance.now() - start) * 1000) / 1000,
      request_bytes: call.requestBytes,
      ...call.noted,
    });
    try {
      await next();
      logger.info(line(status.OK), "call");
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      const fields = { ...error.details.metadata, ...line(error.code), reason: error.reason };
      if (error.reason === "INTERNAL") logger.error({ ...fields, err: error.cause }, "call");
      else if (error.code === status.UNAVAILABLE) logger.warn(fields, "call");
      else logger.info(fields, "call");
      throw error;
    }
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
export const metrics: Interceptor = async (call, next) => {
  if (!measurements.hasSubscribers) return next();
  const start = performance.now();
  let code = status.OK;
  try {
    await next();
  } catch (error) {
    code = error instanceof RpcError ? error.code : status.INTERNAL;
    throw error;
  } finally {
    const durationMs = performance.now() - start;
    const measurement: CallMeasurement = { method: call.method, code: status[code], durationMs };
    measurements.publish(measurement);
  }
};

/** Turns whatever was thrown into an RpcError; the unexpected gets an incident id. */
export const errors: Interceptor = async (call, next) => {
  try {
    await next();
  } catch (error) {
    const known = fromPostgresError(error);
    if (known) throw known;
    const incident = randomUUID();
    throw new RpcError(
      "INTERNAL",
      `internal error; tell the operator the incident id ${incident}, which the log has too`,
      { metadata: { incident_id: incident }, cause: error },
    );
  }
};

/** Finds out on whose behalf the call is. */
export function principal(authenticate: Authenticate): Interceptor {
  return (call, next) => {
    call.principal = authenticate(call.metadata);
    return next();
  };
}

/** Lets operators pass alone. */
export function operatorsOnly(service: string): Interceptor {
  return async (call, next) => {
    if (!call.principal.admin) {
      throw new RpcError(
        "PERMISSION_DENIED",
        "the call is an operator's: it takes a token that the server's token file marks with admin",
        { metadata: { service } },
      );
    }
    await next();
  };
}

/** Decodes the request, or each of a stream as it comes, and refuses one that is not valid. */
export function validation(rpc: AnyRpc, decode: Decode): Interceptor {
  return async (call, next) => {
    const read = (bytes: Buffer) => {
      const request = decodeRequest(decode, `${call.method}Request`, bytes);
      const check = new FieldChecks();
      rpc.validate(request, check, call.limits);
      check.throwIfAny();
      return request;
    };
    const { rawRequests } = call;
    call.request = Array.isArray(rawRequests) ? read(rawRequests[0]) : each(rawRequests, read);
    await next();
  };
}

async function* each<T, U>(items: AsyncIterable<T>, turn: (item: T) => U): AsyncGenerator<U> {
  for await (const item of items) yield turn(item);
}
