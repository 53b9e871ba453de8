// Turns an RpcError into what grpc-js sends: code, text and grpc-status-details-bin.
import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "../../gen/google/rpc/error_details.js";
import { Status } from "../../gen/google/rpc/status.js";
import type { RpcError } from "./rpc-error.js";

const DOMAIN = "agentstore";

/** A message of google.rpc that says more about an error. */
export interface ErrorDetail {
  /** Its full name, for example `google.rpc.ErrorInfo`. */
  type: string;
  value: Buffer;
}

/** An error's ErrorInfo, BadRequest and RetryInfo. */
export function errorDetails(error: RpcError): ErrorDetail[] {
  const { metadata = {}, violations = [], retryAfterMs } = error.details;
  const details = [
    detail(
      "google.rpc.ErrorInfo",
      ErrorInfo.encode({ reason: error.reason, domain: DOMAIN, metadata }).finish(),
    ),
  ];
  if (violations.length > 0) {
    const fieldViolations = violations.map(({ field, description }) => ({ field, description }));
    details.push(
      detail(
        "google.rpc.BadRequest",
        BadRequest.encode(BadRequest.fromPartial({ fieldViolations })).finish(),
      ),
    );
  }
  if (retryAfterMs !== undefined) {
    const retryDelay = {
      seconds: BigInt(Math.floor(retryAfterMs / 1000)),
      nanos: (retryAfterMs % 1000) * 1_000_000,
    };
    details.push(detail("google.rpc.RetryInfo", RetryInfo.encode({ retryDelay }).finish()));
  }
  return details;
}

/** Packs an error with its details. */
export function toServiceError(error: RpcError): ServiceError {
  const details = errorDetails(error).map(({ type, value }) => ({
    typeUrl: `type.googleapis.com/${type}`,
    value,
  }));
  const trailers = new Metadata();
  const packed = Status.encode({ code: error.code, message: error.message, details }).finish();
  trailers.set("grpc-status-details-bin", Buffer.from(packed));
  return Object.assign(new Error(error.message), {
    code: error.code,
    details: error.message,
    metadata: trailers,
  });
}

function detail(type: string, value: Uint8Array): ErrorDetail {
  return { type, value: Buffer.from(value) };
}
