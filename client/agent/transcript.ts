// A dialogue's side of its session: what has been said, and appends that neither lose nor double.
import { createHash } from "node:crypto";
import type { AgentStoreClient } from "../agent-store-client.js";
import {
  AgentStoreError,
  BudgetTooSmallError,
  LastSeqMismatchError,
  LeaseLostError,
  type StatusCode,
} from "../errors.js";
import { type OpenAiMessage, toLlmMessage } from "../openai.js";
import type { LoadContextOptions } from "../options.js";
import type { AgentMessage, NewMessage } from "../types.js";
import type { LeaseKeeper } from "./lease-keeper.js";

const REFUSALS = new Set<StatusCode>(["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"]);

/** How much of a session a model is sent: the leading system messages and the newest that fit. */
export type ContextBudget = Pick<LoadContextOptions, "maxMessages" | "maxCharacters" | "maxTokens">;

/** A message of the session. */
interface Entry {
  message: OpenAiMessage;
  /** Whether it is an answer that broke off. */
  incomplete: boolean;
}

/** An append, as it is repeated until its outcome is known. */
export interface Append {
  /** What kind of step it is, and which of several: parts of its request_id. */
  kind: "system" | "user" | "assistant" | "tool";
  key?: string;
  message: NewMessage;
  /** The caller's request_id, which finds the message wherever it was appended before. */
  requestId?: string | undefined;
  /** Whether it is appended also when others have appended meanwhile. */
  anywhere?: boolean;
}

/** An append, and behind which seq it goes. */
interface PlacedAppend extends Append {
  expectedLastSeq?: bigint | undefined;
}

/** The messages of a session, kept in step with the store. */
export class Transcript {
  readonly #store: AgentStoreClient;
  readonly #conversationId: bigint;
  readonly #lease: LeaseKeeper;
  readonly #budget: ContextBudget | undefined;
  #entries: Entry[] = [];
  #lastSeq = 0n;
  /** What others have appended during a turn. */
  #heard: Entry[] = [];
  /** Appends go one after another. */
  #tail: Promise<unknown> = Promise.resolve();
  /** Appends whose outcome is not known, and those that had to wait behind them. */
  readonly #unsettled: PlacedAppend[] = [];
  #failure: unknown;

  constructor(
    store: AgentStoreClient,
    conversationId: bigint,
    lease: LeaseKeeper,
    budget: ContextBudget | undefined,
  ) {
    this.#store = store;
    this.#conversationId = conversationId;
    this.#lease = lease;
    this.#budget = budget;
  }

  /** The seq of the session's last message, as far as this transcript knows. */
  get lastSeq(): bigint {
    return this.#lastSeq;
  }

  /** All messages that are loaded, in the order of seq. */
  get messages(): OpenAiMessage[] {
    return this.#entries.map(({ message }) => message);
  }

  /**
   * The messages as a model is sent them: without answers that broke off, which it gives anew,
   * except for those that a user has replied to.
   */
  get view(): OpenAiMessage[] {
    const kept = this.#entries.filter(
      ({ incomplete }, index) => !incomplete || this.#entries[index + 1]?.message.role === "user",
    );
    return kept.map(({ message }) => message);
  }

  /** Takes what others have appended since this was last asked, or the turn began. */
  takeHeard(): OpenAiMessage[] {
    return this.#heard.splice(0).map(({ message }) => message);
  }

  /**
   * Reads the turn that follows a user's message, also where a budget has left it out.
   *
   * @returns its messages, and whether the next user's message has ended it
   */
  async turnAfter(seq: bigint): Promise<{ messages: OpenAiMessage[]; isOver: boolean }> {
    const messages: OpenAiMessage[] = [];
    for await (const stored of this.#store.streamMessages(this.#conversationId, {
      afterSeq: seq,
    })) {
      if (stored.role === "user") return { messages, isOver: true };
      if (stored.role !== "unknown" && !isIncomplete(stored)) messages.push(toLlmMessage(stored));
    }
    return { messages, isOver: false };
  }

  /**
   * Learns what others have appended, and with a budget chooses anew what fits.
   *
   * @throws BudgetTooSmallError when the session's newest turn alone exceeds the budget
   * @throws SessionNotFoundError
   */
  async refresh(signal?: AbortSignal): Promise<void> {
    this.#heard = [];
    if (this.#budget === undefined) {
      const { lastSeq } = await this.#store.getSession(this.#conversationId, { signal });
      if (lastSeq > this.#lastSeq) await this.#catchUp(lastSeq, signal);
      return;
    }
    const context = await this.#store.loadContext(this.#conversationId, {
      ...this.#budget,
      signal,
    });
    const { messages, omittedMessages, session } = context;
    if (omittedMessages > 0n && messages.every(({ role }) => role === "system")) {
      throw new BudgetTooSmallError({
        code: "INVALID_ARGUMENT",
        reason: "BUDGET_TOO_SMALL",
        message: "context: the session's newest turn alone exceeds the budget",
      });
    }
    this.#entries = [];
    for (const message of messages) this.#add(message);
    this.#lastSeq = session.lastSeq;
  }

  /**
   * Repeats the appends whose outcome is not known.
   *
   * @returns the messages that they came to
   * @throws AgentStoreError when the outcome is still not known, or one was refused, which is then
   *   given up
   */
  async settle(): Promise<AgentMessage[]> {
    const stored: AgentMessage[] = [];
    for (let append = this.#unsettled[0]; append; append = this.#unsettled[0]) {
      try {
        stored.push(await this.#attempt(append));
        this.#unsettled.shift();
      } catch (error) {
        if (isRefusal(error)) this.#unsettled.shift();
        throw error;
      }
    }
    return stored;
  }

  /**
   * Appends a message, behind those that are being appended.
   *
   * @returns the message as it is stored; one that was appended before under the same request_id is
   *   that one
   * @throws LeaseLostError when someone else runs the session
   * @throws LastSeqMismatchError when someone else has appended, unless `anywhere`
   */
  async append(append: Append): Promise<AgentMessage> {
    const stored = this.#tail.then(() => this.#write({ ...append }));
    this.#tail = stored.catch(() => {});
    return stored;
  }

  async #write(append: PlacedAppend): Promise<AgentMessage> {
    if (this.#unsettled.length > 0) {
      this.#unsettled.push(append);
      throw this.#failure;
    }
    try {
      return await this.#attempt(append);
    } catch (error) {
      if (!isRefusal(error)) {
        this.#unsettled.push(append);
        this.#failure = error;
      }
      throw error;
    }
  }

  async #attempt(append: PlacedAppend): Promise<AgentMessage> {
    for (;;) {
      // Set once, so that a repeat is the same request.
      append.expectedLastSeq ??= this.#lastSeq;
      const { role, content = "", ...rest } = append.message;
      try {
        const stored = await this.#store.addMessage(this.#conversationId, role, content, {
          ...rest,
          fencingToken: this.#lease.fencingToken,
          ...(append.requestId === undefined
            ? { requestId: this.#requestId(append), expectedLastSeq: append.expectedLastSeq }
            : { requestId: append.requestId }),
        });
        await this.#took(stored);
        return stored;
      } catch (error) {
        if (error instanceof LeaseLostError) this.#lease.lose(error);
        if (!(error instanceof LastSeqMismatchError) || !append.anywhere) throw error;
        const known = this.#entries.length;
        await this.#catchUp(error.lastSeq ?? this.#lastSeq);
        this.#heard.push(...this.#entries.slice(known));
        append.expectedLastSeq = undefined;
      }
    }
  }

  /** The request_id of a step: the same for all its attempts, and for no other step. */
  #requestId({ kind, key, expectedLastSeq = 0n }: PlacedAppend): string {
    const parts = ["dialogue", this.#lease.fencingToken, expectedLastSeq + 1n, kind];
    // A tool call's id may be longer than a request_id.
    if (key !== undefined) parts.push(createHash("sha256").update(key).digest("base64url"));
    return parts.join("/");
  }

  async #took(stored: AgentMessage): Promise<void> {
    if (stored.seq > this.#lastSeq + 1n) await this.#catchUp(stored.seq);
    if (stored.seq <= this.#lastSeq) return;
    this.#add(stored);
    this.#lastSeq = stored.seq;
  }

  /** Reads what was appended behind the last message that is known, up to at least `lastSeq`. */
  async #catchUp(lastSeq: bigint, signal?: AbortSignal): Promise<void> {
    const messages = this.#store.streamMessages(this.#conversationId, {
      afterSeq: this.#lastSeq,
      signal,
    });
    for await (const message of messages) {
      this.#add(message);
      this.#lastSeq = message.seq;
    }
    // The session's last messages may have been deleted: their seqs are not given again.
    if (lastSeq > this.#lastSeq) this.#lastSeq = lastSeq;
  }

  #add(stored: AgentMessage): void {
    // A row of an older table with a role of its own is nothing that a model knows.
    if (stored.role === "unknown") return;
    this.#entries.push({ message: toLlmMessage(stored), incomplete: isIncomplete(stored) });
  }
}

/** Whether a message is an answer that broke off. */
function isIncomplete({ role, metadata }: AgentMessage): boolean {
  return role === "assistant" && metadata?.["incomplete"] === true;
}

/** Whether the store has refused a write for good, so that to repeat it would not help. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof AgentStoreError)) return false;
  return error instanceof LastSeqMismatchError || REFUSALS.has(error.code);
}
