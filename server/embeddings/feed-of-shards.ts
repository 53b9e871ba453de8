// Queues messages for their vectors on Citus, in place of the statements of sql.ts with these names.
import type { Queries } from "../db/database.js";
import { keyOf, keysOf } from "./keys.js";
import * as ofShards from "./shards-sql.js";
import { dequeue } from "./sql.js";

/** @param ranges the columns: sessions, their tenants, first and last seqs */
export async function queueRanges(
  queries: Queries,
  model: string,
  ranges: unknown[][],
  now: Date,
): Promise<void> {
  const found = await queries.query(ofShards.findLackingInRanges, [...ranges, model]);
  if (found.length === 0) return;
  const values = [...columnsOf(found), now];
  await queries.query(ofShards.queueKeys, values);
  await queries.query(ofShards.tryKeysAgain, values);
}

/** @param ranges the columns: sessions, first and last seqs */
export async function dequeueGone(queries: Queries, ranges: unknown[][]): Promise<void> {
  const waiting = await queries.query(ofShards.findWaitingInRanges, ranges);
  if (waiting.length === 0) return;
  const found = await queries.query(ofShards.findThere, keysOf(waiting));
  const there = new Set(found.map(keyOf));
  const gone = waiting.filter((key) => !there.has(keyOf(key)));
  if (gone.length > 0) await queries.query(dequeue, keysOf(gone));
}

/** @param ends the key behind which it begins, and the one with which it ends */
export async function queueStretch(
  queries: Queries,
  model: string,
  ends: bigint[],
  now: Date,
): Promise<void> {
  const found = await queries.query(ofShards.findLackingInStretch, [...ends, model]);
  if (found.length > 0) await queries.query(ofShards.queueKeys, [...columnsOf(found), now]);
}

function columnsOf(found: readonly ofShards.LackingRow[]): unknown[][] {
  return [...keysOf(found), found.map((row) => row.tenant_id)];
}
