// The statements on leases.
import { statement } from "../db/database.js";

/** What a session's row holds of its lease, beside the time of the database. */
export interface LeaseRow {
  /** The last token given out; 0 when there was none. */
  lease_token: bigint;
  /** Null when nobody holds the lease. */
  lease_holder: string | null;
  lease_expires_at: Date | null;
  now: Date;
}

// Waits for writes to the session that are in flight. What is to be decided on
// is read in a statement after this one, by the time at which the wait was over.
export const lockLease = statement<{ id: bigint }>(
  "lock_lease",
  `SELECT id FROM conversations WHERE id = $1 AND tenant_id = $2 FOR UPDATE`,
);

export const getLease = statement<LeaseRow>(
  "get_lease",
  `SELECT lease_token, lease_holder, lease_expires_at, statement_timestamp() AS now
     FROM conversations
    WHERE id = $1 AND tenant_id = $2`,
);

export const setLease = statement<never>(
  "set_lease",
  `UPDATE conversations
      SET lease_token = $2, lease_holder = $3, lease_expires_at = $4
    WHERE id = $1`,
);

export const releaseLease = statement<{ released: boolean }>(
  "release_lease",
  `UPDATE conversations
      SET lease_holder = NULL, lease_expires_at = NULL
    WHERE id = $1 AND tenant_id = $2 AND lease_token = $3 AND lease_holder IS NOT NULL
    RETURNING true AS released`,
);
