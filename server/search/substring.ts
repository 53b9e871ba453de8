// SUBSTRING: messages that contain a text, whatever its case, newest first.
import type { CallContext } from "../rpc/call.js";
import type { Scope } from "./filter.js";
import type { Found, Search } from "./mode.js";
import { type Match, positionOf, readNewestFirst, readPosition } from "./newest-first.js";
import type { Places } from "./places.js";
import { findText, makeSnippet } from "./snippet.js";
import * as sources from "./sources.js";

/** Finds a page. */
export async function readSubstring(context: CallContext, search: Search): Promise<Found> {
  const { scope, query, lag, sessions, position, size } = search;
  const match = containing(scope, query);
  const before = readPosition(position);
  const page = { scope, match, lag, sessions, before, most: size + 1 };
  return {
    rows: await readNewestFirst(context, page),
    positionOf,
    async snippets(messages) {
      return messages.map(({ content }) =>
        makeSnippet(content, findText(content, query), context.limits.snippetCharacters),
      );
    },
  };
}

/**
 * What contains a text. All compare lower case with lower case, as Postgres makes it and as its ILIKE
 * does.
 */
function containing(scope: Scope, text: string): Match {
  const pattern = `%${text.replace(/[\\%_]/g, "\\$&")}%`;
  return {
    indexed: (place) => `s.body LIKE lower(${place.of(pattern)}::text)`,
    inverted: (place) => `(
      agentstore_grams(s.tenant_id, s.model_id, s.body) @@ ${gramsToLookUp(scope, text, place)}
      OR s.long)`,
    fresh: (place) => `s.content COLLATE "default" ILIKE ${place.of(pattern)}`,
    bounded: (source) => source,
    includesUnfilled: true,
  };
}

/** Grams of a text that are enough to look it up by: what they find is compared with the whole text. */
const LOOKED_UP = 6;
/** Among so many of them, spread over the text, the rarest are chosen. */
const COMPARED = 16;
/** Messages that tell which grams are rare. */
const SAMPLED = 100;
const SAMPLED_CHARACTERS = 1_000;

/**
 * The grams to look a text up by: the rarest ones, as far as the newest messages tell. To find what is in
 * all of several lists takes as long as the shortest one, times their number.
 */
function gramsToLookUp(scope: Scope, text: string, place: Places): string {
  const own = `${place.of(scope.tenant)}, ${place.of(scope.modelId)}`;
  const characters = [...text].length;
  if (characters < 5) return `agentstore_gram_query(${own}, lower(${place.of(text)}))`;
  const step = Math.max(1, (characters - 3) / (COMPARED - 1));
  const sample = sources.newest(scope, { most: SAMPLED }, place);
  return `((
    WITH seen AS MATERIALIZED (
      SELECT left(s.body, ${SAMPLED_CHARACTERS}) AS body FROM ${sample} AS s)
    SELECT string_agg('''' || replace(replace(gram, '\\', '\\\\'), '''', '''''') || '''', ' & ')::tsquery
      FROM (SELECT gram
              FROM (SELECT DISTINCT substr(lower(${place.of(text)}), 1 + floor(n * ${step})::int, 3) AS gram
                      FROM generate_series(0, ${COMPARED - 1}) AS n) AS g
             WHERE length(gram) = 3
             ORDER BY (SELECT count(*) FROM seen WHERE strpos(body, gram) > 0)
             LIMIT ${LOOKED_UP}) AS rarest) && agentstore_scope_query(${own}))`;
}
