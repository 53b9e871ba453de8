// FULL_TEXT, best first: how well messages match (BM25), among those that are worth a look.
//
// A message need not have all words. Looked at are, by the index of words, messages that have them all and
// those that have one of the rarer ones: of 1,000, whichever the index names first, if there are more.
// Where many of the newest 1,500 messages of what is searched have all words, these are looked at instead.
import { plannedEachTime } from "../db/database.js";
import type { CallContext, Limits } from "../rpc/call.js";
import { invalidPageToken } from "../rpc/page-token.js";
import { otherConditions, type Scope } from "./filter.js";
import { FRESH_WORDS, freshest, looksLike } from "./fresh-words.js";
import type { Lag } from "./lag.js";
import { rarestOf } from "./look-up.js";
import { numberOf } from "./newest-first.js";
import { readOneMoment } from "./one-moment.js";
import { Places } from "./places.js";
import type { Ranked } from "./ranking.js";
import * as sources from "./sources.js";
import { WORDS_ONCE } from "./sources.js";
import { BEST_FIRST, type HitRow, pageOf, plannedOnce } from "./sql.js";
import type { Terms, Unit } from "./terms.js";

/** What of a query later pages keep from the first one, so that scores stay what they were. */
export interface Ranking {
  /** How many messages were sampled, and how many of them have each unit, and all. */
  sampled: number;
  having: number[];
  havingAll: number;
  /** Different words of a message on average. */
  averageSize: number;
  /** About how many messages are indexed. */
  indexed: number;
  /** Where the newest messages end that are looked at; absent where the index of words names them. */
  floor?: [tsMs: string, id: string];
}

/** A page of results to read. */
export interface BestFirst {
  scope: Scope;
  terms: Terms;
  lag: Lag;
  /** The sessions that all results belong to, where they are few. */
  sessions: readonly bigint[] | undefined;
  ranking: Ranking;
  /** Where the page before ended. */
  before: readonly [score: bigint, conversationId: bigint, seq: bigint] | undefined;
  /** How many results at the most. */
  most: number;
}

/** Where a page ends: its last row, and what its rank was made of. */
export function positionOf(row: HitRow, ranking: Ranking): string {
  const last = [row.score, row.conversation_id, row.seq].map(String);
  return JSON.stringify({ ranking, last });
}

/** Reads a position of positionOf(). */
export function readPosition(
  position: string | null,
): { ranking: Ranking; before: [bigint, bigint, bigint] } | undefined {
  if (position === null) return undefined;
  let read: unknown;
  try {
    read = JSON.parse(position);
  } catch {
    throw invalidPageToken();
  }
  if (!isPosition(read)) throw invalidPageToken();
  const { ranking, last } = read;
  return { ranking, before: [numberOf(last[0]), numberOf(last[1]), numberOf(last[2])] };
}

function isPosition(value: unknown): value is { ranking: Ranking; last: string[] } {
  const { ranking, last } = (value ?? {}) as { ranking?: Partial<Ranking>; last?: unknown };
  return (
    Array.isArray(last) &&
    Array.isArray(ranking?.having) &&
    (ranking.floor === undefined || Array.isArray(ranking.floor)) &&
    [
      ...ranking.having,
      ranking.havingAll,
      ranking.sampled,
      ranking.averageSize,
      ranking.indexed,
    ].every((number) => typeof number === "number" && Number.isFinite(number))
  );
}

/** Finds out how common a query's words are, and which messages to look at. */
export async function sampleRanking(
  { db, signal, limits }: CallContext,
  { scope, terms, lag, sessions }: Pick<BestFirst, "scope" | "terms" | "lag" | "sessions">,
): Promise<Ranking> {
  const place = new Places();
  const sample = sources.newest(scope, { most: limits.searchSample }, place);
  const looked = sources.newest(scope, { most: limits.searchRankedNewest }, place);
  const count = (query: string) => `count(*) FILTER (WHERE words @@ ${place.of(query)}::tsquery)`;
  const all = count(terms.all);
  const counts = [...terms.units.map(({ query }) => count(query)), all];
  // To find the floor takes its time, and only where rareUnits() are undefined it is needed.
  const [row] = await db.query(
    plannedOnce<SampleRow>(`
      SELECT count(*) AS sampled, avg(size)::float8 AS size, ARRAY[${counts.join(", ")}] AS having,
             CASE WHEN count(*) < ${limits.searchSample}
                    OR ${all} * ${limits.searchRankedNewest} >= count(*) * ${limits.searchRankedNewestHits}
                  THEN (SELECT ARRAY[ts_ms, id] FROM ${looked} AS s ORDER BY ts_ms, id LIMIT 1)
             END AS floor
        FROM (SELECT ${WORDS_ONCE} AS words, size FROM ${sample} AS s OFFSET 0) AS sample`),
    place.values,
    signal,
  );
  const having = (row?.having ?? []).map(Number);
  const ranking: Ranking = {
    sampled: Number(row?.sampled ?? 0n),
    having: having.slice(0, -1),
    havingAll: having.at(-1) ?? 0,
    averageSize: Math.max(1, row?.size ?? USUAL_SIZE),
    indexed: lag.indexed,
  };
  if (row?.floor && !sessions && !rareUnits(terms.units, ranking, limits)) {
    ranking.floor = row.floor;
  }
  return ranking;
}

/** One row: a sample of the newest messages, and where those end that are ranked if need be. */
interface SampleRow {
  sampled: bigint;
  size: number | null;
  /** How many have each query. */
  having: string[];
  floor: [tsMs: string, id: string] | null;
}

/**
 * The units of which each is rare enough for the messages that have it to be ranked, beside those that
 * have all units. Undefined where enough of the newest messages have all.
 */
function rareUnits(
  units: Unit[],
  { sampled, having, havingAll, indexed }: Ranking,
  limits: Limits,
): Unit[] | undefined {
  // The sample was all there is: looking at it is exact.
  if (sampled < limits.searchSample) return undefined;
  const newestHits = (havingAll / sampled) * limits.searchRankedNewest;
  if (newestHits >= limits.searchRankedNewestHits) return undefined;
  const expected = (hits: number) => (Math.max(hits, 0.5) / sampled) * indexed;
  let total = 0;
  const rare: Unit[] = [];
  const byRarity = units
    .map((unit, index) => ({ unit, expected: expected(having[index] ?? 0) }))
    .sort((a, b) => a.expected - b.expected);
  for (const { unit, expected } of byRarity) {
    total += expected;
    if (total > limits.searchPartialCandidates) break;
    rare.push(unit);
  }
  return rare;
}

/** Reads a page. */
export async function readBestFirst(context: CallContext, search: BestFirst): Promise<HitRow[]> {
  const { limits } = context;
  const { keys, place, planned } = keysFrom(search, limits);
  const { sharded } = search.scope;
  const text = pageOf(keys, BEST_FIRST, { bytes: place.of(limits.pageBytes), sharded });
  return await readOneMoment(context, planned<HitRow>(text), place.values);
}

/** Reads the keys of the best messages alone, best first. */
export async function readBestKeys(context: CallContext, search: BestFirst): Promise<Ranked[]> {
  const { keys, place, planned } = keysFrom(search, context.limits);
  const text = `SELECT conversation_id, seq, score FROM ${keys} AS k ORDER BY ${BEST_FIRST}`;
  return await readOneMoment(context, planned<Ranked>(text), place.values);
}

function keysFrom(
  search: BestFirst,
  limits: Limits,
): { keys: string; place: Places; planned: typeof plannedOnce } {
  const { scope, terms, lag, sessions, ranking, before, most } = search;
  const place = new Places();
  const conditions = otherConditions(scope, place);
  const units = tellingUnits(terms.units, ranking, limits.searchRankingTerms);
  const rare = rareUnits(terms.units, ranking, limits);
  const any = units.map(({ query }) => `(${query})`).join(" | ");
  const hasAny = () =>
    `s.words @@ ${place.of(terms.required === "" ? any : `(${any}) & ${terms.required}`)}::tsquery`;
  const source = looked();
  const parts = [
    `(SELECT s.*, ${source.complete} AS complete
        FROM (SELECT s.conversation_id, s.seq, s.id, s.ts_ms, s.revision, ${WORDS_ONCE} AS words, s.size
                FROM ${source.rows} AS s
               WHERE ${["true", ...conditions].join(" AND ")}
              OFFSET 0) AS s
       WHERE ${source.condition}
       LIMIT ${place.of(limits.searchCandidates)})`,
  ];
  if (lag.changed > 0n) {
    const changed = freshest(
      sources.changed(scope, sessions, place),
      [mayCount(), ...conditions],
      place.of(limits.searchFresh),
    );
    parts.push(`
     (SELECT s.conversation_id, s.seq, s.id, s.ts_ms, NULL, s.words, length(s.words), false
        FROM (SELECT s.*, ${FRESH_WORDS} AS words FROM ${changed} AS s OFFSET 0) AS s
       WHERE ${hasAny()})`);
  }
  const behind = before
    ? `AND (s.score, s.conversation_id, s.seq) < (${before.map((value) => place.of(value)).join(", ")})`
    : "";
  const { ranks, score, enough } = scoreOf(units, ranking, place);
  const ranked = `
    SELECT s.*
      FROM (SELECT c.conversation_id, c.seq, c.id, c.ts_ms, c.revision,
                   round(1e6 * ${score})::bigint AS score, ${enough} AS enough
              FROM (${parts.join(" UNION ALL ")}) AS c
             CROSS JOIN LATERAL (SELECT ${ranks} OFFSET 0) AS r) AS s
     WHERE s.enough ${behind}
     ORDER BY s.score DESC, s.conversation_id DESC, s.seq DESC
    OFFSET 0`;
  // What is read from the messages themselves is current.
  const current = sources.current(scope, "coalesce(s.revision, m.revision)");
  const keys = `(SELECT s.conversation_id, s.seq, s.id, s.ts_ms, s.score
                   FROM (${ranked}) AS s ${current}
                  ORDER BY s.score DESC, s.conversation_id DESC, s.seq DESC
                  LIMIT ${place.of(most)})`;
  // Where the index of words names what to look at, there is but one plan; and but few texts, as long as
  // they do not tell of what is not indexed.
  const once = rare && !sessions && lag.changed === 0n && units.every(({ counted }) => counted);
  return { keys, place, planned: once ? plannedOnce : plannedEachTime };

  // Where to look, what has to hold there, and whether that is all terms.
  function looked(): { rows: string; condition: string; complete: boolean } {
    if (sessions || !rare) {
      const rows = sessions
        ? sources.ofSessions(scope, sessions, place)
        : sources.from(scope, ranking.floor, place);
      return { rows, condition: hasAny(), complete: false };
    }
    const { tenant, modelId } = scope;
    const own = `agentstore_scope_query(${place.of(tenant)}, ${place.of(modelId)})`;
    const each = rare.map(({ query }) =>
      terms.required === "" ? `(${query})` : `((${query}) & ${terms.required})`,
    );
    const named = (query: string) =>
      sources.found(scope, `s.words @@ (SELECT ${place.of(query)}::tsquery && ${own})`, place);
    if (each.length === 0) {
      const { query, exact } = rarestOf(terms, ranking.having);
      const condition = exact ? "true" : `s.words @@ ${place.of(terms.all)}::tsquery`;
      return { rows: named(query), condition, complete: true };
    }
    // What has all terms is among those that have one of them, unless another one would do as well.
    const all = rare.some(({ needed }) => needed.length > 0) ? [] : [`(${terms.all})`];
    return { rows: named([...all, ...each].join(" | ")), condition: "true", complete: false };
  }

  /** Whether a text that is not indexed yet may be one of those that are ranked. */
  function mayCount(): string {
    if (!rare) return looksLike([units.map(({ pattern }) => pattern).join("|")], place);
    const each = rare.map(({ pattern }) => looksLike([pattern], place));
    return `(${[looksLike(terms.patterns, place), ...each].join(" OR ")})`;
  }
}

// BM25, with how much a word counts when it is there again, and how much the length of a message: what
// is usual for short texts.
const AGAIN = 0.9;
const LENGTH = 0.4;
/** How many different words a message has, where nothing is known of others. */
const USUAL_SIZE = 30;
/** What two words count beyond themselves when they stand side by side, of the less telling one. */
const SIDE_BY_SIDE = 0.5;
/** What a message loses at the most for words that it does not have, beyond what they count. */
const MISSING = 0.5;
/** What part of the words has to be there, weighed by how telling they are. */
const LEAST = 0.3;

/** A unit with what it counts. */
interface WeightedUnit extends Unit {
  weight: number;
  /** Its place in the query. */
  index: number;
}

/** The units that say most, in the order of the query. */
function tellingUnits(units: Unit[], { sampled, having }: Ranking, most: number): WeightedUnit[] {
  const weighted = units.map((unit, index) => {
    const share = ((having[index] ?? 0) + 0.5) / (sampled + 1);
    return { ...unit, index, weight: Math.log(1 + (1 - share) / share) };
  });
  return weighted
    .toSorted((a, b) => b.weight - a.weight)
    .slice(0, most)
    .toSorted((a, b) => a.index - b.index);
}

/**
 * The score of a row `c` of words and size. ts_rank() of a single word is, for how often it is there,
 * 0.1 * 6/pi² * the sum of 1/n²; from the sum follows the number, but for a few hundredths.
 */
function scoreOf(
  units: WeightedUnit[],
  { averageSize }: Ranking,
  place: Places,
): { ranks: string; score: string; enough: string } {
  const size = `c.size::float8 / ${place.of(averageSize)}::float8`;
  const terms: string[] = [];
  const there: string[] = [];
  const ranks = [`${AGAIN} * (1 - ${LENGTH} + ${LENGTH} * ${size}) AS norm`];
  units.forEach(({ query, counted, entries, follows, needed, index, weight: weighs }, n) => {
    const rank = `r.r${n}`;
    const condition = `${place.of(query)}::tsquery`;
    ranks.push(
      `${counted ? `ts_rank(c.words, ${condition})` : `(c.words @@ ${condition})::int`} AS r${n}`,
    );
    const weight = `${place.of(weighs)}::float8`;
    const times = counted
      ? `(1 / greatest(1.644934 - ${rank} * ${place.of((16.449341 * entries).toFixed(4))}::float8, 0.02) - 0.5)`
      : "1";
    const value = `${weight} * ${times} * ${1 + AGAIN} / (${times} + r.norm)`;
    terms.push(`CASE WHEN ${rank} > 0 THEN ${value} ELSE 0 END`);
    there.push(`CASE WHEN ${rank} > 0 THEN ${weight} ELSE 0 END`);
    const previous = units[n - 1];
    if (previous) {
      const together = previous.index === index - 1 && counted && previous.counted;
      const phrase = together ? `(${previous.query}) <-> (${query})` : null;
      const extra = (follows ? 2 : 1) * SIDE_BY_SIDE * Math.min(weighs, previous.weight);
      // What has all terms, has the characters of each in their order.
      const known = together && follows && needed.length > 0;
      terms.push(
        `CASE WHEN r.r${n - 1} > 0 AND ${rank} > 0
               AND (c.complete AND ${place.of(known)}::boolean OR c.words @@ ${place.of(phrase)}::tsquery)
              THEN ${place.of(extra)}::float8 ELSE 0 END`,
      );
    }
  });
  const total = units.reduce((sum, { weight }) => sum + weight, 0);
  return {
    ranks: ranks.join(", "),
    score: `(${terms.join(" + ")})
            * (${1 - MISSING} + ${MISSING} * (${there.join(" + ")}) / ${place.of(total)}::float8)`,
    enough: `(${there.join(" + ")}) >= ${place.of(LEAST * total)}::float8`,
  };
}
