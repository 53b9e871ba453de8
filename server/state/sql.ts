// The statements on sessions' states.
import { statement } from "../db/database.js";

/** A state as it is stored; all null where none was written. */
export interface StateRow {
  state: string | null;
  revision: bigint | null;
  updated_at: Date | null;
}

export const getState = statement<StateRow>(
  "get_state",
  `SELECT s.state, s.revision, s.updated_at
     FROM conversations AS c
     LEFT JOIN session_states AS s ON s.conversation_id = c.id
    WHERE c.id = $1 AND c.tenant_id = $2`,
);

export const readState = statement<{ state: string; revision: bigint; updated_at: Date }>(
  "read_state",
  `SELECT state, revision, updated_at FROM session_states WHERE conversation_id = $1`,
);

export const findStateRevisions = statement<{ conversation_id: bigint; revision: bigint }>(
  "find_state_revisions",
  `SELECT conversation_id, revision FROM session_states WHERE conversation_id = ANY ($1)`,
);

/** Locks the session's row: whoever writes the state has the session's turn. */
export const lockSession = statement<{ revision: bigint }>(
  "lock_session_for_state",
  `SELECT revision FROM conversations WHERE id = $1 AND tenant_id = $2 FOR UPDATE`,
);

export const raiseRevision = statement<never>(
  "raise_revision_for_state",
  `UPDATE conversations
      SET revision = revision + 1, updated_at = greatest(updated_at, $2)
    WHERE id = $1`,
);

export const putStates = statement<never>(
  "put_states",
  `INSERT INTO session_states AS s (conversation_id, state, revision, updated_at)
   SELECT *, $4::timestamptz FROM unnest($1::bigint[], $2::text[], $3::bigint[])
   ON CONFLICT (conversation_id) DO UPDATE
      SET state = excluded.state, revision = excluded.revision,
          updated_at = greatest(s.updated_at, excluded.updated_at)`,
);

export const deleteState = statement<never>(
  "delete_state",
  `DELETE FROM session_states WHERE conversation_id = $1`,
);
