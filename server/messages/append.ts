// Appending: what AddMessage and AddMessages have in common.
import type { AgentMessage, NewMessage } from "../../gen/agentstore/v1/messages.js";
import { limits } from "../config.js";
import type { Queries } from "../db/database.js";
import { RpcError, sessionNotFound } from "../errors/rpc-error.js";
import {
  findAnswer,
  keepAnswer,
  type RepeatableWrite,
  repeatable,
  TryAgain,
} from "../idempotency/requests.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import { countCharacters } from "../rpc/field-checks.js";
import {
  placedMessage,
  type RoleName,
  roleName,
  toAgentMessage,
  toStoredTexts,
} from "./message.js";
import * as sql from "./sql.js";

/** Messages for one session, all or none. */
export interface Append extends RepeatableWrite {
  messages: NewMessage[];
  expectedLastSeq?: bigint | undefined;
}

/** What an append answers. */
export interface Appended {
  messages: AgentMessage[];
  replayed: boolean;
}

/**
 * Appends messages in one transaction with the session's counters and the
 * request's answer.
 *
 * @throws SESSION_NOT_FOUND, LAST_SEQ_MISMATCH, REQUEST_ID_REUSED
 */
export async function append(context: CallContext, write: Append): Promise<Appended> {
  context.note({ conversation_id: write.conversationId, messages: write.messages.length });
  const appended = await repeatable(context, (queries) => appendOnce(queries, write));
  context.note({ last_seq: present(appended.messages.at(-1)).seq, replayed: appended.replayed });
  return appended;
}

async function appendOnce(queries: Queries, write: Append): Promise<Appended> {
  const { conversationId, tenant, messages } = write;
  const now = Date.now();
  const [session] = await queries.query(sql.advanceSession, advanceValues(write, now));
  if (!session) return await replayOrRefuse(queries, write);

  const before = {
    seq: session.last_seq - BigInt(messages.length),
    revision: session.revision - BigInt(messages.length),
  };
  const placed = messages.map((message, index) => {
    const step = BigInt(index + 1);
    const place = { conversationId, seq: before.seq + step, revision: before.revision + step };
    return placedMessage(message, { id: 0n, now, ...place });
  });
  await insert(queries, placed);
  const answer = { firstSeq: before.seq + 1n, lastSeq: session.last_seq };
  await keepAnswer(queries, { ...write, tenant }, answer, new Date(now));
  return { messages: placed, replayed: false };
}

// The session did not advance: for a reason that stands, or for one that has
// gone since, and then the append is tried anew.
async function replayOrRefuse(queries: Queries, write: Append): Promise<Appended> {
  const { conversationId, tenant, expectedLastSeq } = write;
  const kept = await findAnswer(queries, write);
  if (kept) {
    const values = [conversationId, kept.first_seq, kept.last_seq];
    const rows = await queries.query(sql.getMessageRange, values);
    return { messages: rows.map(toAgentMessage), replayed: true };
  }
  const [session] = await queries.query(sql.getLastSeq, [conversationId, tenant]);
  if (!session) throw sessionNotFound(conversationId);
  if (expectedLastSeq !== undefined && session.last_seq !== expectedLastSeq) {
    throw new RpcError(
      "LAST_SEQ_MISMATCH",
      `session ${conversationId} has last_seq ${session.last_seq}, not ${expectedLastSeq}`,
      {
        metadata: {
          conversation_id: String(conversationId),
          expected_last_seq: String(expectedLastSeq),
          last_seq: String(session.last_seq),
        },
      },
    );
  }
  throw new TryAgain();
}

function advanceValues(write: Append, now: number): unknown[] {
  const roles: Record<RoleName, number> = { user: 0, assistant: 0, system: 0, tool: 0 };
  const usage = {
    inputTokens: 0n,
    outputTokens: 0n,
    cachedTokens: 0n,
    reasoningTokens: 0n,
    costMicros: 0n,
  };
  let characters = 0;
  let first: bigint | undefined;
  let last: bigint | undefined;
  for (const message of write.messages) {
    roles[roleName(message.role)]++;
    characters += countCharacters(message.content);
    const time = message.timestampMs ?? BigInt(now);
    if (first === undefined || time < first) first = time;
    if (last === undefined || time > last) last = time;
    if (!message.usage) continue;
    for (const key of Object.keys(usage) as (keyof typeof usage)[])
      usage[key] += message.usage[key];
  }
  return [
    write.conversationId,
    write.tenant,
    write.messages.length,
    roles.user,
    roles.assistant,
    roles.system,
    roles.tool,
    characters,
    usage.inputTokens,
    usage.outputTokens,
    usage.cachedTokens,
    usage.reasoningTokens,
    usage.costMicros,
    first,
    last,
    preview(toStoredTexts(present(write.messages[0])).content),
    new Date(now),
    write.expectedLastSeq,
    write.requestId,
  ];
}

function preview(content: string): string {
  // At most two UTF-16 units a character: no need to split a long content up.
  const characters = Array.from(content.slice(0, limits.firstMessageCharacters * 2));
  return characters.slice(0, limits.firstMessageCharacters).join("");
}

async function insert(queries: Queries, messages: AgentMessage[]): Promise<void> {
  const first = present(messages[0]);
  const values = toValues(first);
  const { conversationId } = first;
  if (messages.length === 1) {
    const [inserted] = await queries.query(sql.insertMessage, [conversationId, ...values]);
    first.id = present(inserted).id;
    return;
  }
  const rows = [values, ...messages.slice(1).map(toValues)];
  const columns = values.map((_, column) => rows.map((row) => row[column]));
  const inserted = await queries.query(sql.insertMessages, [conversationId, ...columns]);
  for (const { id, seq } of inserted) present(messages[Number(seq - first.seq)]).id = id;
}

// In the order of the inserted columns, without conversation_id.
function toValues(message: AgentMessage): unknown[] {
  const texts = toStoredTexts(message);
  const { toolCalls, metadata, usage } = message;
  return [
    message.seq,
    message.revision,
    roleName(message.role),
    texts.content,
    message.timestampMs,
    texts.name,
    // json, not jsonb: it takes \u0000 and leaves every text as it was.
    toolCalls.length > 0 ? JSON.stringify(toolCalls) : null,
    texts.toolCallId,
    texts.payload,
    texts.payloadType,
    metadata === undefined ? null : JSON.stringify(metadata),
    usage?.inputTokens,
    usage?.outputTokens,
    usage?.cachedTokens,
    usage?.reasoningTokens,
    usage?.costMicros,
    texts.exact,
  ];
}
