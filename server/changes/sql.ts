// The statements on the change log.
import { signalling, statement } from "../db/database.js";
import { unnested } from "../db/unnested.js";

const CHANGE_COLUMNS = {
  conversation_id: "bigint",
  tenant_id: "text",
  first_revision: "bigint",
  last_revision: "bigint",
  first_seq: "bigint",
  last_seq: "bigint",
};

// One row a session. All parameters but the last are columns, which may come as NULL.
export const insertChanges = signalling<never>(
  "insert_changes",
  `INSERT INTO session_changes
     (${Object.keys(CHANGE_COLUMNS).join(", ")}, removed, at)
   SELECT ${unnested(CHANGE_COLUMNS)}, false, $7::timestamptz`,
);

export const insertRemoval = signalling<never>(
  "insert_removal",
  `INSERT INTO session_changes
     (conversation_id, tenant_id, first_revision, last_revision, removed, at)
   VALUES ($1, $2, $3, $3, true, $4)`,
);

/** What a transaction did to a session. read.ts reads its columns in their order. */
export interface ChangeRow {
  xid: bigint;
  conversation_id: bigint;
  tenant_id: string;
  first_revision: bigint;
  last_revision: bigint;
  first_seq: bigint | null;
  last_seq: bigint | null;
  removed: boolean;
  /** What has changed the session before is of a lower transaction than this. */
  reached: bigint;
}

/** Where the log stands when it is read. */
export interface LogRow {
  snapshot: string;
  kept_from: bigint;
}

// xid8 has few operators of its own, and its numbers are far from 2^63.
const NUMBER = "::text::bigint";
const LOG = `SELECT pg_current_snapshot()::text AS snapshot, kept_from${NUMBER} AS kept_from
               FROM change_log`;
const CHANGE = `xid${NUMBER} AS xid, conversation_id, tenant_id, first_revision, last_revision,
  first_seq, last_seq, removed, reached${NUMBER} AS reached`;

/** The log, and its last row's transaction. */
export const findEnd = statement<LogRow & { last_xid: bigint | null }>(
  "find_end_of_changes",
  `SELECT log.*, (SELECT xid${NUMBER} FROM session_changes ORDER BY session_changes.xid DESC LIMIT 1)
            AS last_xid
     FROM (${LOG}) AS log`,
);

// What a reader at the position $1 has not seen: of the transactions that ran then, all; of later
// ones, whole transactions, $2 rows or a few more. Two ranges of the key, however long a transaction
// runs. One row with nothing of a change where there is none.
const since = (name: string, reached: string) =>
  statement<LogRow & ChangeRow>(
    name,
    `SELECT c.*, log.*
       FROM (${LOG}) AS log
       LEFT JOIN (
         (SELECT ${CHANGE}
            FROM session_changes
           WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))) ${reached})
          UNION ALL
         (SELECT ${CHANGE}
            FROM session_changes
           WHERE xid >= pg_snapshot_xmax($1::pg_snapshot) ${reached}
           ORDER BY session_changes.xid
           FETCH FIRST $2 ROWS WITH TIES)
       ) AS c ON true
      ORDER BY c.xid, c.conversation_id, c.first_revision`,
  );

export const readChanges = since("read_changes", "");

/** As readChanges, as far as a reader at the position $3 has come. */
export const readChangesUntil = since(
  "read_changes_until",
  "AND xid < pg_snapshot_xmax($3::pg_snapshot) AND pg_visible_in_snapshot(xid, $3::pg_snapshot)",
);

/** Changes of transactions behind $1 and below $2 that a reader at the position $3 has seen. */
export const readBetween = statement<ChangeRow>(
  "read_changes_between",
  `SELECT ${CHANGE}
     FROM session_changes
    WHERE xid > $1::bigint::text::xid8 AND xid < $2::bigint::text::xid8
      AND pg_visible_in_snapshot(xid, $3::pg_snapshot)
    ORDER BY session_changes.xid`,
);

/** Of these sessions ($1), the first revision that a reader at the position $2 has not seen. */
export const findUnseen = statement<{ conversation_id: bigint; first_revision: bigint }>(
  "find_unseen_revisions",
  `SELECT conversation_id, min(first_revision) AS first_revision
     FROM (
       SELECT conversation_id, first_revision
         FROM session_changes
        WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($2::pg_snapshot)))
        UNION ALL
       SELECT conversation_id, first_revision
         FROM session_changes
        WHERE xid >= pg_snapshot_xmax($2::pg_snapshot)
     ) AS unseen
    WHERE conversation_id = ANY ($1)
    GROUP BY conversation_id`,
);

/** Of sessions $1, one that has not come to its revision $2. */
export const findBehind = statement<{ id: bigint }>(
  "find_session_behind_changes",
  `SELECT c.id
     FROM unnest($1::bigint[], $2::bigint[]) AS x (id, last_revision)
     JOIN conversations AS c ON c.id = x.id
    WHERE c.revision < x.last_revision
    LIMIT 1`,
);

/** Wakes the servers that listen. $1 who has made the change. */
export const notify = statement<never>(
  "notify_of_changes",
  `SELECT pg_notify('agentstore_changes', $1)`,
);

/** What tells this cluster from others. */
export const findCluster = statement<{ id: string }>(
  "find_cluster",
  `SELECT system_identifier::text AS id FROM pg_control_system()`,
);

export const insertReader = statement<never>(
  "insert_change_reader",
  `INSERT INTO change_readers (name, position, updated_at)
   VALUES ($1, $2::pg_snapshot, $3)
   ON CONFLICT DO NOTHING`,
);

/** Takes the turn of a reader, unless another process has it. */
export const lockReader = statement<{ position: string }>(
  "lock_change_reader",
  `SELECT position::text AS position FROM change_readers WHERE name = $1 FOR UPDATE SKIP LOCKED`,
);

export const moveReader = statement<never>(
  "move_change_reader",
  `UPDATE change_readers SET position = $2::pg_snapshot, updated_at = $3 WHERE name = $1`,
);

const SEEN_BY_ALL = `NOT EXISTS (
  SELECT FROM change_readers WHERE NOT pg_visible_in_snapshot(xid, position))`;

// Of the first $2 rows, those from before $1 that no reader waits for. None of a transaction that
// has a running one before it: what is kept is then all behind kept_from.
export const deleteOldChanges = statement<{ gone: bigint }>(
  "delete_old_changes",
  `WITH first AS (
     SELECT xid, conversation_id, first_revision, at
       FROM session_changes
      WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
      ORDER BY xid, conversation_id, first_revision
      LIMIT $2
        FOR UPDATE SKIP LOCKED
   ), gone AS (
     DELETE FROM session_changes
      WHERE (xid, conversation_id, first_revision) IN (
        SELECT xid, conversation_id, first_revision FROM first WHERE at < $1 AND ${SEEN_BY_ALL})
     RETURNING xid
   ), moved AS (
     UPDATE change_log
        SET kept_from = greatest(kept_from, (last.xid${NUMBER} + 1)::text::xid8)
       FROM (SELECT xid FROM gone ORDER BY xid DESC LIMIT 1) AS last
   )
   SELECT count(*) AS gone FROM gone`,
);

const NEXT_XID = "pg_snapshot_xmax(pg_current_snapshot())";

/** Whether something in the log names a transaction that this cluster has not come to. */
export const isForeign = statement<{ foreign: boolean }>(
  "is_change_log_foreign",
  `SELECT EXISTS (SELECT FROM session_changes WHERE xid >= ${NEXT_XID})
       OR EXISTS (SELECT FROM change_readers WHERE pg_snapshot_xmax(position) > ${NEXT_XID})
       OR EXISTS (SELECT FROM change_log WHERE kept_from > ${NEXT_XID}) AS foreign`,
);

export const lockLog = statement<never>("lock_change_log", `SELECT FROM change_log FOR UPDATE`);

export const deleteSeen = statement<never>(
  "delete_seen_changes",
  `DELETE FROM session_changes WHERE ${SEEN_BY_ALL}`,
);

export const renumberChanges = statement<never>(
  "renumber_changes",
  `UPDATE session_changes SET xid = pg_current_xact_id(), reached = pg_current_xact_id()`,
);

/** Puts every reader before this transaction. */
export const renumberReaders = statement<never>(
  "renumber_change_readers",
  `UPDATE change_readers
      SET position = (pg_current_xact_id()::text || ':' || pg_current_xact_id() || ':')::pg_snapshot`,
);

export const renumberLog = statement<never>(
  "renumber_change_log",
  `UPDATE change_log SET kept_from = pg_current_xact_id()`,
);
