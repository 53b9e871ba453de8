// The statements that make a session out of another one.
import { statement } from "../db/database.js";
import { VERSION_COLUMNS } from "../messages/versions/sql.js";

/** A point of a session's life, from one look at it. */
export interface PointRow {
  last_seq: bigint;
  revision: bigint;
  state: string | null;
}

export const readPoint = statement<PointRow>(
  "read_point",
  `SELECT c.last_seq, c.revision, s.state
     FROM conversations AS c
     LEFT JOIN session_states AS s ON s.conversation_id = c.id
    WHERE c.id = $1 AND c.tenant_id = $2`,
);

// All that callers have set of the session ($1), and where its messages come from. Its counters
// follow with them.
export const insertFork = statement<{ id: bigint }>(
  "insert_fork",
  `INSERT INTO conversations
     (tenant_id, model_id, title, owner_id, tags, metadata, expires_at, snapshot_every_messages,
      snapshot_every_minutes, created_at, updated_at, last_seq, snapshot_seq,
      parent_conversation_id, parent_seq)
   SELECT tenant_id, model_id, title, owner_id, tags, metadata, expires_at,
          snapshot_every_messages, snapshot_every_minutes, $3::timestamptz, $3, $4::bigint, $4,
          id, $4
     FROM conversations
    WHERE id = $1 AND tenant_id = $2
   RETURNING id`,
);

// Each begins anew in the fork, but for what it says and whether it is deleted.
const BEGUN: Record<string, string> = {
  conversation_id: "$4::bigint",
  version: "1",
  revision: "1 + seq",
  change: "'forked'",
  edited_at: "NULL",
  changed_by: "$5::text",
  changed_at: "$6::timestamptz",
};
const COLUMNS = VERSION_COLUMNS.filter((column) => column !== "id");
const SOURCE = COLUMNS.join(", ");
const BEGUN_IN_SHARD: Record<string, string> = { ...BEGUN, seq: "m.seq", revision: "1 + m.seq" };
const inForce = (column: string) => `CASE WHEN v.seq IS NULL THEN m.${column} ELSE v.${column} END`;

// The versions that were in force at the revision $3 of the session $1, up to the seq $2, as messages
// of the session $4. One statement sees one state of the session, however busy it is, so nobody has
// to wait. A version that was erased since is replaced by what was left of the message.
export const copyMessages = statement<never>(
  "copy_messages",
  `INSERT INTO conversation_messages (${SOURCE})
   SELECT ${COLUMNS.map((column) => BEGUN[column] ?? column).join(", ")}
     FROM (
       SELECT ${SOURCE}
         FROM conversation_messages
        WHERE conversation_id = $1 AND seq <= $2 AND revision <= $3
        UNION ALL
       SELECT ${COLUMNS.map((column) => `v.${column}`).join(", ")}
         FROM conversation_messages AS m
        CROSS JOIN LATERAL (
          SELECT ${SOURCE}
            FROM (
              (SELECT ${SOURCE}, 1 AS choice
                 FROM message_versions
                WHERE conversation_id = $1 AND seq = m.seq AND revision <= $3
                ORDER BY version DESC
                LIMIT 1)
               UNION ALL
              SELECT ${COLUMNS.map((column) => `m.${column}`).join(", ")}, 2
            ) AS found
           ORDER BY choice
           LIMIT 1
        ) AS v
        WHERE m.conversation_id = $1 AND m.seq <= $2 AND m.revision > $3
     ) AS in_force
    ORDER BY seq`,
);

/**
 * As copyMessages, on Citus, where each part of a UNION would see a state of its own: as one join.
 * Elsewhere that is no faster, and where Postgres has a JIT it may be slower.
 */
export const copyMessagesOfShard = statement<never>(
  "copy_messages_of_shard",
  `INSERT INTO conversation_messages (${SOURCE})
   SELECT ${COLUMNS.map((column) => BEGUN_IN_SHARD[column] ?? inForce(column)).join(", ")}
     FROM conversation_messages AS m
     LEFT JOIN LATERAL (
       SELECT * FROM message_versions
        WHERE m.revision > $3 AND conversation_id = $1 AND conversation_id = m.conversation_id
          AND seq = m.seq AND revision <= $3
        ORDER BY version DESC
        LIMIT 1
     ) AS v ON true
    WHERE m.conversation_id = $1 AND m.seq <= $2
    ORDER BY m.seq`,
);

// Shared: it keeps the session from being removed, and lets everything else pass.
export const holdSession = statement<{ id: bigint }>(
  "hold_session",
  `SELECT id FROM conversations WHERE id = $1 AND tenant_id = $2 FOR KEY SHARE`,
);
