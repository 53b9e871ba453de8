// Writes a group of appends in one transaction: two round trips, one commit.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { recordAll } from "../audit/record.js";
import type { Database, Statement } from "../db/database.js";
import { findAnswers, keepAnswers } from "../idempotency/requests.js";
import { present } from "../present.js";
import { findStateRevisions, putStates } from "../state/state.js";
import type { Append } from "./append.js";
import { type Advance, type Outcome, planAppends, USAGE } from "./append-plan.js";
import { roleName, toStoredTexts } from "./message.js";
import type { LockedSessionRow } from "./sql.js";
import * as sql from "./sql.js";

/**
 * Appends each of a group by itself: one that is refused does not touch its
 * neighbours.
 *
 * @param appends any number for any sessions; those to one session in their order
 * @param lock sql.lockSessions, or sql.awaitSession for a single session
 * @returns the outcomes, in the order of the appends, when all is committed
 * @throws RpcError or Error when nothing of the group was written, or, as
 *   DATABASE_UNAVAILABLE, when that is not known
 */
export function appendGroup(
  db: Database,
  appends: Append[],
  lock: Statement<LockedSessionRow>,
  signal: AbortSignal,
): Promise<Outcome[]> {
  return db.transaction(async (transaction) => {
    const ids = [...new Set(appends.map(({ conversationId }) => conversationId))];
    const changesState = appends.some(({ state }) => state !== undefined);
    const [sessions, kept, stateRevisions] = await Promise.all([
      transaction.query(lock, [lock === sql.awaitSession ? ids[0] : ids]),
      // In statements after the lock's, so that they see what the lock waited for.
      findAnswers(transaction, appends),
      changesState ? findStateRevisions(transaction, ids) : new Map<bigint, bigint>(),
    ]);
    const now = Date.now();
    const plan = planAppends(appends, sessions, kept, stateRevisions, now);
    const { outcomes, advances, messages, writers, answers } = plan;
    if (messages.length === 0) return outcomes;
    const [, inserted] = await transaction.commitWith(() =>
      Promise.all([
        transaction.query(sql.advanceSessions, [
          ...toColumns(advances.map(advanceValues)),
          new Date(now),
        ]),
        transaction.query(sql.insertMessages, [
          ...toColumns(messages.map(messageValues)),
          writers,
          new Date(now),
        ]),
        keepAnswers(transaction, answers, new Date(now)),
        putStates(transaction, [...plan.states.values()], new Date(now)),
        recordAll(
          transaction,
          appends.flatMap((write, n) => auditOf(write, outcomes[n])),
        ),
      ]),
    );
    const placed = new Map(inserted.map((row) => [`${row.conversation_id}/${row.seq}`, row.id]));
    for (const message of messages) {
      message.id = present(placed.get(`${message.conversationId}/${message.seq}`));
    }
    return outcomes;
  }, signal);
}

function auditOf(write: Append, outcome: Outcome | undefined) {
  const { audit, conversationId, requestId, state } = write;
  if (!audit || outcome?.kind !== "appended") return [];
  const seq = outcome.messages.at(-1)?.seq;
  const fields = state ? ["state"] : [];
  return [
    { actor: audit.actor, change: { rpc: audit.rpc, conversationId, seq, fields, requestId } },
  ];
}

function toColumns(rows: unknown[][]): unknown[][] {
  return present(rows[0]).map((_, column) => rows.map((row) => row[column]));
}

// In the order of sql.advanceSessions.
function advanceValues(advance: Advance): unknown[] {
  const { roles } = advance;
  return [
    advance.conversationId,
    advance.messages,
    roles.user,
    roles.assistant,
    roles.system,
    roles.tool,
    advance.characters,
    ...USAGE.map((key) => advance.usage[key]),
    advance.firstMs,
    advance.lastMs,
    advance.firstMessage,
  ];
}

// In the order of sql.insertMessages.
function messageValues(message: AgentMessage): unknown[] {
  const texts = toStoredTexts(message);
  const { toolCalls, metadata, usage } = message;
  return [
    message.conversationId,
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
    ...USAGE.map((key) => usage?.[key]),
    texts.exact,
  ];
}
