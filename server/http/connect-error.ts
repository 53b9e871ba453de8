// Errors as the Connect protocol tells them: a JSON object, and an HTTP status for each code.
import { status } from "@grpc/grpc-js";
import type { RpcError } from "../errors/rpc-error.js";
import { errorDetails } from "../errors/status.js";
import { registry } from "../rpc/descriptors.js";
import { messageToJson } from "./json.js";

/** An error in the form that callers get. */
export interface ConnectError {
  code: string;
  message: string;
  details?: { type: string; value: string; debug: unknown }[];
}

const HTTP_STATUS: Record<status, number> = {
  [status.OK]: 200,
  [status.CANCELLED]: 499,
  [status.UNKNOWN]: 500,
  [status.INVALID_ARGUMENT]: 400,
  [status.DEADLINE_EXCEEDED]: 504,
  [status.NOT_FOUND]: 404,
  [status.ALREADY_EXISTS]: 409,
  [status.PERMISSION_DENIED]: 403,
  [status.RESOURCE_EXHAUSTED]: 429,
  [status.FAILED_PRECONDITION]: 400,
  [status.ABORTED]: 409,
  [status.OUT_OF_RANGE]: 400,
  [status.UNIMPLEMENTED]: 501,
  [status.INTERNAL]: 500,
  [status.UNAVAILABLE]: 503,
  [status.DATA_LOSS]: 500,
  [status.UNAUTHENTICATED]: 401,
};

/** The HTTP status of an error. */
export function httpStatus(error: RpcError): number {
  return HTTP_STATUS[error.code];
}

/** An error with the details that it has over gRPC. */
export function connectError(error: RpcError): ConnectError {
  return {
    code: codeName(error.code),
    message: error.message,
    details: errorDetails(error).map(({ type, value }) => {
      const schema = registry.getMessage(type);
      return {
        type,
        value: value.toString("base64").replace(/=+$/, ""),
        debug: schema && (JSON.parse(messageToJson(schema, value)) as unknown),
      };
    }),
  };
}

function codeName(code: status): string {
  return code === status.CANCELLED ? "canceled" : status[code].toLowerCase();
}
