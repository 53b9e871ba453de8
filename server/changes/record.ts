// Records in the change log what a transaction does to sessions, in that transaction.
import { int8Column, textColumn, timeParameter } from "../db/array-parameter.js";
import type { Queries, Step } from "../db/database.js";
import * as sql from "./sql.js";

/** What a transaction does to a session. */
export interface SessionChange {
  conversationId: bigint;
  tenant: string;
  /** The revisions that it gives to the session: 1 to the last one where it makes the session. */
  firstRevision: bigint;
  lastRevision: bigint;
  /** The range in which all messages lie that it appends or changes; absent or empty when none. */
  firstSeq?: bigint | undefined;
  lastSeq?: bigint | undefined;
}

/** The statement that records changes, to travel with others; one for each session. */
export function changesStep(changes: readonly SessionChange[], nowMs: number): Step {
  const hasMessages = ({ firstSeq = 1n, lastSeq = 0n }: SessionChange) => firstSeq <= lastSeq;
  const values = [
    int8Column(changes, (change) => change.conversationId),
    textColumn(changes, (change) => change.tenant),
    int8Column(changes, (change) => change.firstRevision),
    int8Column(changes, (change) => change.lastRevision),
    int8Column(changes, (change) => (hasMessages(change) ? change.firstSeq : null)),
    int8Column(changes, (change) => (hasMessages(change) ? change.lastSeq : null)),
    timeParameter(nowMs),
  ];
  return { statement: sql.insertChanges, values, onRow: () => {} };
}

/**
 * Records a change. To be called once in every transaction that raises the revision of a session or
 * makes one. Takes no lock, and needs no answer, so it may travel with others: `Promise.all([…])`.
 */
export async function recordChange(
  queries: Queries,
  change: SessionChange,
  now: Date,
): Promise<void> {
  const { statement, values, onRow } = changesStep([change], now.getTime());
  await queries.queryRows(statement, values, onRow);
}

/**
 * Records that a session is removed, as recordChange().
 *
 * @param last the last revision that the session had
 */
export async function recordRemoval(
  queries: Queries,
  { conversationId, tenant, last }: { conversationId: bigint; tenant: string; last: bigint },
  now: Date,
): Promise<void> {
  await queries.query(sql.insertRemoval, [conversationId, tenant, last + 1n, now]);
}
