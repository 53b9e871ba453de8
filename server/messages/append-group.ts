// Writes a group of appends in one transaction: two round trips, one commit.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import {
  byteaColumn,
  int8Column,
  jsonbColumn,
  jsonColumn,
  textColumn,
} from "../db/array-parameter.js";
import { BinaryRow } from "../db/binary-row.js";
import type { Database, Queries, Statement } from "../db/database.js";
import { findAnswers, keepAnswers } from "../idempotency/requests.js";
import { present } from "../present.js";
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
    const [sessions, kept] = await Promise.all([
      lockSessions(transaction, appends, lock),
      // In a statement after the lock's, so that it sees what the lock waited for.
      findAnswers(transaction, appends),
    ]);
    const nowMs = Date.now();
    const now = new Date(nowMs);
    const plan = planAppends(appends, sessions, kept, BigInt(nowMs));
    const { outcomes, advances, messages, answers } = plan;
    if (messages.length === 0) return outcomes;
    await transaction.commitWith(() =>
      Promise.all([
        transaction.query(sql.advanceSessions, [...advanceColumns(advances), now]),
        insertMessages(transaction, messages),
        keepAnswers(transaction, answers, now),
      ]),
    );
    return outcomes;
  }, signal);
}

async function lockSessions(
  queries: Queries,
  appends: Append[],
  lock: Statement<LockedSessionRow>,
): Promise<LockedSessionRow[]> {
  const ids = [...new Set(appends.map(({ conversationId }) => conversationId))];
  const sessions: LockedSessionRow[] = [];
  const value = lock === sql.awaitSession ? ids[0] : int8Column(ids, (id) => id);
  await queries.queryRows(lock, [value], (bytes, start) => {
    const row = new BinaryRow(bytes, start);
    sessions.push({
      id: row.int8(),
      tenant_id: row.text(),
      last_seq: row.int8(),
      revision: row.int8(),
    });
  });
  return sessions;
}

// Gives the messages their ids.
async function insertMessages(queries: Queries, messages: AgentMessage[]): Promise<void> {
  let next = 0;
  await queries.queryRows(sql.insertMessages, messageColumns(messages), (bytes, start) => {
    const row = new BinaryRow(bytes, start);
    const id = row.int8();
    const conversationId = row.int8();
    const seq = row.int8();
    // They come in the order of the messages, but SQL does not promise it.
    const isIt = (message: AgentMessage | undefined) =>
      message?.seq === seq && message.conversationId === conversationId;
    const message = isIt(messages[next]) ? messages[next] : messages.find(isIt);
    present(message).id = id;
    next++;
  });
}

// In the order of sql.advanceSessions.
function advanceColumns(advances: Advance[]): unknown[] {
  return [
    int8Column(advances, (advance) => advance.conversationId),
    int8Column(advances, (advance) => advance.messages),
    int8Column(advances, ({ roles }) => roles.user || null),
    int8Column(advances, ({ roles }) => roles.assistant || null),
    int8Column(advances, ({ roles }) => roles.system || null),
    int8Column(advances, ({ roles }) => roles.tool || null),
    int8Column(advances, (advance) => advance.characters),
    ...USAGE.map((key) => int8Column(advances, ({ usage }) => usage[key] || null)),
    int8Column(advances, (advance) => advance.firstMs),
    int8Column(advances, (advance) => advance.lastMs),
    textColumn(advances, (advance) => advance.firstMessage),
  ];
}

// In the order of sql.insertMessages.
function messageColumns(messages: AgentMessage[]): unknown[] {
  const texts = messages.map(toStoredTexts);
  return [
    int8Column(messages, (message) => message.conversationId),
    int8Column(messages, (message) => message.seq),
    int8Column(messages, (message) => message.revision),
    textColumn(messages, (message) => roleName(message.role)),
    textColumn(texts, (text) => text.content),
    int8Column(messages, (message) => message.timestampMs),
    textColumn(texts, (text) => text.name),
    // json, not jsonb: it takes \u0000 and leaves every text as it was.
    jsonColumn(messages, ({ toolCalls }) =>
      toolCalls.length > 0 ? JSON.stringify(toolCalls) : null,
    ),
    textColumn(texts, (text) => text.toolCallId),
    textColumn(texts, (text) => text.payload),
    textColumn(texts, (text) => text.payloadType),
    jsonbColumn(messages, ({ metadata }) => metadata && JSON.stringify(metadata)),
    ...USAGE.map((key) => int8Column(messages, ({ usage }) => usage?.[key])),
    byteaColumn(texts, (text) => text.exact),
  ];
}
