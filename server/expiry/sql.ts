// The statements that find what is to be removed.
import { statement } from "../db/database.js";
import { ACTIVITY } from "../sessions/sql.js";

/** Sessions past their expires_at: $1 now, $2 those to pass over, $3 how many. */
export const findExpired = statement<{ id: bigint }>(
  "find_expired",
  `SELECT conversation_id AS id
     FROM session_labels
    WHERE expires_at <= $1 AND conversation_id <> ALL ($2::bigint[])
    ORDER BY expires_at
    LIMIT $3`,
);

// The session's own row decides, and whoever holds it may be about to extend it.
export const lockExpired = statement<{ tenant_id: string }>(
  "lock_expired",
  `SELECT tenant_id FROM conversations
    WHERE id = $1 AND expires_at <= $2
      FOR UPDATE SKIP LOCKED`,
);

/** How long a model's sessions are kept. */
export interface RetentionRow {
  tenant_id: string;
  model_id: string;
  retention_ms: bigint;
}

export const findRetentions = statement<RetentionRow>(
  "find_retentions",
  `SELECT tenant_id, model_id, retention_ms FROM model_policies WHERE retention_ms IS NOT NULL`,
);

// Rested: neither said anything nor changed since $3 (milliseconds) and $4 (the same time). A range
// of the index that lists are read from. $5 those to pass over, $6 how many.
export const findRested = statement<{ id: bigint }>(
  "find_rested",
  `SELECT id
     FROM conversations
    WHERE tenant_id = $1 AND model_id = $2 AND ${ACTIVITY} <= $3 AND updated_at <= $4
      AND id <> ALL ($5::bigint[])
    ORDER BY ${ACTIVITY}, id
    LIMIT $6`,
);

export const lockRested = statement<{ tenant_id: string }>(
  "lock_rested",
  `SELECT tenant_id FROM conversations
    WHERE id = $1 AND ${ACTIVITY} <= $2 AND updated_at <= $3
      FOR UPDATE SKIP LOCKED`,
);
