// The client: one class with a method per call, each of which stands in the file of its topic.

import { Connection } from "./connection.js";
import { settle } from "./connection-string.js";
import * as context from "./context.js";
import * as leases from "./leases.js";
import * as messages from "./messages.js";
import type {
  AcquireLeaseOptions,
  AddMessageOptions,
  AddMessagesOptions,
  AgentStoreClientOptions,
  CallOptions,
  CreateSessionOptions,
  FencedOptions,
  GetMessagesOptions,
  ListSessionsOptions,
  LoadContextOptions,
  MessagePage,
  MessageView,
  RenewLeaseOptions,
  SearchMessagesOptions,
  SessionChanges,
  SessionPage,
  StreamedPage,
  StreamMessagesOptions,
  WriteOptions,
} from "./options.js";
import { searchMessages } from "./search.js";
import * as sessions from "./sessions.js";
import { streamPages } from "./stream.js";
import type {
  AgentMessage,
  AgentSession,
  Lease,
  MessageKeys,
  NewMessage,
  Role,
  SessionContext,
  SessionStats,
  SessionSummary,
} from "./types.js";

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
   * Returns one page of a model's sessions, by last activity, newest first.
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
   * Returns one message.
   *
   * @throws SessionNotFoundError
   * @throws MessageNotFoundError
   */
  async getMessage(
    id: bigint | number,
    seq: bigint | number,
    options: CallOptions = {},
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
   * Finds the messages whose content contains a text, without regard to case, newest first.
   *
   * @param modelId the model whose sessions to search; empty for those of all models
   * @param query the text, 1 to 10,000 characters, taken literally
   */
  async searchMessages(
    modelId: string,
    query: string,
    options: SearchMessagesOptions = {},
  ): Promise<AgentMessage[]> {
    return searchMessages(this.#connection, modelId, query, options);
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
