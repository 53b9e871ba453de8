// The errors that the client's calls throw: one class for each reason that callers act on.

/** The gRPC status codes, by name. */
export type StatusCode =
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

/** What is wrong with one field of a request. */
export interface FieldViolation {
  /** The field by its path in the request, for example `messages[3].content`. */
  field: string;
  /** What is wrong with it. */
  description: string;
}

/** What an error is made of. */
export interface ErrorFacts {
  code: StatusCode;
  reason?: string;
  message: string;
  metadata?: Record<string, string>;
  violations?: FieldViolation[];
  retryDelayMs?: number | undefined;
  callId?: string | undefined;
  requestId?: string | undefined;
  attempts?: number;
  cause?: unknown;
}

/**
 * The base of all errors that calls to the store throw; itself thrown where no subclass fits. Tell
 * errors apart by their class or by `reason`, never by their text.
 */
export class AgentStoreError extends Error {
  static {
    AgentStoreError.prototype.name = "AgentStoreError";
  }
  /** The gRPC status code. */
  readonly code: StatusCode;
  /**
   * Why the call failed: a name of the service's `ErrorReason`, without its prefix, for example
   * `SESSION_NOT_FOUND`. Empty when no AgentStore server said why: the connection failed, or a
   * proxy answered.
   */
  readonly reason: string;
  /** What belongs to the reason, for example `{ conversation_id: "42" }`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields that were not acceptable; empty for most errors. */
  readonly violations: readonly FieldViolation[];
  /** After how many milliseconds the server suggests to repeat the call, when it does. */
  readonly retryDelayMs: number | undefined;
  /** The call's id, which the server's log has too; absent when nothing was sent. */
  readonly callId: string | undefined;
  /** The request_id of a failed write: repeating the call with it is safe. */
  readonly requestId: string | undefined;
  /** How often the call was sent; 0 when it failed before that. */
  readonly attempts: number;

  constructor(facts: ErrorFacts) {
    super(facts.message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = facts.code;
    this.reason = facts.reason ?? "";
    this.metadata = facts.metadata ?? {};
    this.violations = facts.violations ?? [];
    this.retryDelayMs = facts.retryDelayMs;
    this.callId = facts.callId;
    this.requestId = facts.requestId;
    this.attempts = facts.attempts ?? 0;
  }
}

/** A field is missing, out of range or otherwise not acceptable; `violations` names each. */
export class InvalidFieldError extends AgentStoreError {
  static {
    InvalidFieldError.prototype.name = "InvalidFieldError";
  }

  /** The error for one field that the client itself found not acceptable. */
  static of(field: string, description: string): InvalidFieldError {
    return new InvalidFieldError({
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      message: `${field}: ${description}`,
      metadata: { field },
      violations: [{ field, description }],
    });
  }
}

/** A message is larger than the store accepts: shorten it, or store a reference instead. */
export class MessageTooLargeError extends AgentStoreError {
  static {
    MessageTooLargeError.prototype.name = "MessageTooLargeError";
  }

  /** The limit in bytes, encoded. */
  get limitBytes(): bigint | undefined {
    return int64At(this, "limit_bytes");
  }
}

/** The page token was altered, or belongs to another query: start again from the first page. */
export class InvalidPageTokenError extends AgentStoreError {
  static {
    InvalidPageTokenError.prototype.name = "InvalidPageTokenError";
  }
}

/** The request_id was used before for another request: take a new one for each new write. */
export class RequestIdReusedError extends AgentStoreError {
  static {
    RequestIdReusedError.prototype.name = "RequestIdReusedError";
  }
}

/** No such session, or it belongs to another tenant. */
export class SessionNotFoundError extends AgentStoreError {
  static {
    SessionNotFoundError.prototype.name = "SessionNotFoundError";
  }

  /** The id that was asked for. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }
}

/** The session is there, the message is not. */
export class MessageNotFoundError extends AgentStoreError {
  static {
    MessageNotFoundError.prototype.name = "MessageNotFoundError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** The seq that was asked for. */
  get seq(): bigint | undefined {
    return int64At(this, "seq");
  }

  /** The session's highest seq. */
  get lastSeq(): bigint | undefined {
    return int64At(this, "last_seq");
  }
}

/**
 * The session's last_seq is not the expected one: someone else has appended. Read the messages
 * after your own last_seq, decide anew, and append with the current one. Never retried by itself.
 */
export class LastSeqMismatchError extends AgentStoreError {
  static {
    LastSeqMismatchError.prototype.name = "LastSeqMismatchError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** The session's current last_seq. */
  get lastSeq(): bigint | undefined {
    return int64At(this, "last_seq");
  }

  /** The last_seq that the write asked for. */
  get expectedLastSeq(): bigint | undefined {
    return int64At(this, "expected_last_seq");
  }
}

/** Someone else holds the session's lease; `retryDelayMs` is the time until it expires. */
export class LeaseHeldError extends AgentStoreError {
  static {
    LeaseHeldError.prototype.name = "LeaseHeldError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** Who holds the lease, as given to `acquireLease`. */
  get holder(): string | undefined {
    return this.metadata["holder"];
  }

  /** When the lease expires unless it is renewed. */
  get expiresAt(): Date | undefined {
    const time = new Date(this.metadata["expires_at"] ?? "");
    return Number.isNaN(time.getTime()) ? undefined : time;
  }
}

/**
 * The fencing token is not that of the session's lease any more: someone else has acquired it, or
 * it was released. Nothing was written. Stop; to go on later, acquire the lease anew and read what
 * was said meanwhile.
 */
export class LeaseLostError extends AgentStoreError {
  static {
    LeaseLostError.prototype.name = "LeaseLostError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** The token that the call carried. */
  get fencingToken(): bigint | undefined {
    return int64At(this, "fencing_token");
  }

  /** The token of the session's lease; 0 when nobody holds it. */
  get currentFencingToken(): bigint | undefined {
    return int64At(this, "current_fencing_token");
  }
}

/** The leading system messages alone exceed the budget of `loadContext`. */
export class BudgetTooSmallError extends AgentStoreError {
  static {
    BudgetTooSmallError.prototype.name = "BudgetTooSmallError";
  }

  /** What the leading system messages take of it; `violations` names the budget. */
  get needed(): bigint | undefined {
    return int64At(this, "needed");
  }
}

/**
 * The session's state is not the expected one: someone else has written it. Read the state, decide
 * anew, and write with the current etag. Never retried by itself.
 */
export class EtagMismatchError extends AgentStoreError {
  static {
    EtagMismatchError.prototype.name = "EtagMismatchError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** The etag of the present state; empty when there is none. */
  get etag(): string | undefined {
    return this.metadata["etag"];
  }
}

/** The session has not come to the revision that a watch is to go on after. */
export class RevisionAheadError extends AgentStoreError {
  static {
    RevisionAheadError.prototype.name = "RevisionAheadError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** The session's revision. */
  get revision(): bigint | undefined {
    return int64At(this, "revision");
  }
}

/** What a watch is to go on from is not kept any more: watch from the beginning, or from now on. */
export class PositionExpiredError extends AgentStoreError {
  static {
    PositionExpiredError.prototype.name = "PositionExpiredError";
  }
}

/**
 * The revision of a message, or of a session, is not the expected one: someone else has made a
 * change. Read it again, decide anew, and repeat the change. Never retried by itself.
 */
export class RevisionMismatchError extends AgentStoreError {
  static {
    RevisionMismatchError.prototype.name = "RevisionMismatchError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** The message; undefined when it is the session's revision. */
  get seq(): bigint | undefined {
    return int64At(this, "seq");
  }

  /** The current revision. */
  get revision(): bigint | undefined {
    return int64At(this, "revision");
  }

  /** The revision that the write asked for. */
  get expectedRevision(): bigint | undefined {
    return int64At(this, "expected_revision");
  }
}

/** The message is there, the version is not. */
export class VersionNotFoundError extends AgentStoreError {
  static {
    VersionNotFoundError.prototype.name = "VersionNotFoundError";
  }

  /** The version that was asked for. */
  get version(): bigint | undefined {
    return int64At(this, "version");
  }

  /** The message's current version. */
  get lastVersion(): bigint | undefined {
    return int64At(this, "last_version");
  }
}

/** The message was deleted: `undeleteMessage` brings it back, `showDeleted` reads it. */
export class MessageDeletedError extends AgentStoreError {
  static {
    MessageDeletedError.prototype.name = "MessageDeletedError";
  }

  /** The session. */
  get conversationId(): bigint | undefined {
    return int64At(this, "conversation_id");
  }

  /** The message. */
  get seq(): bigint | undefined {
    return int64At(this, "seq");
  }
}

/** The message that was to be brought back is not deleted. */
export class MessageNotDeletedError extends AgentStoreError {
  static {
    MessageNotDeletedError.prototype.name = "MessageNotDeletedError";
  }
}

/** The session is there, the snapshot is not, or it is another session's. */
export class SnapshotNotFoundError extends AgentStoreError {
  static {
    SnapshotNotFoundError.prototype.name = "SnapshotNotFoundError";
  }

  /** The snapshot that was asked for. */
  get snapshotId(): bigint | undefined {
    return int64At(this, "snapshot_id");
  }
}

/** The session has as many snapshots as it may have: remove some with `deleteSnapshot`. */
export class TooManySnapshotsError extends AgentStoreError {
  static {
    TooManySnapshotsError.prototype.name = "TooManySnapshotsError";
  }

  /** How many a session may have. */
  get limit(): bigint | undefined {
    return int64At(this, "limit");
  }
}

/** Postgres gave this write up in favour of another one, again and again. */
export class WriteConflictError extends AgentStoreError {
  static {
    WriteConflictError.prototype.name = "WriteConflictError";
  }
}

/** The model is not registered, and the database does not let the service register it. */
export class ModelNotRegisteredError extends AgentStoreError {
  static {
    ModelNotRegisteredError.prototype.name = "ModelNotRegisteredError";
  }

  /** The model. */
  get modelId(): string | undefined {
    return this.metadata["model_id"];
  }
}

/** The database has a constraint of its own that this write breaks: a matter for the operator. */
export class SchemaConflictError extends AgentStoreError {
  static {
    SchemaConflictError.prototype.name = "SchemaConflictError";
  }
}

/** The call carries no valid credentials: check the token. */
export class UnauthenticatedError extends AgentStoreError {
  static {
    UnauthenticatedError.prototype.name = "UnauthenticatedError";
  }
}

/** The call is an operator's: use a token that the server's token file marks with `admin`. */
export class PermissionDeniedError extends AgentStoreError {
  static {
    PermissionDeniedError.prototype.name = "PermissionDeniedError";
  }
}

/**
 * A line of an import is not what an export writes, or the import ended in the middle of a session.
 * Sessions before that line are imported whole.
 */
export class InvalidImportError extends AgentStoreError {
  static {
    InvalidImportError.prototype.name = "InvalidImportError";
  }

  /** The line, 1 for the first one. */
  get line(): bigint | undefined {
    return int64At(this, "line");
  }

  /** How many sessions of this import were imported before it. */
  get sessions(): bigint | undefined {
    return int64At(this, "sessions");
  }
}

/** The server has as much work as it accepts; the client has already waited and tried again. */
export class OverloadedError extends AgentStoreError {
  static {
    OverloadedError.prototype.name = "OverloadedError";
  }
}

/** The database's disk is full or another of its resources used up: a matter for the operator. */
export class StorageExhaustedError extends AgentStoreError {
  static {
    StorageExhaustedError.prototype.name = "StorageExhaustedError";
  }
}

/**
 * The server, or its database, cannot be reached; the client has already tried again. The outcome
 * of a write is unknown: repeat it with the error's `requestId`.
 */
export class UnavailableError extends AgentStoreError {
  static {
    UnavailableError.prototype.name = "UnavailableError";
  }
}

/**
 * The call's deadline passed. The outcome of a write is unknown: repeat it with the error's
 * `requestId`.
 */
export class DeadlineExceededError extends AgentStoreError {
  static {
    DeadlineExceededError.prototype.name = "DeadlineExceededError";
  }
}

/**
 * The call's signal aborted, or the client was closed under it. The outcome of a write is unknown.
 * Its `name` is `AbortError`, as of every aborted operation; `cause` is the signal's reason.
 */
export class CancelledError extends AgentStoreError {
  static {
    CancelledError.prototype.name = "AbortError";
  }
}

/** A defect of the service: report the `incidentId`, which its log has too, to the operator. */
export class InternalError extends AgentStoreError {
  static {
    InternalError.prototype.name = "InternalError";
  }

  /** What to look for in the server's log. */
  get incidentId(): string | undefined {
    return this.metadata["incident_id"];
  }
}

/** A 64-bit number of an error's metadata; undefined when it is not there. */
function int64At(error: AgentStoreError, key: string): bigint | undefined {
  const text = error.metadata[key];
  return text !== undefined && /^-?\d{1,19}$/.test(text) ? BigInt(text) : undefined;
}
