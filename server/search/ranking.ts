// Pages of a ranking that is made as a whole, of keys alone.
import { plannedEachTime } from "../db/database.js";
import type { CallContext } from "../rpc/call.js";
import { invalidPageToken } from "../rpc/page-token.js";
import { NO_TIME } from "./filter.js";
import type { Found, Search } from "./mode.js";
import { Places } from "./places.js";
import { BEST_FIRST, type HitRow, pageOf } from "./sql.js";

/** A message's place in a ranking: the higher the score, the earlier. */
export interface Ranked {
  conversation_id: bigint;
  seq: bigint;
  /** In millionths. */
  score: bigint;
}

/** Where a page begins, from what a page before has said: how many results there were so far. */
export function startOf({ position }: Search): number {
  if (position === null) return 0;
  if (!/^\d{1,4}$/.test(position)) throw invalidPageToken();
  return Number(position);
}

/** How many places a ranking needs for a page and to know whether there is another one. */
export function depthOf(search: Search, { limits }: Pick<CallContext, "limits">): number {
  return Math.min(startOf(search) + search.size + 1, limits.searchRanked);
}

/** Sorts as pages do. */
export function compareRanked(a: Ranked, b: Ranked): number {
  if (a.score !== b.score) return a.score > b.score ? -1 : 1;
  if (a.conversation_id !== b.conversation_id)
    return a.conversation_id > b.conversation_id ? -1 : 1;
  return a.seq > b.seq ? -1 : 1;
}

/**
 * Reads the page of a ranking.
 *
 * @param ranking sorted by compareRanked()
 */
export async function readRanked(
  { db, signal, limits }: CallContext,
  search: Search,
  ranking: readonly Ranked[],
): Promise<Pick<Found, "rows" | "positionOf">> {
  const start = startOf(search);
  const keys = ranking.slice(start, start + search.size + 1);
  const place = new Places();
  const columns = [
    keys.map((key) => key.conversation_id),
    keys.map(({ seq }) => seq),
    keys.map(({ score }) => score),
  ].map((column) => `${place.of(column)}::bigint[]`);
  const source = `(
    SELECT m.conversation_id, m.seq, m.id, coalesce(m.ts_ms, ${NO_TIME}) AS ts_ms, k.score
      FROM unnest(${columns.join(", ")}) AS k (conversation_id, seq, score)
      JOIN conversation_messages AS m
        ON m.conversation_id = k.conversation_id AND m.seq = k.seq AND m.deleted_at IS NULL)`;
  const { sharded } = search.scope;
  const text = pageOf(source, BEST_FIRST, { bytes: place.of(limits.pageBytes), sharded });
  const rows = await db.query(plannedEachTime<HitRow>(text), place.values, signal);
  const places = new Map(keys.map((key, index) => [textOf(key), start + index + 1]));
  return {
    // A message that was deleted a moment ago leaves a gap, not an end.
    rows: rows.map((row) => ({ ...row, found: BigInt(keys.length) })),
    positionOf: (row) => String(places.get(textOf(row)) ?? start),
  };
}

function textOf({ conversation_id, seq }: Pick<Ranked, "conversation_id" | "seq">): string {
  return `${conversation_id}/${seq}`;
}
