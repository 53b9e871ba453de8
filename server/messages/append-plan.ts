// Decides what each append of a group comes to: a pure function of what was locked and found.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { limits } from "../config.js";
import type { GivenEmbedding } from "../embeddings/given.js";
import { RpcError, sessionNotFound } from "../errors/rpc-error.js";
import type { KeptRequest, NewAnswer } from "../idempotency/requests.js";
import { assertSameRequest } from "../idempotency/requests.js";
import { assertCurrent } from "../leases/fence.js";
import { present } from "../present.js";
import { countCharacters } from "../rpc/field-checks.js";
import { assertEtag, etagOf } from "../state/etag.js";
import type { NewState } from "../state/state.js";
import type { Append } from "./append.js";
import { placedMessage, type RoleName, roleName } from "./message.js";
import type { LockedSessionRow } from "./sql.js";

/** What becomes of one append. */
export type Outcome =
  /** It is written; the ids of its messages are not known yet. */
  | { kind: "appended"; messages: AgentMessage[]; stateEtag: string }
  /** It was written before: these seqs. */
  | { kind: "replayed"; firstSeq: bigint; lastSeq: bigint; stateEtag: string }
  /** It repeats another append of the same group. */
  | { kind: "same"; as: Outcome & { kind: "appended" } }
  | { kind: "refused"; error: RpcError }
  /** Its session was not among the locked ones. */
  | { kind: "not locked" };

/** How a session's counters change. */
export interface Advance {
  conversationId: bigint;
  messages: number;
  roles: Record<RoleName, number>;
  characters: number;
  usage: Record<(typeof USAGE)[number], bigint>;
  firstMs: bigint;
  lastMs: bigint;
  /** The preview, if the session had no message that is shown; else null. */
  firstMessage: string | null;
}

/** What a group of appends writes, and what it answers. */
export interface Plan {
  /** One for each append, in their order. */
  outcomes: Outcome[];
  advances: Advance[];
  messages: AgentMessage[];
  /** Who appends each of the messages. */
  writers: string[];
  /** What callers have given with their messages. */
  embeddings: GivenEmbedding[];
  answers: NewAnswer[];
  /** Where the sessions that are written to stand afterwards. */
  heads: LockedSessionRow[];
  /** At most one for each session: the last one. */
  states: Map<bigint, NewState>;
}

export const USAGE = [
  "inputTokens",
  "outputTokens",
  "cachedTokens",
  "reasoningTokens",
  "costMicros",
] as const;

/**
 * Plans a group of appends: each one is taken or refused by itself, in order.
 *
 * @param sessions those that could be locked
 * @param kept the answers that these requests got before
 * @param stateRevisions from findStateRevisions(), of the sessions whose state an append writes
 * @param now the server's clock, in milliseconds
 */
export function planAppends(
  appends: Append[],
  sessions: LockedSessionRow[],
  kept: KeptRequest[],
  stateRevisions: Map<bigint, bigint>,
  now: bigint,
): Plan {
  const plan: Plan = {
    outcomes: [],
    advances: [],
    messages: [],
    writers: [],
    embeddings: [],
    answers: [],
    heads: [],
    states: new Map(),
  };
  const standing = new Map(
    sessions.map((session) => [
      session.id,
      new Standing(session, stateRevisions.get(session.id) ?? 0n),
    ]),
  );
  for (const request of kept) standing.get(request.conversation_id)?.answered(request);
  for (const write of appends) {
    const session = standing.get(write.conversationId);
    plan.outcomes.push(session ? take(write, session, plan, now) : withoutSession(write, kept));
  }
  for (const { advance, head } of standing.values()) {
    if (!advance) continue;
    plan.advances.push(advance);
    plan.heads.push(head);
  }
  return plan;
}

// Where a session stands while its appends are taken one after another.
class Standing {
  lastSeq: bigint;
  revision: bigint;
  advance: Advance | undefined;
  readonly #requests = new Map<string, { fingerprint: Buffer; outcome: Outcome }>();

  constructor(
    readonly session: LockedSessionRow,
    public stateRevision: bigint,
  ) {
    this.lastSeq = session.last_seq;
    this.revision = session.revision;
  }

  get head(): LockedSessionRow {
    const added = BigInt(this.advance?.messages ?? 0);
    return {
      ...this.session,
      last_seq: this.lastSeq,
      revision: this.revision,
      message_count: this.session.message_count + added,
    };
  }

  answered(kept: KeptRequest): void {
    const { request_id, fingerprint } = kept;
    this.#requests.set(request_id, { fingerprint, outcome: replayed(kept) });
  }

  /** What the same request came to before; undefined for a new one. */
  replay(write: Append): Outcome | undefined {
    const before = this.#requests.get(write.requestId);
    if (!before) return undefined;
    assertSameRequest(before.fingerprint, write.fingerprint);
    const { outcome } = before;
    return outcome.kind === "appended" ? { kind: "same", as: outcome } : outcome;
  }

  remember(write: Append, outcome: Outcome): void {
    if (write.requestId === "") return;
    this.#requests.set(write.requestId, { fingerprint: write.fingerprint, outcome });
  }
}

// An answer that is kept needs no lock; that of a DeleteSession outlives the session.
function withoutSession(write: Append, kept: KeptRequest[]): Outcome {
  const answer = kept.find(
    ({ conversation_id, request_id, tenant_id }) =>
      conversation_id === write.conversationId &&
      request_id === write.requestId &&
      tenant_id === write.tenant,
  );
  if (!answer) return { kind: "not locked" };
  return unlessRefused(() => {
    assertSameRequest(answer.fingerprint, write.fingerprint);
    return replayed(answer);
  });
}

// An answer without seqs is that of another RPC, which no append can match.
function replayed({ first_seq, last_seq, answer }: KeptRequest): Outcome {
  return {
    kind: "replayed",
    firstSeq: first_seq ?? 0n,
    lastSeq: last_seq ?? 0n,
    stateEtag: answer?.toString() ?? "",
  };
}

function unlessRefused(decide: () => Outcome): Outcome {
  try {
    return decide();
  } catch (error) {
    if (error instanceof RpcError) return { kind: "refused", error };
    throw error;
  }
}

function take(write: Append, session: Standing, plan: Plan, now: bigint): Outcome {
  return unlessRefused(() => {
    if (session.session.tenant_id !== write.tenant) throw sessionNotFound(write.conversationId);
    const replay = session.replay(write);
    if (replay) return replay;
    assertCurrent(write.conversationId, write.fencingToken, session.session.fencing_token);
    assertExpected(write, session.lastSeq);
    assertEtag(write.conversationId, session.stateRevision, write.state?.expectedEtag);
    return place(write, session, plan, now);
  });
}

function place(write: Append, session: Standing, plan: Plan, now: bigint): Outcome {
  const firstSeq = session.lastSeq + 1n;
  const { conversationId, tenant } = write;
  const messages = write.messages.map((message) => {
    const seq = ++session.lastSeq;
    const { embedding } = message;
    if (embedding) plan.embeddings.push({ conversationId, seq, tenant, embedding });
    return placedMessage(message, {
      id: 0n,
      conversationId,
      seq,
      revision: ++session.revision,
      now,
    });
  });
  session.advance ??= nothing(present(messages[0]), session.session.message_count);
  for (const message of messages) count(session.advance, message);
  for (const message of messages) {
    plan.messages.push(message);
    plan.writers.push(write.by);
  }
  const stateEtag = write.state ? writeState(write.state.state, session, plan) : "";
  if (write.requestId !== "") {
    plan.answers.push({ write, firstSeq, lastSeq: session.lastSeq, stateEtag });
  }
  const outcome: Outcome = { kind: "appended", messages, stateEtag };
  session.remember(write, outcome);
  return outcome;
}

// A state has the revision of the last message that came with it.
function writeState(state: string, session: Standing, plan: Plan): string {
  const { id } = session.session;
  session.stateRevision = session.revision;
  plan.states.set(id, { conversationId: id, state, revision: session.revision });
  return etagOf(id, session.revision);
}

function assertExpected({ conversationId, expectedLastSeq }: Append, lastSeq: bigint): void {
  if (expectedLastSeq === undefined || expectedLastSeq === lastSeq) return;
  throw new RpcError(
    "LAST_SEQ_MISMATCH",
    `session ${conversationId} has last_seq ${lastSeq}, not ${expectedLastSeq}`,
    {
      metadata: {
        conversation_id: String(conversationId),
        expected_last_seq: String(expectedLastSeq),
        last_seq: String(lastSeq),
      },
    },
  );
}

function nothing(
  { conversationId, content, timestampMs }: AgentMessage,
  shownBefore: bigint,
): Advance {
  return {
    conversationId,
    messages: 0,
    roles: { user: 0, assistant: 0, system: 0, tool: 0 },
    characters: 0,
    usage: {
      inputTokens: 0n,
      outputTokens: 0n,
      cachedTokens: 0n,
      reasoningTokens: 0n,
      costMicros: 0n,
    },
    firstMs: timestampMs,
    lastMs: timestampMs,
    firstMessage: shownBefore === 0n ? preview(content) : null,
  };
}

function count(advance: Advance, { role, content, timestampMs, usage }: AgentMessage): void {
  advance.messages++;
  advance.roles[roleName(role)]++;
  advance.characters += countCharacters(content);
  if (timestampMs < advance.firstMs) advance.firstMs = timestampMs;
  if (timestampMs > advance.lastMs) advance.lastMs = timestampMs;
  if (usage) for (const key of USAGE) advance.usage[key] += usage[key];
}

function preview(content: string): string {
  // At most two UTF-16 units a character: no need to split a long content up.
  const characters = Array.from(content.slice(0, limits.firstMessageCharacters * 2));
  return characters.slice(0, limits.firstMessageCharacters).join("").replaceAll("\0", "\uFFFD");
}
