// Holds the change log against the sessions and their messages.
import { expect } from "vitest";
import { withClient } from "./postgres.js";

// What the log says of each session, in the order of its revisions. A session that is gone has given
// its last revision to its removal.
const GAPS_AND_OVERLAPS = `
  SELECT conversation_id::text AS id, first_revision::text, last_revision::text
    FROM (
      SELECT *, lag(last_revision, 1, 0::bigint) OVER w AS before, lag(removed) OVER w AS was_removed
        FROM session_changes
      WINDOW w AS (PARTITION BY conversation_id ORDER BY first_revision)
    ) AS told
   WHERE first_revision <> before + 1 OR last_revision < first_revision OR was_removed
      OR (removed AND (last_revision <> first_revision OR first_seq IS NOT NULL))`;

const ENDS_THAT_DIFFER = `
  SELECT coalesce(c.id, l.conversation_id)::text AS id, c.revision::text, l.revision::text AS logged
    FROM conversations AS c
    FULL JOIN (
      SELECT conversation_id, max(last_revision) AS revision, bool_or(removed) AS removed,
             array_agg(DISTINCT tenant_id) AS tenants
        FROM session_changes GROUP BY conversation_id
    ) AS l ON l.conversation_id = c.id
   WHERE CASE WHEN c.id IS NULL THEN NOT l.removed
         ELSE l.removed IS NOT FALSE OR l.revision <> c.revision OR l.tenants <> ARRAY[c.tenant_id]
         END`;

// The messages whose revisions a change has given, against those that it says it has changed.
const SEQS_THAT_DIFFER = `
  SELECT s.conversation_id::text AS id, s.first_revision::text, s.first_seq::text, s.last_seq::text,
         m.first_seq::text AS first_changed, m.last_seq::text AS last_changed
    FROM session_changes AS s
    JOIN conversations AS c ON c.id = s.conversation_id
   CROSS JOIN LATERAL (
     SELECT min(seq) AS first_seq, max(seq) AS last_seq
       FROM (SELECT seq, revision FROM conversation_messages WHERE conversation_id = c.id
              UNION ALL
             SELECT seq, revision FROM message_versions WHERE conversation_id = c.id) AS told
      WHERE revision BETWEEN s.first_revision AND s.last_revision
   ) AS m
   WHERE (s.first_seq, s.last_seq) IS DISTINCT FROM (m.first_seq, m.last_seq)`;

/**
 * Asserts for every session of a database, all of them made since the log was: the revisions that the
 * log tells of are 1 to the session's own, each once, and the seqs are those of the messages that got
 * them; a session that is gone has a last change that says so.
 */
export async function assertChangesTile(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    for (const query of [GAPS_AND_OVERLAPS, ENDS_THAT_DIFFER, SEQS_THAT_DIFFER]) {
      expect((await client.query(query)).rows).toEqual([]);
    }
    await client.query("COMMIT");
  });
}
