// What one writes first: the ways to search the messages' table that Postgres has by itself.
import type pg from "pg";

const HITS = 10;

/** Returns the best messages for a query as `CONVERSATION_ID/SEQ`, best first. */
export type Search = (query: string) => Promise<string[]>;

const ILIKE = `
  SELECT conversation_id || '/' || seq AS key FROM conversation_messages
   WHERE content ILIKE '%' || $1 || '%'
   ORDER BY ts_ms DESC, id DESC LIMIT ${HITS}`;

const ranked = (configuration: string, query: string) => `
  SELECT conversation_id || '/' || seq AS key
    FROM conversation_messages, (SELECT ${query} AS query) AS asked
   WHERE to_tsvector('${configuration}', content) @@ query
   ORDER BY ts_rank(to_tsvector('${configuration}', content), query) DESC, id DESC
   LIMIT ${HITS}`;

// All words of the query have to occur, or any of them.
const allWords = (configuration: string) => `plainto_tsquery('${configuration}', $1)`;
const anyWord = (configuration: string) =>
  `replace(plainto_tsquery('${configuration}', $1)::text, '&', '|')::tsquery`;

/** The searches by their names. */
export function plainSearches(client: pg.Client): Record<string, Search> {
  const search =
    (text: string): Search =>
    async (query) =>
      (await client.query<{ key: string }>(text, [query])).rows.map(({ key }) => key);
  const searches: Record<string, Search> = { ILIKE: search(ILIKE.replace("$1", LITERAL)) };
  for (const configuration of ["simple", "english"]) {
    searches[`ts_rank ${configuration}, all words`] = search(
      ranked(configuration, allWords(configuration)),
    );
    searches[`ts_rank ${configuration}, any word`] = search(
      ranked(configuration, anyWord(configuration)),
    );
  }
  return searches;
}

const LITERAL = String.raw`regexp_replace($1, '([\\%_])', '\\\1', 'g')`;
