// The client: one class with a method per call, each of which stands in the file of its topic.

import * as audit from "./audit.js";
import type {
  AuditEvent,
  AuditEventPage,
  AuditVerification,
  ListAuditEventsOptions,
  VerifyAuditOptions,
} from "./audit-types.js";
import { Connection } from "./connection.js";
import { settle } from "./connection-string.js";
import * as context from "./context.js";
import * as embeddings from "./embeddings.js";
import * as leases from "./leases.js";
import * as messages from "./messages.js";
import type {
  EmbeddingFailurePage,
  ErasureReceipt,
  ModelPolicy,
  ModelPolicyChanges,
  SearchStatus,
} from "./operator-types.js";
import type {
  AcquireLeaseOptions,
  AddMessageOptions,
  AddMessagesOptions,
  AgentStoreClientOptions,
  CallOptions,
  ChangeOptions,
  CreateSessionOptions,
  CreateSnapshotOptions,
  FencedOptions,
  ForkSessionOptions,
  GetMessageOptions,
  GetMessagesOptions,
  ListEmbeddingFailuresOptions,
  ListSessionsOptions,
  ListTagsOptions,
  LoadContextOptions,
  MessageChanges,
  MessagePage,
  MessageVersionPage,
  MessageView,
  PageOptions,
  RenewLeaseOptions,
  RetryEmbeddingsOptions,
  SessionChanges,
  SessionPage,
  SnapshotPage,
  StreamedPage,
  StreamMessagesOptions,
  TagPage,
  UpdateStateOptions,
  WriteOptions,
} from "./options.js";
import * as policies from "./policies.js";
import * as search from "./search.js";
import type { SearchMessagesOptions, SearchPage, SearchResult } from "./search-types.js";
import * as sessions from "./sessions.js";
import * as snapshots from "./snapshots.js";
import * as state from "./state.js";
import { streamPages } from "./stream.js";
import { exportSessions, importSessions } from "./transfer.js";
import type {
  ExportedPiece,
  ExportFormat,
  ExportSessionsOptions,
  ImportSessionsOptions,
  ImportSummary,
} from "./transfer-types.js";
import type {
  AgentMessage,
  AgentSession,
  AgentState,
  Lease,
  MessageKeys,
  MessageVersion,
  NewMessage,
  Role,
  SessionContext,
  SessionSnapshot,
  SessionStats,
  SessionSummary,
  TagCount,
} from "./types.js";
import * as versions from "./versions.js";

/**
 * A client of one AgentStore server. Make one and share it: it holds one connection, over which
 * any number of calls go at once, and which comes back by itself after the server was away.
 *
 * ```ts
 * const store = new AgentStoreClient("agentstore://127.0.0.1:50051");
 * const session = await store.createSession("gpt-4");
 * await store.addMessage(session.id, "user", "Hello");
 * for await (const message of store.streamMessages(session.id)) console.log(message.content);
 * ```
 *
 * Session ids and seqs are bigint; numbers are taken where they are safe integers.
 *
 * Every call has a deadline over all its attempts (`timeoutMs`), takes an AbortSignal (`signal`),
 * and is repeated, with growing pauses, while the server cannot be reached, is overloaded or lost
 * the call: that is safe, because every write carries a request_id. What a call can throw besides
 * the errors that it names: `InvalidFieldError`, `UnauthenticatedError`, `UnavailableError`,
 * `OverloadedError`, `DeadlineExceededError`, `CancelledError`, `InternalError`; all of them are
 * `AgentStoreError`s. Options that no server could accept, such as a negative timeout, throw a
 * TypeError.
 */
export class AgentStoreClient {
  readonly #connection: Connection;

  /**
   * Makes a client. It connects at the first call.
   *
   * @param options the connection string, or options
   * @throws TypeError when the connection string or an option is malformed, the certificate
   *   authority cannot be read, or a token would travel in clear to another machine
   */
  constructor(options: string | AgentStoreClientOptions = {}) {
    const given = typeof options === "string" ? { url: options } : options;
    this.#connection = new Connection(settle(given, process.env));
  }

  /** The server that this client talks to, as `HOST:PORT`. */
  get address(): string {
    return this.#connection.address;
  }

  /**
   * Waits until the server is reached, for `timeoutMs` at the most.
   *
   * @throws UnavailableError when it is not reached in time
   */
  async waitForReady(options: CallOptions = {}): Promise<void> {
    await this.#connection.waitForReady(options);
  }

  /** Ends the connection. Calls and streams under way throw a `CancelledError`. */
  close(): void {
    this.#connection.close();
  }

  /** Closes the client at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /**
   * Creates an empty session.
   *
   * @param modelId the model that the session talks to, 1 to 256 characters; registered if new
   * @throws ModelNotRegisteredError when the database does not let the service register the model
   * @throws RequestIdReusedError
   */
  async createSession(modelId: string, options: CreateSessionOptions = {}): Promise<AgentSession> {
    return sessions.createSession(this.#connection, modelId, options);
  }

  /**
   * Returns a session.
   *
   * @throws SessionNotFoundError
   */
  async getSession(id: bigint | number, options: CallOptions = {}): Promise<AgentSession> {
    return sessions.getSession(this.#connection, id, options);
  }

  /**
   * Changes a session: the keys that are in `changes` and not undefined; `null` clears.
   *
   * @returns the session after the change
   * @throws SessionNotFoundError
   * @throws RequestIdReusedError
   */
  async updateSession(
    id: bigint | number,
    changes: SessionChanges,
    options: WriteOptions = {},
  ): Promise<AgentSession> {
    return sessions.updateSession(this.#connection, id, changes, options);
  }

  /**
   * Returns one page of a model's sessions that a filter chooses, by last activity, newest first.
   *
   * @param modelId the model; empty for the sessions of all models
   * @throws InvalidPageTokenError
   */
  async listSessions(modelId: string, options: ListSessionsOptions = {}): Promise<SessionPage> {
    return sessions.listSessions(this.#connection, modelId, options);
  }

  /** Iterates over all of a model's sessions, a page at a time; otherwise as `listSessions`. */
  iterateSessionPages(
    modelId: string,
    options: ListSessionsOptions = {},
  ): AsyncGenerator<SessionPage, void, undefined> {
    return sessions.iterateSessionPages(this.#connection, modelId, options);
  }

  /** Iterates over all of a model's sessions; otherwise as `listSessions`. */
  async *iterateSessions(
    modelId: string,
    options: ListSessionsOptions = {},
  ): AsyncGenerator<SessionSummary, void, undefined> {
    for await (const page of this.iterateSessionPages(modelId, options)) yield* page.sessions;
  }

  /** Returns one page of the tags that sessions have, with how many have each. */
  async listTags(options: ListTagsOptions = {}): Promise<TagPage> {
    return sessions.listTags(this.#connection, options);
  }

  /** Iterates over all tags, a page at a time; otherwise as `listTags`. */
  async *iterateTags(options: ListTagsOptions = {}): AsyncGenerator<TagCount, void, undefined> {
    for await (const page of sessions.iterateTagPages(this.#connection, options)) yield* page.tags;
  }

  /**
   * Returns the JSON document that an agent keeps with a session; an empty `state` and `etag` while
   * there is none.
   *
   * @throws SessionNotFoundError
   */
  async getState(id: bigint | number, options: CallOptions = {}): Promise<AgentState> {
    return state.getState(this.#connection, id, options);
  }

  /**
   * Replaces the JSON document that an agent keeps with a session. `addMessage` and `addMessages`
   * can do so together with their messages.
   *
   * @param document JSON text, up to 4 MiB, kept byte for byte
   * @returns the state after the change
   * @throws SessionNotFoundError
   * @throws EtagMismatchError when the state's etag is not `expectedEtag`
   * @throws RequestIdReusedError
   */
  async updateState(
    id: bigint | number,
    document: string,
    options: UpdateStateOptions = {},
  ): Promise<AgentState> {
    return state.updateState(this.#connection, id, document, options);
  }

  /**
   * Removes a session and all its messages for good.
   *
   * @returns whether the session was there
   * @throws RequestIdReusedError
   * @throws SchemaConflictError when a table of the operator's own still refers to the session
   */
  async deleteSession(id: bigint | number, options: WriteOptions = {}): Promise<boolean> {
    return sessions.deleteSession(this.#connection, id, options);
  }

  /**
   * Returns the counts and sums of a session, at the same cost however long it is.
   *
   * @throws SessionNotFoundError
   */
  async getSessionStats(id: bigint | number, options: CallOptions = {}): Promise<SessionStats> {
    return sessions.getSessionStats(this.#connection, id, options);
  }

  /**
   * Appends one message to a session. When this returns, the message is durable and in order.
   *
   * @param content the text; may be empty and hold any text, U+0000 included
   * @returns the message as it is stored; with the view `keys`, only what the server gave it
   * @throws SessionNotFoundError
   * @throws LastSeqMismatchError when the session's last_seq is not `expectedLastSeq`
   * @throws EtagMismatchError when the state's etag is not `state.expectedEtag`
   * @throws MessageTooLargeError
   * @throws RequestIdReusedError
   */
  async addMessage(
    id: bigint | number,
    role: Role,
    content: string,
    options?: AddMessageOptions & { view?: "full" | undefined },
  ): Promise<AgentMessage>;
  async addMessage(
    id: bigint | number,
    role: Role,
    content: string,
    options: AddMessageOptions & { view: "keys" },
  ): Promise<MessageKeys>;
  async addMessage(
    id: bigint | number,
    role: Role,
    content: string,
    options?: AddMessageOptions & { view?: MessageView | undefined },
  ): Promise<AgentMessage | MessageKeys>;
  async addMessage(
    id: bigint | number,
    role: Role,
    content: string,
    options: AddMessageOptions & { view?: MessageView | undefined } = {},
  ): Promise<AgentMessage | MessageKeys> {
    return messages.addMessage(this.#connection, id, role, content, options);
  }

  /**
   * Appends 1 to 1,000 messages to a session: all of them, in order and with consecutive seqs, or
   * none.
   *
   * @returns the messages as they are stored; with the view `keys`, only what the server gave them
   * @throws SessionNotFoundError
   * @throws LastSeqMismatchError when the session's last_seq is not `expectedLastSeq`
   * @throws EtagMismatchError when the state's etag is not `state.expectedEtag`
   * @throws MessageTooLargeError
   * @throws RequestIdReusedError
   */
  async addMessages(
    id: bigint | number,
    newMessages: readonly NewMessage[],
    options?: AddMessagesOptions & { view?: "full" | undefined },
  ): Promise<AgentMessage[]>;
  async addMessages(
    id: bigint | number,
    newMessages: readonly NewMessage[],
    options: AddMessagesOptions & { view: "keys" },
  ): Promise<MessageKeys[]>;
  async addMessages(
    id: bigint | number,
    newMessages: readonly NewMessage[],
    options?: AddMessagesOptions & { view?: MessageView | undefined },
  ): Promise<AgentMessage[] | MessageKeys[]>;
  async addMessages(
    id: bigint | number,
    newMessages: readonly NewMessage[],
    options: AddMessagesOptions & { view?: MessageView | undefined } = {},
  ): Promise<AgentMessage[] | MessageKeys[]> {
    return messages.addMessages(this.#connection, id, newMessages, options);
  }

  /**
   * Returns one message, or one of its versions.
   *
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError
   * @throws MessageDeletedError unless `showDeleted`
   * @throws VersionNotFoundError
   */
  async getMessage(
    id: bigint | number,
    seq: bigint | number,
    options: GetMessageOptions = {},
  ): Promise<AgentMessage> {
    return messages.getMessage(this.#connection, id, seq, options);
  }

  /**
   * Returns one page of a session's messages, oldest first unless asked otherwise.
   *
   * @throws SessionNotFoundError
   * @throws InvalidPageTokenError
   */
  async getMessages(id: bigint | number, options: GetMessagesOptions = {}): Promise<MessagePage> {
    return messages.getMessages(this.#connection, id, options);
  }

  /** Iterates over a session's messages with a call per page; otherwise as `getMessages`. */
  iterateMessagePages(
    id: bigint | number,
    options: GetMessagesOptions = {},
  ): AsyncGenerator<MessagePage, void, undefined> {
    return messages.iterateMessagePages(this.#connection, id, options);
  }

  /**
   * Iterates over a session's messages with a call per page; otherwise as `getMessages`.
   * `streamMessages` is faster, this one passes through proxies that do not stream.
   */
  async *iterateMessages(
    id: bigint | number,
    options: GetMessagesOptions = {},
  ): AsyncGenerator<AgentMessage, void, undefined> {
    for await (const page of this.iterateMessagePages(id, options)) yield* page.messages;
  }

  /**
   * Streams a session's messages in order, over one call, however many there are. It ends with the
   * message that was the last one when it began; a stream that broke on the way resumes by itself
   * behind the last page, and then also brings what was appended meanwhile.
   *
   * @throws SessionNotFoundError when read, as are all errors but those about the arguments
   */
  streamMessages(
    id: bigint | number,
    options: StreamMessagesOptions = {},
  ): AsyncGenerator<AgentMessage, void, undefined> {
    return eachMessage(this.streamPages(id, options));
  }

  /** Streams a session's messages a page at a time; otherwise as `streamMessages`. */
  streamPages(
    id: bigint | number,
    options: StreamMessagesOptions = {},
  ): AsyncGenerator<StreamedPage, void, undefined> {
    return streamPages(this.#connection, id, options);
  }

  /**
   * Changes a message: the keys that are in `changes` and not undefined; `null` clears. The message
   * keeps its seq and gets a new version; the one before stays in its history.
   *
   * @returns the message after the change
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError
   * @throws MessageDeletedError
   * @throws RevisionMismatchError when the message's revision is not `expectedRevision`
   * @throws MessageTooLargeError
   * @throws RequestIdReusedError
   */
  async updateMessage(
    id: bigint | number,
    seq: bigint | number,
    changes: MessageChanges,
    options: ChangeOptions = {},
  ): Promise<AgentMessage> {
    return versions.updateMessage(this.#connection, id, seq, changes, options);
  }

  /**
   * Deletes one message. It keeps its seq and its history; `undeleteMessage` brings it back.
   *
   * @returns the message as it was, with `deletedAt`
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError
   * @throws MessageDeletedError when it is deleted already
   * @throws RevisionMismatchError when the message's revision is not `expectedRevision`
   * @throws RequestIdReusedError
   */
  async deleteMessage(
    id: bigint | number,
    seq: bigint | number,
    options: ChangeOptions = {},
  ): Promise<AgentMessage> {
    return versions.deleteMessage(this.#connection, id, seq, options);
  }

  /**
   * Brings a deleted message back.
   *
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError
   * @throws MessageNotDeletedError
   * @throws RevisionMismatchError when the message's revision is not `expectedRevision`
   * @throws RequestIdReusedError
   */
  async undeleteMessage(
    id: bigint | number,
    seq: bigint | number,
    options: ChangeOptions = {},
  ): Promise<AgentMessage> {
    return versions.undeleteMessage(this.#connection, id, seq, options);
  }

  /**
   * Makes a message again what one of its versions was, deleted or not. That is a new version.
   *
   * @returns the message after the change
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError
   * @throws VersionNotFoundError
   * @throws RevisionMismatchError when the message's revision is not `expectedRevision`
   * @throws RequestIdReusedError
   */
  async revertMessage(
    id: bigint | number,
    seq: bigint | number,
    version: bigint | number,
    options: ChangeOptions = {},
  ): Promise<AgentMessage> {
    return versions.revertMessage(this.#connection, id, seq, version, options);
  }

  /**
   * Returns one page of a message's versions, newest first, also of a deleted message's.
   *
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError
   * @throws InvalidPageTokenError
   */
  async listMessageVersions(
    id: bigint | number,
    seq: bigint | number,
    options: PageOptions = {},
  ): Promise<MessageVersionPage> {
    return versions.listMessageVersions(this.#connection, id, seq, options);
  }

  /** Iterates over all versions of a message; otherwise as `listMessageVersions`. */
  async *iterateMessageVersions(
    id: bigint | number,
    seq: bigint | number,
    options: PageOptions = {},
  ): AsyncGenerator<MessageVersion, void, undefined> {
    const pages = versions.iterateMessageVersionPages(this.#connection, id, seq, options);
    for await (const page of pages) yield* page.versions;
  }

  /**
   * Makes a new session that begins with the messages of another, up to `atSeq`, and with what else
   * was set of it; with all messages, also with its state. From then on each goes its own way.
   *
   * @returns the new session; its `parent` says where it comes from
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError for an `atSeq` past the end
   * @throws RequestIdReusedError
   */
  async forkSession(id: bigint | number, options: ForkSessionOptions = {}): Promise<AgentSession> {
    return snapshots.forkSession(this.#connection, id, options);
  }

  /**
   * Takes a snapshot of a session as it is now. A session has up to 100; beyond that, the oldest one
   * that a policy took is dropped.
   *
   * @throws SessionNotFoundError
   * @throws TooManySnapshotsError when all of them were taken by hand
   * @throws RequestIdReusedError
   */
  async createSnapshot(
    id: bigint | number,
    options: CreateSnapshotOptions = {},
  ): Promise<SessionSnapshot> {
    return snapshots.createSnapshot(this.#connection, id, options);
  }

  /**
   * Returns one page of a session's snapshots, newest first, without their states.
   *
   * @throws SessionNotFoundError
   * @throws InvalidPageTokenError
   */
  async listSnapshots(id: bigint | number, options: PageOptions = {}): Promise<SnapshotPage> {
    return snapshots.listSnapshots(this.#connection, id, options);
  }

  /** Iterates over all snapshots of a session; otherwise as `listSnapshots`. */
  async *iterateSnapshots(
    id: bigint | number,
    options: PageOptions = {},
  ): AsyncGenerator<SessionSnapshot, void, undefined> {
    const pages = snapshots.iterateSnapshotPages(this.#connection, id, options);
    for await (const page of pages) yield* page.snapshots;
  }

  /**
   * Returns one snapshot, with the state that it holds.
   *
   * @throws SessionNotFoundError
   * @throws SnapshotNotFoundError
   */
  async getSnapshot(
    id: bigint | number,
    snapshotId: bigint | number,
    options: CallOptions = {},
  ): Promise<SessionSnapshot> {
    return snapshots.getSnapshot(this.#connection, id, snapshotId, options);
  }

  /**
   * Goes back to a snapshot.
   *
   * @param mode `fork` makes a new session of it; `roll_back` makes the session itself what it was,
   *   and keeps what is undone as versions
   * @returns the new session, or the session after the roll-back
   * @throws SessionNotFoundError
   * @throws SnapshotNotFoundError
   * @throws RevisionMismatchError when the session's revision is not `expectedRevision`
   * @throws RequestIdReusedError
   */
  async restoreSnapshot(
    id: bigint | number,
    snapshotId: bigint | number,
    mode: "fork" | "roll_back",
    options: ChangeOptions = {},
  ): Promise<AgentSession> {
    return snapshots.restoreSnapshot(this.#connection, id, snapshotId, mode, options);
  }

  /**
   * Removes a snapshot.
   *
   * @returns whether it was there
   * @throws SessionNotFoundError
   * @throws RequestIdReusedError
   */
  async deleteSnapshot(
    id: bigint | number,
    snapshotId: bigint | number,
    options: WriteOptions = {},
  ): Promise<boolean> {
    return snapshots.deleteSnapshot(this.#connection, id, snapshotId, options);
  }

  /**
   * Streams sessions out of the store, in the order of their ids, from one consistent snapshot. An
   * export that breaks behind a whole session goes on by itself, with a snapshot of its own; one that
   * breaks in the middle of a session throws: drop what came behind the last piece with a
   * `resumeToken` and export again with that one.
   *
   * ```ts
   * for await (const { bytes } of store.exportSessions("jsonl")) file.write(bytes);
   * ```
   *
   * @throws SessionNotFoundError when one of `conversationIds` is not there
   * @throws InvalidPageTokenError when the resume token is not this export's
   * @throws OverloadedError when too many exports run
   */
  exportSessions(
    format: ExportFormat,
    options: ExportSessionsOptions = {},
  ): AsyncGenerator<ExportedPiece, void, undefined> {
    return exportSessions(this.#connection, format, options);
  }

  /**
   * Brings sessions in that `exportSessions` wrote as `jsonl`: equal ones under new ids. Each is
   * imported whole or not at all, and once for each import id: an import that broke is sent again
   * from its beginning.
   *
   * @param importId names the import, 1 to 128 characters
   * @param source the bytes, for example `createReadStream(file)`; up to 100,000 sessions
   * @throws InvalidImportError which names the line
   * @throws RequestIdReusedError when a session differs from the one that was imported under this id
   */
  async importSessions(
    importId: string,
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    options: ImportSessionsOptions = {},
  ): Promise<ImportSummary> {
    return importSessions(this.#connection, importId, source, options);
  }

  /**
   * Returns one page of the audit log: what was changed, by whom, from where and when. An operator's
   * alone.
   *
   * @throws PermissionDeniedError
   * @throws InvalidPageTokenError
   */
  async listAuditEvents(options: ListAuditEventsOptions = {}): Promise<AuditEventPage> {
    return audit.listAuditEvents(this.#connection, options);
  }

  /** Iterates over the audit log, a page at a time; otherwise as `listAuditEvents`. */
  async *iterateAuditEvents(
    options: ListAuditEventsOptions = {},
  ): AsyncGenerator<AuditEvent, void, undefined> {
    const pages = audit.iterateAuditEventPages(this.#connection, options);
    for await (const page of pages) yield* page.events;
  }

  /**
   * Holds the audit log against its hashes and names the first event that was changed, removed, put
   * in between or moved. Verified after an anchor that was kept elsewhere, it also shows a log that
   * was written anew as a whole. An operator's alone.
   *
   * @throws PermissionDeniedError
   */
  async verifyAudit(options: VerifyAuditOptions = {}): Promise<AuditVerification> {
    return audit.verifyAudit(this.#connection, options);
  }

  /**
   * Returns what holds for all sessions of a model. An operator's alone.
   *
   * @throws PermissionDeniedError
   */
  async getModelPolicy(modelId: string, options: CallOptions = {}): Promise<ModelPolicy> {
    return policies.getModelPolicy(this.#connection, modelId, options);
  }

  /**
   * Changes what holds for all sessions of a model: the keys that are in `changes` and not
   * undefined; `null` clears. An operator's alone.
   *
   * @returns the policy after the change
   * @throws PermissionDeniedError
   * @throws RequestIdReusedError
   */
  async updateModelPolicy(
    modelId: string,
    changes: ModelPolicyChanges,
    options: WriteOptions = {},
  ): Promise<ModelPolicy> {
    return policies.updateModelPolicy(this.#connection, modelId, changes, options);
  }

  /**
   * Removes all that belongs to one person, by the `ownerId` of the sessions, for good. Where there
   * is very much, calls end with a `DeadlineExceededError`: the next one goes on from there. An
   * operator's alone.
   *
   * @returns what was removed
   * @throws PermissionDeniedError
   */
  async eraseOwner(ownerId: string, options: CallOptions = {}): Promise<ErasureReceipt> {
    return policies.eraseOwner(this.#connection, ownerId, options);
  }

  /**
   * Tells how far search is behind what was written, and what could not be embedded. An operator's
   * alone.
   *
   * @throws PermissionDeniedError
   */
  async getSearchStatus(options: CallOptions = {}): Promise<SearchStatus> {
    return embeddings.getSearchStatus(this.#connection, options);
  }

  /**
   * Returns a page of the messages that could not be embedded. An operator's alone.
   *
   * @throws PermissionDeniedError
   */
  async listEmbeddingFailures(
    options: ListEmbeddingFailuresOptions = {},
  ): Promise<EmbeddingFailurePage> {
    return embeddings.listEmbeddingFailures(this.#connection, options);
  }

  /**
   * Has messages tried again that could not be embedded. An operator's alone.
   *
   * @returns how many
   * @throws PermissionDeniedError
   */
  async retryEmbeddings(options: RetryEmbeddingsOptions = {}): Promise<bigint> {
    return embeddings.retryEmbeddings(this.#connection, options);
  }

  /**
   * Finds messages: unless `options.mode` says otherwise, those whose content contains a text, upper
   * and lower case alike, newest first. Returns the first page of them.
   *
   * @param modelId the model whose sessions to search; empty for those of all models
   * @param query the text, 1 to 10,000 characters, taken literally; otherwise what the mode says
   */
  async searchMessages(
    modelId: string,
    query: string,
    options: SearchMessagesOptions = {},
  ): Promise<AgentMessage[]> {
    const { results } = await this.searchPage(modelId, query, options);
    return results.map(({ message }) => message);
  }

  /** Returns a page of results with snippets, scores and context; otherwise as `searchMessages`. */
  async searchPage(
    modelId: string,
    query: string,
    options: SearchMessagesOptions = {},
  ): Promise<SearchPage> {
    return search.searchPage(this.#connection, modelId, query, options);
  }

  /** Iterates over all results, a page at a time; otherwise as `searchPage`. */
  iterateSearchPages(
    modelId: string,
    query: string,
    options: SearchMessagesOptions = {},
  ): AsyncGenerator<SearchPage, void, undefined> {
    return search.iterateSearchPages(this.#connection, modelId, query, options);
  }

  /** Iterates over all results; otherwise as `searchPage`. */
  async *iterateSearch(
    modelId: string,
    query: string,
    options: SearchMessagesOptions = {},
  ): AsyncGenerator<SearchResult, void, undefined> {
    for await (const page of this.iterateSearchPages(modelId, query, options)) yield* page.results;
  }

  /**
   * Acquires the right to run a session for a while. Appends that carry the lease's `fencingToken`
   * throw a `LeaseLostError` once someone else has acquired it.
   *
   * @param holder who asks, for people to read: 1 to 256 characters
   * @throws SessionNotFoundError
   * @throws LeaseHeldError while someone else holds the lease; never retried by itself
   * @throws RequestIdReusedError
   */
  async acquireLease(
    id: bigint | number,
    holder: string,
    options: AcquireLeaseOptions = {},
  ): Promise<Lease> {
    return leases.acquireLease(this.#connection, id, holder, options);
  }

  /**
   * Extends a lease from now on, also one that has expired and that nobody else has acquired.
   *
   * @throws SessionNotFoundError
   * @throws LeaseLostError
   */
  async renewLease(
    id: bigint | number,
    fencingToken: bigint | number,
    options: RenewLeaseOptions = {},
  ): Promise<Lease> {
    return leases.renewLease(this.#connection, id, fencingToken, options);
  }

  /**
   * Gives a lease back, so that others need not wait until it expires.
   *
   * @returns false when it had been released or lost before, an earlier attempt of this call included
   * @throws SessionNotFoundError
   */
  async releaseLease(
    id: bigint | number,
    fencingToken: bigint | number,
    options: CallOptions = {},
  ): Promise<boolean> {
    return leases.releaseLease(this.#connection, id, fencingToken, options);
  }

  /**
   * Loads what the next call of a session's model needs: the leading system messages, and the
   * newest messages that fit a budget. Costs the same however long the session is.
   *
   * @throws SessionNotFoundError
   * @throws BudgetTooSmallError when the leading system messages alone exceed the budget
   */
  async loadContext(
    id: bigint | number,
    options: LoadContextOptions = {},
  ): Promise<SessionContext> {
    return context.loadContext(this.#connection, id, options);
  }

  /**
   * Closes the tool calls of a session that have no answer: appends, for each, a tool message that
   * says that the call was interrupted and its outcome is not known.
   *
   * @returns the messages that were appended, in the order of the calls: none when there was
   *   nothing to close, 1,000 when there may be more
   * @throws SessionNotFoundError
   * @throws LeaseLostError
   * @throws WriteConflictError when others kept appending to the session
   */
  async repairSession(id: bigint | number, options: FencedOptions = {}): Promise<AgentMessage[]> {
    return context.repairSession(this.#connection, id, options);
  }
}

async function* eachMessage(
  pages: AsyncGenerator<StreamedPage, void, undefined>,
): AsyncGenerator<AgentMessage, void, undefined> {
  for await (const page of pages) yield* page.messages;
}
