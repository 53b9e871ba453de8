// The store as plain arrays and maps: what each call must answer, by the contract alone.
import { isDeepStrictEqual } from "node:util";
import { type AgentMessage, MessageOrder, Role } from "../../gen/agentstore/v1/messages.js";
import {
  type AgentSession,
  SessionFilter,
  SessionState,
  type SessionStats,
  type SessionSummary,
} from "../../gen/agentstore/v1/sessions.js";
import { MessageChange } from "../../gen/agentstore/v1/versions.js";
import { applyLife, type LifeName, type ModelSnapshot, type ModelVersion } from "./model-life.js";
import { appendState, chooses, refuseEtag, updateState } from "./model-state.js";
import { dateOf, refused, rising, within } from "./model-values.js";
import type { RequestOf, ResponseOf, RpcName } from "./stubs.js";

/** The RPCs that write. */
export type WriteName =
  | LifeName
  | "createSession"
  | "updateSession"
  | "deleteSession"
  | "addMessage"
  | "addMessages"
  | "updateState";

/** How a call ended, as far as the model says it. */
export type Outcome = { answer: object } | { reason: string; metadata: Record<string, string> };

/** What only the server can know: what it answered, and when the call was under way. */
export interface Seen<Name extends RpcName = RpcName> {
  answer: ResponseOf<Name> | undefined;
  /** Milliseconds since 1970, by the clock that the server has. */
  from: number;
  to: number;
}

/** A session as the model holds it. */
export interface ModelSession {
  session: AgentSession;
  /** The current version of each, deleted ones too. */
  messages: AgentMessage[];
  /** All versions of each, the oldest first. */
  versions: ModelVersion[][];
  /** The oldest first. */
  snapshots: ModelSnapshot[];
  /** The state, as JSON text. */
  document: string | undefined;
  /** The session's revision at which the state was written; 0 while none was. */
  stateRevision: bigint;
  /** The state's etag: empty while there is no state, undefined where no answer has told it yet. */
  etag: string | undefined;
  deleted: boolean;
  answers: Map<string, KeptAnswer>;
}

interface KeptAnswer {
  name: WriteName;
  body: object;
  answer: object;
}

/** The store of one tenant. */
export class Model {
  readonly sessions: ModelSession[] = [];
  readonly #created = new Map<string, KeptAnswer>();
  /** All etags so far. */
  readonly etags = new Set<string>();
  /** The highest id of a message so far. */
  lastMessageId = 0n;

  /** The session with this id, unless it was deleted. */
  find(id: bigint | undefined): ModelSession | undefined {
    return this.sessions.find(({ session, deleted }) => session.id === id && !deleted);
  }

  /**
   * Makes a write and says how it must end.
   *
   * @param seen the server's answer, from which ids and times are taken once they are found to be
   *   possible ones
   */
  write<Name extends WriteName>(name: Name, request: RequestOf<Name>, seen: Seen<Name>): Outcome {
    const { requestId = "", ...body } = request as { requestId?: string };
    const id = sessionId(request);
    // A deleted session still knows the request that deleted it.
    const owner = this.sessions.find(({ session }) => session.id === id);
    const answers = name === "createSession" ? this.#created : owner?.answers;
    const kept = requestId === "" ? undefined : answers?.get(requestId);
    if (kept) {
      const same = kept.name === name && isDeepStrictEqual(kept.body, body);
      return same
        ? { answer: { ...kept.answer, replayed: true } }
        : { reason: "REQUEST_ID_REUSED", metadata: { field: "request_id" } };
    }
    const outcome = this.#apply(name, request, seen);
    const isWrite =
      "answer" in outcome && !("deleted" in outcome.answer && !outcome.answer.deleted);
    if (isWrite && requestId !== "") {
      const kept = { name, body, answer: outcome.answer };
      (answers ?? this.#created).set(requestId, kept);
    }
    return outcome;
  }

  #apply(name: WriteName, request: object, seen: Seen): Outcome {
    switch (name) {
      case "createSession":
        return this.#create(request, seen);
      case "updateSession":
        return this.#update(request, seen);
      case "deleteSession":
        return this.#delete(request);
      case "addMessage": {
        const { message, ...rest } = request as RequestOf<"addMessage">;
        const answer = seen.answer as ResponseOf<"addMessage"> | undefined;
        const listed = answer && { ...answer, messages: answer.message ? [answer.message] : [] };
        const outcome = this.#append(
          { ...rest, messages: message ? [message] : [] },
          { ...seen, answer: listed },
        );
        if (!("answer" in outcome)) return outcome;
        const { messages, ...others } = outcome.answer as ResponseOf<"addMessages">;
        return { answer: { message: messages[0], ...others } };
      }
      case "addMessages":
        return this.#append(request, seen);
      case "updateState":
        return updateState(this, request, seen);
      default:
        return applyLife(this, name, request, seen);
    }
  }

  #create(request: RequestOf<"createSession">, seen: Seen<"createSession">): Outcome {
    const given = seen.answer?.session;
    const created = within(given?.createdAt, seen);
    const session: AgentSession = {
      id: rising(given?.id, this.sessions.at(-1)?.session.id ?? 0n),
      modelId: request.modelId ?? "",
      createdAt: created,
      title: request.title ?? "",
      ownerId: request.ownerId ?? "",
      tags: [...new Set(request.tags)],
      metadata: request.metadata,
      state: stateOf(request.expiresAt, seen.from),
      revision: 1n,
      lastSeq: 0n,
      updatedAt: created,
      expiresAt: request.expiresAt,
    };
    this.sessions.push({
      session,
      messages: [],
      versions: [],
      snapshots: [],
      document: undefined,
      stateRevision: 0n,
      etag: "",
      deleted: false,
      answers: new Map(),
    });
    return { answer: { session: { ...session }, replayed: false } };
  }

  #update(
    { session: fields, updateMask }: RequestOf<"updateSession">,
    seen: Seen<"updateSession">,
  ): Outcome {
    const found = this.find(fields?.id);
    if (!found || !fields) return sessionNotFound(fields?.id);
    const { session } = found;
    const mask = new Set(updateMask);
    if (mask.has("title")) session.title = fields.title;
    if (mask.has("owner_id")) session.ownerId = fields.ownerId;
    if (mask.has("tags")) session.tags = [...new Set(fields.tags)];
    if (mask.has("metadata")) session.metadata = fields.metadata;
    if (mask.has("expires_at")) session.expiresAt = fields.expiresAt;
    session.state = stateOf(session.expiresAt, seen.from);
    session.revision++;
    session.updatedAt = within(seen.answer?.session?.updatedAt, seen);
    return { answer: { session: { ...session }, replayed: false } };
  }

  #delete({ conversationId }: RequestOf<"deleteSession">): Outcome {
    const found = this.find(conversationId);
    if (!found) return { answer: { deleted: false, replayed: false } };
    found.deleted = true;
    found.answers.clear();
    return { answer: { deleted: true, replayed: false } };
  }

  #append(request: RequestOf<"addMessages">, seen: Seen<"addMessages">): Outcome {
    const { conversationId, messages = [], expectedLastSeq } = request;
    const found = this.find(conversationId);
    if (!found) return sessionNotFound(conversationId);
    const { session } = found;
    if (expectedLastSeq !== undefined && expectedLastSeq !== session.lastSeq) {
      const metadata = {
        conversation_id: String(conversationId),
        expected_last_seq: String(expectedLastSeq),
        last_seq: String(session.lastSeq),
      };
      return { reason: "LAST_SEQ_MISMATCH", metadata };
    }
    const refusal = refuseEtag(found, request.state?.expectedEtag);
    if (refusal) return refusal;
    const appended = messages.map((message, index): AgentMessage => {
      const given = seen.answer?.messages[index];
      this.lastMessageId = rising(given?.id, this.lastMessageId);
      const clock = () => BigInt(within(dateOf(given?.timestampMs), seen).getTime() || -1);
      return {
        ...message,
        id: this.lastMessageId,
        conversationId: session.id,
        timestampMs: message.timestampMs ?? clock(),
        seq: ++session.lastSeq,
        revision: ++session.revision,
        version: 1n,
      };
    });
    found.messages.push(...appended);
    const { from, to } = seen;
    const change = MessageChange.APPENDED;
    found.versions.push(...appended.map((message) => [{ message, change, from, to }]));
    // When it was exactly, no answer says; GetSession is held against the bounds.
    session.updatedAt = new Date(seen.from);
    const stateEtag = appendState(this, found, request.state, seen.answer?.stateEtag);
    return { answer: { messages: appended, stateEtag, replayed: false } };
  }

  /** What GetSession must answer. */
  getSession(id: bigint, seen: Seen<"getSession">): Outcome {
    const found = this.find(id);
    if (!found) return sessionNotFound(id);
    this.observe(seen.answer?.session, seen.to);
    return { answer: { session: found.session } };
  }

  /** Takes over when a session was last updated, if that lies behind what the model knows. */
  observe(given: AgentSession | undefined, now: number): void {
    const session = this.find(given?.id)?.session;
    if (!session) return;
    const from = session.updatedAt?.getTime() ?? 0;
    session.updatedAt = within(given?.updatedAt, { from, to: now });
    session.state = stateOf(session.expiresAt, now);
  }

  /** All messages of a read's range in its order, or undefined when there is no such session. */
  range(request: RequestOf<"getMessages">): AgentMessage[] | undefined {
    const { afterSeq = 0n, beforeSeq = 0n, lastN = 0n, offset = 0n, order, showDeleted } = request;
    const found = this.find(request.conversationId);
    let range = found?.messages.filter(
      ({ seq, deletedAt }) =>
        seq > afterSeq && (beforeSeq === 0n || seq < beforeSeq) && (showDeleted || !deletedAt),
    );
    if (lastN > 0n) range = range?.slice(-Number(lastN));
    if (order === MessageOrder.NEWEST_FIRST) range?.reverse();
    return range?.slice(Number(offset));
  }

  /** The sessions of a model that a filter chooses, as ListSessions orders them. */
  list(modelId: string, filter: SessionFilter = SessionFilter.fromPartial({})): SessionSummary[] {
    const last = ({ lastMessageTime }: SessionSummary) =>
      lastMessageTime?.getTime() ?? Number.NEGATIVE_INFINITY;
    return this.sessions
      .filter(({ session, deleted }) => session.modelId === modelId && !deleted)
      .map(({ session, messages }) => ({ session, messages: shown(messages) }))
      .map(({ session, messages }) => ({
        session,
        messageCount: BigInt(messages.length),
        lastMessageTime: statsOf(messages).lastMessageTime,
        firstMessage: messages[0] && [...searchable(messages[0])].slice(0, 200).join(""),
      }))
      .filter((summary) => chooses(filter, summary))
      .sort((a, b) => last(b) - last(a) || Number(b.session.id - a.session.id));
  }

  /** What GetSessionStats must answer. */
  stats(id: bigint): Outcome {
    const found = this.find(id);
    return found ? { answer: { stats: statsOf(shown(found.messages)) } } : sessionNotFound(id);
  }

  /** What SearchMessages must find. */
  search(modelId: string, query: string, limit: number): AgentMessage[] {
    return this.sessions
      .filter(({ session, deleted }) => session.modelId === modelId && !deleted)
      .flatMap(({ messages }) => shown(messages))
      .filter((message) => fold(searchable(message)).includes(fold(query)))
      .sort((a, b) => Number(b.timestampMs - a.timestampMs) || Number(b.id - a.id))
      .slice(0, limit);
  }
}

function sessionNotFound(id: bigint | undefined): Outcome {
  return refused("SESSION_NOT_FOUND", { conversation_id: id });
}

function sessionId(request: object): bigint | undefined {
  return (
    (request as { conversationId?: bigint }).conversationId ??
    (request as RequestOf<"updateSession">).session?.id ??
    (request as RequestOf<"updateMessage">).message?.conversationId
  );
}

function shown(messages: AgentMessage[]): AgentMessage[] {
  return messages.filter(({ deletedAt }) => !deletedAt);
}

function stateOf(expiresAt: Date | undefined, now: number): SessionState {
  const expired = expiresAt !== undefined && expiresAt.getTime() <= now;
  return expired ? SessionState.EXPIRED : SessionState.ACTIVE;
}

function searchable({ content }: AgentMessage): string {
  return content.replaceAll("\0", "\uFFFD");
}

// Case is ignored character by character: that keeps lengths, and knows no context.
function fold(text: string): string {
  return Array.from(text, (character) => {
    const lower = character.toLowerCase();
    return [...lower].length === 1 ? lower : [...lower][0];
  }).join("");
}

function statsOf(messages: AgentMessage[]): SessionStats {
  const count = (role: Role) => BigInt(messages.filter((message) => message.role === role).length);
  const times = messages.map(({ timestampMs }) => Number(timestampMs));
  const total = {
    inputTokens: 0n,
    outputTokens: 0n,
    cachedTokens: 0n,
    reasoningTokens: 0n,
    costMicros: 0n,
  };
  for (const { usage } of messages) {
    if (!usage) continue;
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += usage[key];
  }
  return {
    totalMessages: BigInt(messages.length),
    userMessages: count(Role.USER),
    assistantMessages: count(Role.ASSISTANT),
    systemMessages: count(Role.SYSTEM),
    toolMessages: count(Role.TOOL),
    firstMessageTime: times.length > 0 ? new Date(Math.min(...times)) : undefined,
    lastMessageTime: times.length > 0 ? new Date(Math.max(...times)) : undefined,
    totalCharacters: BigInt(messages.reduce((sum, { content }) => sum + [...content].length, 0)),
    totalUsage: total,
  };
}
