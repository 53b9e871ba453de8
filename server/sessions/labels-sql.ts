// The statements on the tables that sessions are found by.
import { statement } from "../db/database.js";

export const putLabels = statement<never>(
  "put_labels",
  `INSERT INTO session_labels AS l
     (conversation_id, tenant_id, owner_id, metadata, created_at, expires_at)
   SELECT id, tenant_id, owner_id,
          CASE WHEN metadata IS NOT NULL THEN jsonb_build_object(tenant_id, metadata) END,
          created_at, expires_at
     FROM conversations
    WHERE id = $1
   ON CONFLICT (conversation_id) DO UPDATE
      SET owner_id = excluded.owner_id, metadata = excluded.metadata,
          expires_at = excluded.expires_at
    WHERE (l.owner_id, l.metadata, l.expires_at)
          IS DISTINCT FROM (excluded.owner_id, excluded.metadata, excluded.expires_at)`,
);

export const dropTags = statement<never>(
  "drop_tags",
  `DELETE FROM session_tags
    WHERE conversation_id = $1
      AND tag <> ALL (SELECT unnest(tags) FROM conversations WHERE id = $1)`,
);

export const putTags = statement<never>(
  "put_tags",
  `INSERT INTO session_tags (conversation_id, tag, tenant_id)
   SELECT id, unnest(tags), tenant_id FROM conversations WHERE id = $1
   ON CONFLICT DO NOTHING`,
);

export const deleteLabels = statement<never>(
  "delete_labels",
  `DELETE FROM session_labels WHERE conversation_id = $1`,
);

export const deleteTags = statement<never>(
  "delete_tags",
  `DELETE FROM session_tags WHERE conversation_id = $1`,
);

/** A tag and how many sessions have it. */
export interface TagRow {
  tag: string;
  sessions: bigint;
}

// A step of the index from each tag to the next one, then a range of it for each tag of the page:
// what the page does not show is not read. $1 tenant, $2 the last tag seen, $3 how many.
export const listTags = statement<TagRow>(
  "list_tags",
  `WITH RECURSIVE page AS (
     (SELECT tag, 1 AS place
        FROM session_tags WHERE tenant_id = $1 AND tag > $2 ORDER BY tag LIMIT 1)
     UNION ALL
     SELECT next.tag, page.place + 1
       FROM page
      CROSS JOIN LATERAL (
        SELECT tag FROM session_tags
         WHERE tenant_id = $1 AND tag > page.tag ORDER BY tag LIMIT 1
      ) AS next
      WHERE page.place < $3
   )
   SELECT tag,
          (SELECT count(*) FROM session_tags AS t
            WHERE t.tenant_id = $1 AND t.tag = page.tag) AS sessions
     FROM page
    ORDER BY place`,
);

/** As listTags, on Citus, which takes no recursion over shards: reads all tags behind the last one. */
export const listTagsOfShards = statement<TagRow>(
  "list_tags_of_shards",
  `SELECT tag, count(*) AS sessions
     FROM session_tags
    WHERE tenant_id = $1 AND tag > $2
    GROUP BY tag
    ORDER BY tag
    LIMIT $3`,
);

// $1 the session that is forked, $2 the fork as it begins, $3 the last message taken over.
export const recordAncestry = statement<never>(
  "record_ancestry",
  `INSERT INTO session_ancestors
     (conversation_id, ancestor_id, tenant_id, after_seq, seq, inherited, owner_id)
   WITH parent AS MATERIALIZED (
     SELECT id, tenant_id, coalesce(parent_seq, 0) AS after_seq FROM conversations WHERE id = $1
   ), fork AS MATERIALIZED (
     SELECT ARRAY(
              SELECT sha256(convert_to(part, 'UTF8'))
                FROM unnest(ARRAY[nullif(f.title, ''), nullif(f.tags, '{}')::text,
                                  f.metadata::text, s.state]) AS part
               WHERE part IS NOT NULL) AS inherited
       FROM conversations AS f
       LEFT JOIN session_states AS s ON s.conversation_id = f.id
      WHERE f.id = $2
   )
   SELECT $2::bigint, id, tenant_id, after_seq, $3::bigint, inherited, '' FROM parent, fork
   UNION ALL
   SELECT $2, ancestor_id, tenant_id, after_seq, least(seq, $3), inherited, owner_id
     FROM session_ancestors
    WHERE conversation_id = $1`,
);

// Whose the messages were that its forks keep, once the session's own row cannot say it any more.
export const leaveOwnerToForks = statement<never>(
  "leave_owner_to_forks",
  `WITH c AS MATERIALIZED (SELECT owner_id FROM conversations WHERE id = $1)
   UPDATE session_ancestors SET owner_id = c.owner_id FROM c WHERE ancestor_id = $1`,
);

export const deleteAncestry = statement<never>(
  "delete_ancestry",
  `DELETE FROM session_ancestors WHERE conversation_id = $1`,
);
