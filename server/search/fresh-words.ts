// The words of messages that are not in the index yet.
import type { Places } from "./places.js";

/** The words of a row `s` with the content of a message. */
export const FRESH_WORDS = "agentstore_words(agentstore_language(s.content), s.content)";

const NORMALIZED = `(CASE WHEN octet_length(s.content) > length(s.content)
                          THEN normalize(s.content, NFKC) ELSE s.content END) COLLATE "default"`;

/** A condition on a row `s` with the content of a message, true wherever these patterns may be. */
export function looksLike(patterns: readonly string[], place: Places): string {
  const conditions = patterns
    .filter((pattern) => pattern !== "")
    .map((pattern) => `${NORMALIZED} ~* ${place.of(pattern)}`);
  return conditions.length === 0 ? "true" : `(${conditions.join(" AND ")})`;
}

/** The newest rows of a source, so many at the most: making their words takes its time. */
export function freshest(source: string, conditions: readonly string[], most: string): string {
  return `(SELECT * FROM ${source} AS s WHERE ${conditions.join(" AND ")}
            ORDER BY s.ts_ms DESC, s.id DESC LIMIT ${most})`;
}
