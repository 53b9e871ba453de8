// The words of messages that are not in the index yet.
import type { Places } from "./places.js";
import type { Terms } from "./terms.js";

/** The words of a row `s` with the content of a message. */
export const FRESH_WORDS = "agentstore_words(agentstore_language(s.content), s.content)";

/** A condition on a row `s` with the content of a message, true wherever a word of a query may be. */
export function hinted({ hints }: Terms, place: Places): string {
  return `CASE WHEN octet_length(s.content) > length(s.content)
          THEN normalize(s.content, NFKC) ELSE s.content END ILIKE ANY (${place.of(hints)}::text[])`;
}

/** The newest rows of a source, so many at the most: making their words takes its time. */
export function freshest(source: string, condition: string, most: string): string {
  return `(SELECT * FROM ${source} AS s WHERE ${condition}
            ORDER BY s.ts_ms DESC, s.id DESC LIMIT ${most})`;
}
