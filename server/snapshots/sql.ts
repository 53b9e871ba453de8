// The statements on snapshots.
import { statement } from "../db/database.js";
import { CONTENT_COLUMNS, VERSION_COLUMNS } from "../messages/versions/sql.js";

/** A snapshot as it is stored, without its state. */
export interface SnapshotRow {
  id: bigint;
  conversation_id: bigint;
  name: string;
  by_policy: boolean;
  revision: bigint;
  last_seq: bigint;
  message_count: bigint;
  created_by: string;
  created_at: Date;
}

const SNAPSHOT = `id, conversation_id, name, by_policy, revision, last_seq, message_count,
  created_by, created_at`;

/** A session that a snapshot is taken of, or that goes back to one. */
export interface SessionRow {
  id: bigint;
  tenant_id: string;
  last_seq: bigint;
  revision: bigint;
  message_count: bigint;
}

const FIND_SESSION = `SELECT id, tenant_id, last_seq, revision, message_count
     FROM conversations WHERE id = $1 AND tenant_id = $2`;

export const findSession = statement<SessionRow>("find_session_for_snapshot", FIND_SESSION);

export const lockSession = statement<SessionRow>(
  "lock_session_for_snapshot",
  `${FIND_SESSION} FOR UPDATE`,
);

export const countSnapshots = statement<{ snapshots: bigint }>(
  "count_snapshots",
  `SELECT count(*) AS snapshots FROM session_snapshots WHERE conversation_id = $1`,
);

export const dropOldestByPolicy = statement<{ id: bigint }>(
  "drop_oldest_by_policy",
  `DELETE FROM session_snapshots
    WHERE conversation_id = $1 AND id IN (
      SELECT id FROM session_snapshots
       WHERE conversation_id = $1 AND by_policy ORDER BY id LIMIT $2)
   RETURNING id`,
);

export const insertSnapshot = statement<SnapshotRow>(
  "insert_snapshot",
  `INSERT INTO session_snapshots
     (conversation_id, name, by_policy, revision, last_seq, message_count, state, created_by,
      created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
   RETURNING ${SNAPSHOT}`,
);

/** From here on a policy counts. No change of the session, so its revision stays. */
export const markSnapshot = statement<never>(
  "mark_snapshot",
  `UPDATE conversations SET snapshot_seq = last_seq, snapshot_at = $2 WHERE id = $1`,
);

export const listSnapshots = statement<SnapshotRow>(
  "list_snapshots",
  `SELECT ${SNAPSHOT} FROM session_snapshots
    WHERE conversation_id = $1 AND id < $2
    ORDER BY id DESC
    LIMIT $3`,
);

export const getSnapshot = statement<SnapshotRow & { state: string | null }>(
  "get_snapshot",
  `SELECT ${SNAPSHOT}, state FROM session_snapshots WHERE conversation_id = $1 AND id = $2`,
);

export const deleteSnapshot = statement<{ id: bigint }>(
  "delete_snapshot",
  `DELETE FROM session_snapshots WHERE conversation_id = $1 AND id = $2 RETURNING id`,
);

export const deleteAllSnapshots = statement<never>(
  "delete_all_snapshots",
  `DELETE FROM session_snapshots WHERE conversation_id = $1`,
);

// What a policy says of a session: its own one, or else its model's.
const POLICY = `
  LEFT JOIN model_policies AS p
    ON p.tenant_id = c.tenant_id AND p.model_id = c.model_id AND c.snapshot_every_messages IS NULL`;
const EVERY_MESSAGES = "coalesce(c.snapshot_every_messages, p.every_messages, 0)";
const EVERY_MINUTES = "coalesce(c.snapshot_every_minutes, p.every_minutes, 0)";
// $2 now.
const DUE = `(
     (${EVERY_MESSAGES} > 0 AND c.last_seq - c.snapshot_seq >= ${EVERY_MESSAGES})
     OR (${EVERY_MINUTES} > 0 AND coalesce(c.snapshot_at, c.created_at)
           <= $2::timestamptz - ${EVERY_MINUTES} * interval '1 minute'))`;

/** Of these sessions, those that a snapshot is due of. */
export const findDue = statement<{ id: bigint }>(
  "find_due_snapshots",
  `SELECT c.id FROM conversations AS c ${POLICY} WHERE c.id = ANY ($1) AND ${DUE}`,
);

/** As lockSession, of a session that a snapshot is still due of when the lock is there. */
export const lockDue = statement<SessionRow>(
  "lock_due_snapshot",
  `SELECT c.id, c.tenant_id, c.last_seq, c.revision, c.message_count
     FROM conversations AS c ${POLICY}
    WHERE c.id = $1 AND ${DUE}
      FOR UPDATE OF c`,
);

export const anyPolicy = statement<{ any: boolean }>(
  "any_snapshot_policy",
  `SELECT EXISTS (SELECT 1 FROM conversations WHERE snapshot_every_messages IS NOT NULL)
       OR EXISTS (SELECT 1 FROM model_policies WHERE every_messages > 0 OR every_minutes > 0) AS any`,
);

// A roll-back of the session $1 to the revision $2 with the last_seq $3: messages that came later
// and are not deleted yet, and messages that have changed since. Those whose version of then was
// erased stay as they are.
const IN_FORCE = `
  SELECT version FROM message_versions
   WHERE conversation_id = $1 AND seq = m.seq AND revision <= $2
   ORDER BY version DESC
   LIMIT 1`;
const UNDONE = `m.conversation_id = $1 AND m.revision > $2
  AND CASE WHEN m.seq > $3 THEN m.deleted_at IS NULL ELSE EXISTS (${IN_FORCE}) END`;

export const keepUndone = statement<never>(
  "keep_undone",
  `INSERT INTO message_versions (${VERSION_COLUMNS.join(", ")})
   SELECT ${VERSION_COLUMNS.join(", ")} FROM conversation_messages AS m WHERE ${UNDONE}`,
);

// A later message takes over what it says itself, from the history where it is by now. By ctid, as
// nobody else writes the session meanwhile: where the planner takes a session for short, a join by
// seq could compare each message with all.
// $4 the session's revision, $5 who, $6 when.
export const undo = statement<never>(
  "undo",
  `UPDATE conversation_messages AS m
      SET ${CONTENT_COLUMNS.map((column) => `${column} = u.${column}`).join(", ")},
          version = m.version + 1,
          revision = $4 + u.place,
          change = CASE WHEN m.seq > $3 THEN 'deleted' ELSE 'reverted' END,
          edited_at = CASE WHEN m.seq > $3 THEN m.edited_at ELSE $6 END,
          deleted_at = CASE WHEN m.seq > $3 OR u.was_deleted THEN $6::timestamptz END,
          changed_by = $5,
          changed_at = $6
     FROM (
       SELECT m.ctid AS row, row_number() OVER (ORDER BY m.seq) AS place,
              v.deleted_at IS NOT NULL AS was_deleted,
              ${CONTENT_COLUMNS.map((column) => `v.${column}`).join(", ")}
         FROM conversation_messages AS m
        CROSS JOIN LATERAL (
          SELECT * FROM message_versions
           WHERE conversation_id = $1 AND seq = m.seq
             AND version = CASE WHEN m.seq > $3 THEN m.version ELSE (${IN_FORCE}) END
           LIMIT 1
        ) AS v
        WHERE ${UNDONE}
     ) AS u
    WHERE m.conversation_id = $1 AND m.ctid = u.row`,
);

/** How far the messages' revisions go beyond $2, and which messages those are. */
export const lastRevision = statement<{
  revision: bigint;
  first_seq: bigint | null;
  last_seq: bigint | null;
}>(
  "last_revision_of_messages",
  `SELECT greatest($2::bigint, max(revision)) AS revision,
          min(seq) FILTER (WHERE revision > $2) AS first_seq,
          max(seq) FILTER (WHERE revision > $2) AS last_seq
     FROM conversation_messages WHERE conversation_id = $1`,
);
