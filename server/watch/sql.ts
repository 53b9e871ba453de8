// The statements that watchers read by.
import { statement } from "../db/database.js";
import { MESSAGE_BYTES, MESSAGE_COLUMNS, type MessageRow } from "../messages/sql.js";

const COLUMNS = MESSAGE_COLUMNS.join(", ");

/** A version of a message, or, where a session has none to tell, nothing of one. */
export type EventRow = {
  watched: bigint;
  session_revision: bigint;
  /** Those of this row and the ones before it. */
  bytes_so_far: bigint;
} & (MessageRow | { seq: null });

// What happened to the messages of sessions, a page for each: sessions and their tenant's, behind
// revisions and seqs, up to revisions; $6 versions and $7 bytes at the most.
//
// First versions lie behind the seq, in the order of their revisions: among the messages that never
// changed, no more than a page of them need be looked at. All other versions are found by the indexes
// on their revisions. A session that is gone has no row.
const eventsOf = (name: string, sessions: string, w: Record<WantedColumn, string>) =>
  statement<EventRow>(
    name,
    `SELECT c.id AS watched, c.revision AS session_revision, e.*
       FROM ${sessions}
       LEFT JOIN LATERAL (
         SELECT *
           FROM (
             SELECT *, sum(bytes) OVER (ORDER BY revision, seq ROWS UNBOUNDED PRECEDING)::bigint
                         AS bytes_so_far
               FROM (
                 SELECT *
                   FROM (
                     (SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes
                        FROM conversation_messages
                       WHERE conversation_id = ${w.id} AND seq > ${w.seq}
                         AND seq <= ${w.seq} + $6 AND version = 1)
                      UNION ALL
                     (SELECT ${COLUMNS}, ${MESSAGE_BYTES}
                        FROM conversation_messages
                       WHERE conversation_id = ${w.id} AND revision > ${w.revision} AND version > 1
                       ORDER BY revision
                       LIMIT $6)
                      UNION ALL
                     (SELECT ${COLUMNS}, ${MESSAGE_BYTES}
                        FROM message_versions
                       WHERE conversation_id = ${w.id} AND revision > ${w.revision}
                       ORDER BY revision
                       LIMIT $6)
                   ) AS versions
                  WHERE revision > ${w.revision} AND revision <= ${w.upTo}
                  ORDER BY revision, seq
                  LIMIT $6
               ) AS first
           ) AS sized
          WHERE bytes_so_far - bytes < $7
       ) AS e ON true
      ORDER BY c.id, e.revision, e.seq`,
  );

type WantedColumn = "id" | "revision" | "seq" | "upTo";

/** $1 to $5: the columns of the sessions. */
export const readEvents = eventsOf(
  "read_events",
  `unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
     AS w (id, tenant_id, after_revision, after_seq, up_to)
   JOIN conversations AS c ON c.id = w.id AND c.tenant_id = w.tenant_id`,
  { id: "w.id", revision: "w.after_revision", seq: "w.after_seq", upTo: "w.up_to" },
);

/** As readEvents, for one session, which routes to its shard on Citus. */
export const readEventsOfOne = eventsOf(
  "read_events_of_one",
  "(SELECT * FROM conversations WHERE id = $1::bigint AND tenant_id = $2::text) AS c",
  { id: "$1::bigint", revision: "$3::bigint", seq: "$4::bigint", upTo: "$5::bigint" },
);

// The last message that had been appended at the revision $2 of the session $1: by halves, as first
// revisions rise with the seqs.
export const findSeq = statement<{ seq: bigint }>(
  "find_seq_of_revision",
  `WITH RECURSIVE search (low, high) AS (
     SELECT 0::bigint, last_seq FROM conversations WHERE id = $1
      UNION ALL
     SELECT CASE WHEN first_revision <= $2 THEN middle ELSE low END,
            CASE WHEN first_revision <= $2 THEN high ELSE middle - 1 END
       FROM search
      CROSS JOIN LATERAL (SELECT (low + high + 1) / 2 AS middle) AS m
      CROSS JOIN LATERAL (
        SELECT coalesce(
          (SELECT revision FROM message_versions
            WHERE conversation_id = $1 AND seq = middle
            ORDER BY version
            LIMIT 1),
          (SELECT revision FROM conversation_messages WHERE conversation_id = $1 AND seq = middle)
        ) AS first_revision
        -- Looked up once, not for each of the columns above.
        OFFSET 0
      ) AS f
      WHERE low < high
   )
   SELECT low AS seq FROM search WHERE low >= high`,
);

/** Where a session stands. */
export const findHead = statement<{ revision: bigint; last_seq: bigint }>(
  "find_head",
  `SELECT revision, last_seq FROM conversations WHERE id = $1 AND tenant_id = $2`,
);

/** What sessions are chosen by. */
export interface LabelsRow {
  id: bigint;
  model_id: string;
  owner_id: string;
  tags: string[];
}

const LABELS = "id, model_id, owner_id, tags";

/** Those of these sessions ($1) that are the tenant's ($2). */
export const findLabels = statement<LabelsRow>(
  "find_labels",
  `SELECT ${LABELS} FROM conversations WHERE id = ANY ($1) AND tenant_id = $2`,
);

/** The tenant's ($1) next $3 sessions behind an id ($2). */
export const nextSessions = statement<LabelsRow & { revision: bigint }>(
  "next_sessions_to_watch",
  `SELECT ${LABELS}, revision
     FROM conversations
    WHERE id > $2 AND tenant_id = $1
    ORDER BY id
    LIMIT $3`,
);
