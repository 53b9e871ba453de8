// Results newest first, of any mode that says for each message whether it matches.
//
// A query that many messages match is answered from the newest ones, whose index by time is walked until
// there are enough. One that few match is answered from the inverted index, which names them all. Which
// of both it is, a short walk shows.
import type { CallContext, Limits } from "../rpc/call.js";
import { invalidPageToken } from "../rpc/page-token.js";
import { otherConditions, type Scope } from "./filter.js";
import { Places } from "./places.js";
import * as sources from "./sources.js";
import { CURRENT, type Lag } from "./sources.js";
import { type HitRow, pageOf, plannedOnce } from "./sql.js";

/** What a message has to fulfil, as conditions. */
export interface Match {
  /** On a row `s` of message_search. */
  indexed: (place: Places) => string;
  /** On a row `s` of message_search, in the form of an inverted index; true of more rows at the most. */
  inverted: (place: Places) => string;
  /** On a row `s` with the content of a message. */
  fresh: (place: Places) => string;
  /** A source of rows with contents, under these conditions or not, without what need not be looked at. */
  bounded: (source: string, conditions: readonly string[], place: Places) => string;
  /** Whether to look through messages that the index has never had. */
  includesUnfilled: boolean;
}

/** A page of results to read. */
export interface NewestFirst {
  scope: Scope;
  match: Match;
  lag: Lag;
  /** The sessions that all results belong to, where they are few. */
  sessions: readonly bigint[] | undefined;
  /** Where the page before ended. */
  before: readonly [tsMs: bigint, id: bigint] | undefined;
  /** How many results at the most. */
  most: number;
}

/** Where a page ends: its last row. */
export function positionOf({ order_ms: time, id }: HitRow): string {
  return `${time},${id}`;
}

/**
 * Reads a number of a position.
 *
 * @throws INVALID_PAGE_TOKEN
 */
export function numberOf(text: string | undefined): bigint {
  if (!text || !/^-?\d{1,19}$/.test(text)) throw invalidPageToken();
  return BigInt.asIntN(64, BigInt(text));
}

/** Reads a position of positionOf(). */
export function readPosition(position: string | null): [tsMs: bigint, id: bigint] | undefined {
  if (position === null) return undefined;
  const [time, id] = position.split(",");
  return [numberOf(time), numberOf(id)];
}

type Row = HitRow & { of_index: bigint };

/** Reads a page. */
export async function readNewestFirst(
  { db, signal, limits }: CallContext,
  search: NewestFirst,
): Promise<Row[]> {
  const read = async (source: (place: Places) => string) => {
    const { text, values } = pageFrom(search, source, limits);
    return await db.query(plannedOnce<Row>(text), values, signal);
  };
  const { scope, match, sessions, before, most, lag } = search;
  if (sessions) return await read((place) => sources.ofSessions(scope, sessions, place));
  for (let walk = Math.max(limits.searchWalk, 2 * most); ; ) {
    const rows = await read((place) => sources.newest(scope, { most: walk, before }, place));
    const hits = Number(rows[0]?.of_index ?? 0n);
    if (hits >= most) return rows;
    if (await reaches(search, walk)) return rows;
    // Walking on costs about a third for each message of what looking one up costs.
    const rate = hits / walk;
    const next = Math.ceil((3 * most) / Math.max(rate, 1e-9));
    if (next <= walk || next > 3 * rate * Math.max(lag.indexed, walk)) break;
    // Of few sizes, as each makes a statement of its own.
    walk = 2 ** Math.ceil(Math.log2(next));
  }
  return await read((place) => sources.foundNewest(scope, match.inverted(place), place));

  // Whether a walk has come to the end.
  async function reaches({ scope, before }: NewestFirst, walk: number): Promise<boolean> {
    const place = new Places();
    const walked = sources.newest(scope, { most: walk, before }, place);
    const text = `SELECT count(*) FROM ${walked} AS s`;
    const [row] = await db.query(plannedOnce<{ count: bigint }>(text), place.values, signal);
    return Number(row?.count ?? 0n) < walk;
  }
}

const ORDER = "ts_ms DESC, id DESC";
const KEY = "s.conversation_id, s.seq, s.id, s.ts_ms";

function pageFrom(
  { scope, match, lag, sessions, before, most }: NewestFirst,
  source: (place: Places) => string,
  limits: Limits,
): { text: string; values: unknown[] } {
  const place = new Places();
  const after = before
    ? [`(s.ts_ms, s.id) < (${place.of(before[0])}, ${place.of(before[1])})`]
    : [];
  const conditions = [...after, ...otherConditions(scope, place)];
  const one = place.of(most);
  const chosen = (from: string, condition: string) => `
    SELECT s.* FROM ${from} AS s
     WHERE ${[condition, ...conditions].join(" AND ")}
     ORDER BY s.ts_ms DESC, s.id DESC`;
  const hits = (from: string, condition: string) =>
    `(SELECT ${KEY} FROM (${chosen(from, condition)} LIMIT ${one}) AS s)`;
  const parts = ["TABLE of_index"];
  if (lag.changed > 0n) {
    const changed = match.bounded(sources.changed(scope, sessions, place), conditions, place);
    parts.push(hits(changed, match.fresh(place)));
  }
  if (lag.unfilled > 0n && match.includesUnfilled) {
    parts.push(hits(sources.unfilled(scope, sessions, lag, place), match.fresh(place)));
  }
  const keys = `(SELECT *, 0::bigint AS score FROM (${parts.join(" UNION ")}) AS u
                  ORDER BY ${ORDER} LIMIT ${one})`;
  const page = pageOf(keys, ORDER, place.of(limits.pageBytes));
  // In order first, so that no more of them are looked up than the page has.
  const indexed = chosen(source(place), match.indexed(place));
  const text = `
    WITH of_index AS MATERIALIZED (
      SELECT ${KEY} FROM (${indexed} OFFSET 0) AS s ${CURRENT}
       ORDER BY s.ts_ms DESC, s.id DESC
       LIMIT ${one})
    SELECT page.*, (SELECT count(*) FROM of_index) AS of_index FROM (${page}) AS page`;
  return { text, values: place.values };
}
