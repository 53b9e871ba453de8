// Turns the status that a gRPC call ended with into one of the client's errors.
import { status as grpcStatus, Metadata } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";
import type { AgentStoreError, ErrorFacts, StatusCode } from "./errors.js";
import * as errors from "./errors.js";

type ErrorClass = new (facts: ErrorFacts) => AgentStoreError;

const BY_REASON = new Map<string, ErrorClass>([
  ["INVALID_FIELD", errors.InvalidFieldError],
  ["INVALID_UTF8", errors.InvalidFieldError],
  ["MESSAGE_TOO_LARGE", errors.MessageTooLargeError],
  ["INVALID_PAGE_TOKEN", errors.InvalidPageTokenError],
  ["REQUEST_ID_REUSED", errors.RequestIdReusedError],
  ["SESSION_NOT_FOUND", errors.SessionNotFoundError],
  ["MESSAGE_NOT_FOUND", errors.MessageNotFoundError],
  ["LAST_SEQ_MISMATCH", errors.LastSeqMismatchError],
  ["ETAG_MISMATCH", errors.EtagMismatchError],
  ["REVISION_AHEAD", errors.RevisionAheadError],
  ["POSITION_EXPIRED", errors.PositionExpiredError],
  ["WRITE_CONFLICT", errors.WriteConflictError],
  ["LEASE_HELD", errors.LeaseHeldError],
  ["LEASE_LOST", errors.LeaseLostError],
  ["BUDGET_TOO_SMALL", errors.BudgetTooSmallError],
  ["MODEL_NOT_REGISTERED", errors.ModelNotRegisteredError],
  ["SCHEMA_CONFLICT", errors.SchemaConflictError],
  ["UNAUTHENTICATED", errors.UnauthenticatedError],
  ["PERMISSION_DENIED", errors.PermissionDeniedError],
  ["INVALID_IMPORT", errors.InvalidImportError],
  ["OVERLOADED", errors.OverloadedError],
  ["STORAGE_EXHAUSTED", errors.StorageExhaustedError],
  ["DATABASE_UNAVAILABLE", errors.UnavailableError],
  ["SHUTTING_DOWN", errors.UnavailableError],
  ["DEADLINE_EXCEEDED", errors.DeadlineExceededError],
  ["CANCELLED", errors.CancelledError],
  ["INTERNAL", errors.InternalError],
  ["REVISION_MISMATCH", errors.RevisionMismatchError],
  ["VERSION_NOT_FOUND", errors.VersionNotFoundError],
  ["MESSAGE_DELETED", errors.MessageDeletedError],
  ["MESSAGE_NOT_DELETED", errors.MessageNotDeletedError],
  ["SNAPSHOT_NOT_FOUND", errors.SnapshotNotFoundError],
  ["TOO_MANY_SNAPSHOTS", errors.TooManySnapshotsError],
]);

/** For statuses without a reason that this client knows, where the code alone says enough. */
const BY_CODE = new Map<StatusCode, ErrorClass>([
  ["UNAVAILABLE", errors.UnavailableError],
  ["DEADLINE_EXCEEDED", errors.DeadlineExceededError],
  ["UNAUTHENTICATED", errors.UnauthenticatedError],
  ["CANCELLED", errors.CancelledError],
  ["INTERNAL", errors.InternalError],
]);

/** What a gRPC call ended with, as grpc-js hands it over. */
export interface EndStatus {
  code: grpcStatus;
  details: string;
  metadata: Metadata;
}

/** What the client knows about the call that failed. */
export type CallFacts = Pick<ErrorFacts, "callId" | "requestId" | "attempts" | "cause">;

/** Whether an error that grpc-js emitted is a status. */
export function isEndStatus(error: unknown): error is EndStatus {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "number" &&
    "metadata" in error &&
    error.metadata instanceof Metadata
  );
}

/**
 * Makes the error for a status. Reason, field violations and retry delay come from the
 * `grpc-status-details-bin` trailer; without it (a proxy in between, a broken connection) the code
 * and the text have to do.
 */
export function errorFromStatus(status: EndStatus, call: CallFacts): AgentStoreError {
  const facts: ErrorFacts = {
    code: (grpcStatus[status.code] ?? "UNKNOWN") as StatusCode,
    message: status.details,
    ...detailsOf(status.metadata),
    ...call,
  };
  const Class =
    BY_REASON.get(facts.reason ?? "") ?? BY_CODE.get(facts.code) ?? errors.AgentStoreError;
  return new Class(facts);
}

function detailsOf(metadata: Metadata): Partial<ErrorFacts> {
  const bytes = metadata.get("grpc-status-details-bin")[0];
  const facts: Partial<ErrorFacts> = {};
  if (!Buffer.isBuffer(bytes)) return facts;
  try {
    for (const detail of Status.decode(bytes).details) {
      switch (detail.typeUrl.slice(detail.typeUrl.lastIndexOf("/") + 1)) {
        case "google.rpc.ErrorInfo": {
          const info = ErrorInfo.decode(detail.value);
          if (info.domain !== "agentstore") break;
          facts.reason = info.reason;
          facts.metadata = info.metadata;
          break;
        }
        case "google.rpc.BadRequest":
          facts.violations = BadRequest.decode(detail.value).fieldViolations.map(
            ({ field, description }) => ({ field, description }),
          );
          break;
        case "google.rpc.RetryInfo": {
          const delay = RetryInfo.decode(detail.value).retryDelay;
          if (delay !== undefined) {
            facts.retryDelayMs = Math.max(0, Number(delay.seconds) * 1000 + delay.nanos / 1e6);
          }
          break;
        }
      }
    }
  } catch {
    // Bytes that are no google.rpc.Status come from something in between: the code has to do.
  }
  return facts;
}
