// What of a query the index of words is asked for: of many words the rarest ones, without their places.
// What it names is compared with the whole query afterwards.
//
// To find what is in all of several lists of the index takes as long as the shortest one, times their
// number; and with places, it would compare each message that it names by itself.
import type { Scope } from "./filter.js";
import type { Places } from "./places.js";
import * as sources from "./sources.js";
import type { Terms } from "./terms.js";

/** Of 4, 6, 8, 12 and 16 pairs of a Chinese sentence, 8 and 12 took the least time in all. */
const LOOKED_UP = 10;
/** Among so many of them, spread over the query, the rarest are chosen. */
const COMPARED = 24;
/** Messages that tell which are rare, where nothing else does. */
const SAMPLED = 100;

/**
 * What to look a query up by, as far as the counts of its units in some messages tell.
 *
 * @returns exact: whether it names no more than what has all terms
 */
export function rarestOf(
  { units, all, required }: Terms,
  having: readonly number[],
): { query: string; exact: boolean } {
  const hasNoPlaces = required === "" && units.every(({ counted, follows }) => counted && !follows);
  if (hasNoPlaces && units.length <= LOOKED_UP) return { query: all, exact: true };
  const byRarity = units
    .map(({ needed }, index) => ({ needed, having: having[index] ?? 0 }))
    .toSorted((a, b) => a.having - b.having)
    .flatMap(({ needed }) => needed);
  const rarest = [...new Set(byRarity)].slice(0, LOOKED_UP);
  return { query: rarest.length === 0 ? all : rarest.join(" & "), exact: false };
}

/** As rarestOf(), as far as the newest messages tell; an expression of SQL. */
export function rarestOfNewest({ units, all }: Terms, scope: Scope, place: Places): string {
  const needed = [...new Set(units.flatMap((unit) => unit.needed))];
  if (needed.length === 0) return `${place.of(all)}::tsquery`;
  if (needed.length <= LOOKED_UP) return `${place.of(needed.join(" & "))}::tsquery`;
  const step = Math.max(1, needed.length / COMPARED);
  const compared = needed.filter((_, index) => index % step < 1);
  const sample = sources.newest(scope, { most: SAMPLED }, place);
  return `(
    WITH seen AS MATERIALIZED (SELECT ${sources.WORDS_ONCE} AS words FROM ${sample} AS s)
    SELECT string_agg('(' || query::text || ')', ' & ')::tsquery
      FROM (SELECT query
              FROM (SELECT query::tsquery
                      FROM unnest(${place.of(compared)}::text[]) AS n (query) OFFSET 0) AS n
             ORDER BY (SELECT count(*) FROM seen WHERE words @@ query)
             LIMIT ${LOOKED_UP}) AS rarest)`;
}
