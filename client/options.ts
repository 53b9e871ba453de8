// What the client and its calls accept, and the pages that they return.
import type {
  AgentMessage,
  JsonObject,
  MessageVersion,
  NewMessage,
  NewSnapshotPolicy,
  SessionSnapshot,
  SessionSummary,
  TagCount,
} from "./types.js";

/** Options of a client. Each may be left out. */
export interface AgentStoreClientOptions {
  /**
   * Where the server is: `agentstore://[TOKEN@]HOST[:PORT][?tls=true|false&ca=FILE&timeout=MS]`.
   * The port is 50051 unless given, an IPv6 address stands in brackets, `ca` is a PEM file and
   * means TLS, `timeout` is `timeoutMs`. Default: the environment variable AGENTSTORE_URL, else
   * `agentstore://127.0.0.1:50051`.
   */
  url?: string | undefined;
  /** The bearer token. Default: the one in the url, else the variable AGENTSTORE_TOKEN, else none. */
  token?: string | undefined;
  /**
   * How long a call may take in all, retries included, and how long a stream may stand still, in
   * milliseconds (1 to 2,147,483,647). Default: 30,000.
   */
  timeoutMs?: number | undefined;
  /**
   * How often a call is sent at the most, 1 for no retries. Default: as often as the deadline
   * allows, but no more than 4 times to a server that this client has not reached yet.
   */
  maxAttempts?: number | undefined;
}

/** What every call accepts. */
export interface CallOptions {
  /**
   * How long the call may take in all, retries included, in milliseconds (1 to 2,147,483,647).
   * Default: the client's `timeoutMs`.
   */
  timeoutMs?: number | undefined;
  /** Ends the call with a `CancelledError` when it aborts. */
  signal?: AbortSignal | undefined;
}

/** How a write went, beyond what it returns. */
export interface WriteInfo {
  /** The request_id that the write went under: the caller's, or the one that the client made. */
  requestId: string;
  /**
   * True when the server had seen this request_id before: the answer is the first one's. That is
   * also the case when an earlier attempt of this same call was carried out and only its answer
   * was lost, so look at `attempts` too.
   */
  replayed: boolean;
  /** How often the call was sent, 1 or more. */
  attempts: number;
  /** The etag of the state that an append wrote; absent when it wrote none. */
  stateEtag?: string | undefined;
}

/** What every write accepts. */
export interface WriteOptions extends CallOptions {
  /**
   * Makes the write repeatable: up to 128 characters. The same id with the same request again
   * answers what the first one answered and writes nothing. Default: a new UUID for each call,
   * which all attempts of that call share.
   */
  requestId?: string | undefined;
  /** Called once, before the call returns, with how the write went. */
  onWritten?: ((info: WriteInfo) => void) | undefined;
}

/** What a new session may be given. */
export interface CreateSessionOptions extends WriteOptions {
  /** A title for people, up to 1,000 characters. */
  title?: string | undefined;
  /** Whom the conversation belongs to, up to 256 characters. */
  ownerId?: string | undefined;
  /** Labels: up to 64, each 1 to 128 characters; repeats are dropped. */
  tags?: readonly string[] | undefined;
  /** Anything to keep with the session: up to 256 KiB as JSON, nested up to 32 deep. */
  metadata?: JsonObject | undefined;
  /** When the session may be removed; left out, it is kept. */
  expiresAt?: Date | undefined;
}

/** What to change of a session: a key that is there is changed, `null` clears it. */
export interface SessionChanges {
  /** A title for people, up to 1,000 characters. */
  title?: string | null | undefined;
  /** Whom the conversation belongs to, up to 256 characters. */
  ownerId?: string | null | undefined;
  /** Labels: up to 64, each 1 to 128 characters; repeats are dropped. */
  tags?: readonly string[] | null | undefined;
  /** Anything to keep with the session: up to 256 KiB as JSON, nested up to 32 deep. */
  metadata?: JsonObject | null | undefined;
  /** When the session may be removed. */
  expiresAt?: Date | null | undefined;
  /** When snapshots are taken by themselves; cleared, the model's policy holds. */
  snapshotPolicy?: NewSnapshotPolicy | null | undefined;
}

/** A stretch of time, in whole milliseconds. */
export interface TimeRange {
  /** Its beginning, included. Default: as early as can be. */
  start?: Date | undefined;
  /** Its end, excluded. Default: as late as can be. */
  end?: Date | undefined;
}

/** Chooses sessions: those that meet everything that is given. */
export interface SessionFilter {
  /** Sessions that have all of these tags; up to 16. */
  allTags?: readonly string[] | undefined;
  /** Sessions that have at least one of these tags; up to 64. */
  anyTags?: readonly string[] | undefined;
  /** Sessions of this owner. */
  ownerId?: string | undefined;
  /**
   * Sessions whose metadata contains this: an object contains one with some of its keys, an array
   * one with some of its elements, anything else what equals it. Up to 16 KiB as JSON.
   */
  metadata?: JsonObject | undefined;
  /** Sessions in this state. */
  state?: "active" | "expired" | undefined;
  /** Sessions that were created in this time. */
  created?: TimeRange | undefined;
  /** Sessions whose `lastMessageTime` lies in this time; those without messages have none. */
  lastMessage?: TimeRange | undefined;
}

/** Which page of sessions to list. */
export interface ListSessionsOptions extends CallOptions {
  /** Which of the sessions to list. Default: all. */
  filter?: SessionFilter | undefined;
  /** How many sessions a page has at the most: 1 to 1,000. Default: 100. */
  pageSize?: number | undefined;
  /** The `nextPageToken` of the page before; left out for the first page. */
  pageToken?: string | undefined;
}

/** A page of sessions. */
export interface SessionPage {
  /** By last activity, newest first; those without messages last. */
  sessions: SessionSummary[];
  /** Asks for the page after this one; empty when this is the last. */
  nextPageToken: string;
}

/** How to acquire a lease. */
export interface AcquireLeaseOptions extends WriteOptions {
  /** How long it lasts unless it is renewed, in milliseconds: 1,000 to 3,600,000. Default: 30,000. */
  ttlMs?: bigint | number | undefined;
}

/** How to renew a lease. */
export interface RenewLeaseOptions extends CallOptions {
  /** How long it lasts from now on, in milliseconds: 1,000 to 3,600,000. Default: 30,000. */
  ttlMs?: bigint | number | undefined;
}

/** What a write to a session that the caller has leased accepts. */
export interface FencedOptions extends WriteOptions {
  /**
   * The `fencingToken` of the caller's lease: the write throws a `LeaseLostError` when that is no
   * longer the session's. Left out, the write does not care who holds the lease.
   */
  fencingToken?: bigint | number | undefined;
}

/** How much of a session to load: leading system messages are part of each budget. */
export interface LoadContextOptions extends CallOptions {
  /** How many messages at the most: 1 to 1,000. Default: 100. */
  maxMessages?: number | undefined;
  /**
   * How many characters at the most: Unicode code points of contents and of the names and
   * arguments of tool calls. Default: any number.
   */
  maxCharacters?: bigint | number | undefined;
  /**
   * How many tokens at the most. An assistant message with usage counts as its `outputTokens`, any
   * other as a fourth of its UTF-8 bytes. Default: any number.
   */
  maxTokens?: bigint | number | undefined;
}

/** Which page of tags to list. */
export interface ListTagsOptions extends CallOptions {
  /** How many tags a page has at the most: 1 to 1,000. Default: 100. */
  pageSize?: number | undefined;
  /** The `nextPageToken` of the page before; left out for the first page. */
  pageToken?: string | undefined;
}

/** A page of tags. */
export interface TagPage {
  /** By the tags' code points. */
  tags: TagCount[];
  /** Asks for the page after this one; empty when this is the last. */
  nextPageToken: string;
}

/** A state that an append writes together with its messages. */
export interface StateUpdate {
  /** The whole document: JSON text, up to 4 MiB, kept byte for byte. */
  state: string;
  /**
   * Appends and writes only if the state's etag is this, otherwise throws an `EtagMismatchError`;
   * empty for a session that has no state yet.
   */
  expectedEtag?: string | undefined;
}

/** How to write a state. */
export interface UpdateStateOptions extends WriteOptions {
  /**
   * Writes only if the state's etag is this, otherwise throws an `EtagMismatchError`; empty for a
   * session that has no state yet.
   */
  expectedEtag?: string | undefined;
}

/** What every append accepts. */
export interface AddMessagesOptions extends FencedOptions {
  /**
   * Writes the session's state, too: both are kept, or neither. `onWritten` hears its etag.
   * Default: the state stays as it is.
   */
  state?: StateUpdate | undefined;
  /**
   * Appends only if the session's last_seq is this, otherwise throws a `LastSeqMismatchError`; 0
   * for a session that must be empty. An append whose answer was lost and that is then repeated
   * still succeeds: its request_id goes first.
   */
  expectedLastSeq?: bigint | number | undefined;
}

/**
 * What an append returns of a message: all of it, or only what the server gave it, which spares the
 * way back for contents that the caller has anyway.
 */
export type MessageView = "full" | "keys";

/** What a message may be given beyond its role and content, and what every append accepts. */
export interface AddMessageOptions
  extends AddMessagesOptions,
    Omit<NewMessage, "role" | "content"> {}

/** Which version of a message to read. */
export interface GetMessageOptions extends CallOptions {
  /** The version. Default: the current one. */
  version?: bigint | number | undefined;
  /** Whether to return the message also while it is deleted. Default: false. */
  showDeleted?: boolean | undefined;
}

/** Which messages to read, and in which direction. */
export interface MessageRange {
  /** Only messages with a higher seq. Default: from the first one. */
  afterSeq?: bigint | number | undefined;
  /** Only messages with a lower seq. Default: to the last one. */
  beforeSeq?: bigint | number | undefined;
  /** In which direction to read. Default: `oldest_first`. */
  order?: "oldest_first" | "newest_first" | undefined;
  /** Only the newest so many messages of the range, in the order asked for. Default: all. */
  lastN?: bigint | number | undefined;
  /** Whether deleted messages are returned, and count, too. Default: false. */
  showDeleted?: boolean | undefined;
  /**
   * How many messages a page has at the most: 1 to 1,000. Default: 100. A page of large messages
   * ends early, at about 1 MiB.
   */
  pageSize?: number | undefined;
}

/** Which page of messages to read. */
export interface GetMessagesOptions extends MessageRange, CallOptions {
  /** The `nextPageToken` of the page before, all else unchanged; left out for the first page. */
  pageToken?: string | undefined;
  /** How many messages to skip before the first page, at no more than the cost of a page. */
  offset?: bigint | number | undefined;
}

/** A page of messages. */
export interface MessagePage {
  messages: AgentMessage[];
  /** Asks for the page after this one; empty when this is the last. */
  nextPageToken: string;
}

/** Which messages to stream, and for how long. */
export interface StreamMessagesOptions extends MessageRange, Omit<CallOptions, "timeoutMs"> {
  /** How long the stream may take in all, in milliseconds. Default: as long as it takes. */
  timeoutMs?: number | undefined;
  /**
   * How long the reader waits for a page before it takes the stream for broken and resumes it, in
   * milliseconds. After twice that without a page it gives up. The time that the consumer takes
   * for a page does not count. Default: the client's `timeoutMs`.
   */
  idleTimeoutMs?: number | undefined;
}

/** One page of a stream. */
export interface StreamedPage {
  /** The messages; never empty. */
  messages: AgentMessage[];
  /** The seq of the page's last message: where a reader resumes. */
  lastSeq: bigint;
}

/** What to change of a message: a key that is there is changed, `null` clears it. */
export type MessageChanges = {
  [Key in keyof Omit<NewMessage, "role">]?: NewMessage[Key] | null;
} & { role?: NewMessage["role"] | undefined };

/** What every change to a message, and a roll-back, accepts. */
export interface ChangeOptions extends WriteOptions {
  /**
   * Makes the change only if the `revision` of the message (of the session, for a roll-back) is
   * this, otherwise throws a `RevisionMismatchError`.
   */
  expectedRevision?: bigint | number | undefined;
}

/** Which page of a list to read. */
export interface PageOptions extends CallOptions {
  /** How many entries a page has at the most: 1 to 1,000. Default: 100. */
  pageSize?: number | undefined;
  /** The `nextPageToken` of the page before; left out for the first page. */
  pageToken?: string | undefined;
}

/** A page of a message's versions. */
export interface MessageVersionPage {
  /** Newest first. */
  versions: MessageVersion[];
  /** Asks for the page after this one; empty when this is the last. */
  nextPageToken: string;
}

/** How to fork a session. */
export interface ForkSessionOptions extends WriteOptions {
  /** The last message that the fork has, from 0 for none. Default: all messages. */
  atSeq?: bigint | number | undefined;
}

/** How to take a snapshot. */
export interface CreateSnapshotOptions extends WriteOptions {
  /** A name for people, up to 256 characters. */
  name?: string | undefined;
}

/** A page of a session's snapshots. */
export interface SnapshotPage {
  /** Newest first, without their states. */
  snapshots: SessionSnapshot[];
  /** Asks for the page after this one; empty when this is the last. */
  nextPageToken: string;
}

/** Which messages that could not be embedded to list. */
export interface ListEmbeddingFailuresOptions extends CallOptions {
  /** Only those of this session. */
  conversationId?: bigint | number | undefined;
  /** How many a page has at the most: 1 to 1,000. Default: 100. */
  pageSize?: number | undefined;
  /** The `nextPageToken` of the page before; left out for the first page. */
  pageToken?: string | undefined;
}

/** Which messages that could not be embedded to try again. */
export interface RetryEmbeddingsOptions extends CallOptions {
  /** Only those of this session. */
  conversationId?: bigint | number | undefined;
}
