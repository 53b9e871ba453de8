// The one error type that handlers throw and callers see.
import { status } from "@grpc/grpc-js";
import type { ErrorReason } from "../../gen/agentstore/v1/errors.js";

/** The name of a reason, as ErrorInfo carries it. */
export type ReasonName = Exclude<keyof typeof ErrorReason, "UNSPECIFIED" | "UNRECOGNIZED">;

/** The gRPC code of each reason, as errors.proto documents it. */
export const reasonCodes: Record<ReasonName, status> = {
  INVALID_FIELD: status.INVALID_ARGUMENT,
  MALFORMED_REQUEST: status.INVALID_ARGUMENT,
  INVALID_UTF8: status.INVALID_ARGUMENT,
  MESSAGE_TOO_LARGE: status.INVALID_ARGUMENT,
  INVALID_PAGE_TOKEN: status.INVALID_ARGUMENT,
  REQUEST_ID_REUSED: status.INVALID_ARGUMENT,
  SESSION_NOT_FOUND: status.NOT_FOUND,
  MESSAGE_NOT_FOUND: status.NOT_FOUND,
  LAST_SEQ_MISMATCH: status.ABORTED,
  WRITE_CONFLICT: status.ABORTED,
  MODEL_NOT_REGISTERED: status.FAILED_PRECONDITION,
  SCHEMA_CONFLICT: status.FAILED_PRECONDITION,
  UNAUTHENTICATED: status.UNAUTHENTICATED,
  OVERLOADED: status.RESOURCE_EXHAUSTED,
  STORAGE_EXHAUSTED: status.RESOURCE_EXHAUSTED,
  DATABASE_UNAVAILABLE: status.UNAVAILABLE,
  SHUTTING_DOWN: status.UNAVAILABLE,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  CANCELLED: status.CANCELLED,
  INTERNAL: status.INTERNAL,
  LEASE_HELD: status.FAILED_PRECONDITION,
  LEASE_LOST: status.FAILED_PRECONDITION,
  BUDGET_TOO_SMALL: status.INVALID_ARGUMENT,
  REVISION_MISMATCH: status.ABORTED,
  VERSION_NOT_FOUND: status.NOT_FOUND,
  MESSAGE_DELETED: status.NOT_FOUND,
  MESSAGE_NOT_DELETED: status.FAILED_PRECONDITION,
  SNAPSHOT_NOT_FOUND: status.NOT_FOUND,
  TOO_MANY_SNAPSHOTS: status.FAILED_PRECONDITION,
  PERMISSION_DENIED: status.PERMISSION_DENIED,
  INVALID_IMPORT: status.INVALID_ARGUMENT,
  ETAG_MISMATCH: status.ABORTED,
  EMBEDDINGS_NOT_CONFIGURED: status.FAILED_PRECONDITION,
  EMBEDDINGS_UNAVAILABLE: status.UNAVAILABLE,
  VECTOR_INDEX_REQUIRED: status.FAILED_PRECONDITION,
  REVISION_AHEAD: status.OUT_OF_RANGE,
  POSITION_EXPIRED: status.OUT_OF_RANGE,
};

/** A field that a request got wrong. */
export interface FieldViolation {
  /** Path of the field in the request, for example `messages[2].role`. */
  field: string;
  /** What is wrong with it and what would be right. Never holds the value. */
  description: string;
}

/** What an error carries besides its reason and text. */
export interface RpcErrorDetails {
  /** ErrorInfo's metadata. */
  metadata?: Record<string, string>;
  /** BadRequest's violations. */
  violations?: FieldViolation[];
  /** RetryInfo's delay in milliseconds; absent when a repeat would not help. */
  retryAfterMs?: number;
  /** What it came from; logged for INTERNAL, never shown to callers. */
  cause?: unknown;
}

/** A failure that a caller is told about. */
export class RpcError extends Error {
  readonly code: status;

  constructor(
    readonly reason: ReasonName,
    message: string,
    readonly details: RpcErrorDetails = {},
  ) {
    super(message, { cause: details.cause });
    this.name = "RpcError";
    this.code = reasonCodes[reason];
  }
}

/** Says that one field is wrong, under any of the INVALID_ARGUMENT reasons. */
export function fieldError(
  reason: ReasonName,
  field: string,
  description: string,
  metadata: Record<string, string> = {},
): RpcError {
  return new RpcError(reason, `${field}: ${description}`, {
    metadata: { field, ...metadata },
    violations: [{ field, description }],
  });
}

/** Says that a session is not there, or not the caller's. */
export function sessionNotFound(conversationId: bigint): RpcError {
  return new RpcError("SESSION_NOT_FOUND", `session ${conversationId} does not exist`, {
    metadata: { conversation_id: String(conversationId) },
  });
}

/** Says that the database is away. */
export function databaseUnavailable(cause?: unknown): RpcError {
  return new RpcError(
    "DATABASE_UNAVAILABLE",
    "the database cannot be reached; repeat the call with the same request_id",
    { retryAfterMs: 250, cause },
  );
}

/** Says that another write came first. */
export function writeConflict(cause?: unknown): RpcError {
  return new RpcError("WRITE_CONFLICT", "another write came first; repeat the call", {
    retryAfterMs: 20,
    cause,
  });
}

/** Says that the server is going away. */
export function shuttingDown(): RpcError {
  return new RpcError(
    "SHUTTING_DOWN",
    "the server is shutting down; repeat the call, or resume the stream after its last page",
    { retryAfterMs: 500 },
  );
}

/** Says that the call's time is over. */
export function tooLong(cause?: unknown): RpcError {
  return new RpcError(
    "DEADLINE_EXCEEDED",
    "the call took too long; repeat it with the same request_id and a longer deadline",
    { cause },
  );
}
