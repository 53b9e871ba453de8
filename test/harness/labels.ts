// Recomputes from the sessions' rows what sessions are found by.
import { expect } from "vitest";
import { withClient } from "./postgres.js";

const LABELS_THAT_DIFFER = `
  SELECT coalesce(c.id, l.conversation_id)::text AS id
    FROM conversations AS c FULL JOIN session_labels AS l ON l.conversation_id = c.id
   WHERE c.id IS NULL OR l.conversation_id IS NULL
      OR (l.tenant_id, l.owner_id, l.created_at) <> (c.tenant_id, c.owner_id, c.created_at)
      OR l.expires_at IS DISTINCT FROM c.expires_at
      OR l.metadata IS DISTINCT FROM
         CASE WHEN c.metadata IS NOT NULL THEN jsonb_build_object(c.tenant_id, c.metadata) END`;

const TAGS_THAT_DIFFER = `
  WITH told AS (SELECT id, unnest(tags) AS tag, tenant_id FROM conversations),
       kept AS (SELECT conversation_id, tag, tenant_id FROM session_tags)
  (TABLE told EXCEPT TABLE kept) UNION ALL (TABLE kept EXCEPT TABLE told)`;

const STRAY_STATES = `
  SELECT s.conversation_id::text AS id
    FROM session_states AS s LEFT JOIN conversations AS c ON c.id = s.conversation_id
   WHERE c.id IS NULL OR s.revision > c.revision OR s.revision < 1`;

/** Asserts that labels and tags agree with the sessions' rows, and that states belong to sessions. */
export async function assertLabelsAgree(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    for (const query of [LABELS_THAT_DIFFER, TAGS_THAT_DIFFER, STRAY_STATES]) {
      expect((await client.query(query)).rows).toEqual([]);
    }
    await client.query("COMMIT");
  });
}
