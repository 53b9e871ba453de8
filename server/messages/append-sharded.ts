// What a group of appends does otherwise on Citus, where statements have to name one session.
import { type Queries, statement } from "../db/database.js";
import type { LockedSessionRow } from "./sql.js";

const lockSession = statement<LockedSessionRow>(
  "lock_session_of_group",
  `SELECT id, tenant_id, last_seq, revision
     FROM conversations
    WHERE id = $1
      FOR UPDATE SKIP LOCKED`,
);

/**
 * As sql.lockSessions: Citus takes no FOR UPDATE over several sessions in one statement. The
 * statements travel together.
 */
export async function lockOneByOne(queries: Queries, ids: bigint[]): Promise<LockedSessionRow[]> {
  const locked = await Promise.all(ids.map((id) => queries.query(lockSession, [id])));
  return locked.flat();
}
