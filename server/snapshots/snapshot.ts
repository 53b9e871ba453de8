// Snapshots between their row and the contract, and how one is taken.
import type { SessionSnapshot } from "../../gen/agentstore/v1/snapshots.js";
import { limits } from "../config.js";
import type { Queries } from "../db/database.js";
import { RpcError } from "../errors/rpc-error.js";
import { present } from "../present.js";
import { readState } from "../state/state.js";
import type { SessionRow, SnapshotRow } from "./sql.js";
import * as sql from "./sql.js";

/** Makes the SessionSnapshot of a row. */
export function toSnapshot(row: SnapshotRow, state?: string | null): SessionSnapshot {
  return {
    id: row.id,
    conversationId: row.conversation_id,
    name: row.name,
    byPolicy: row.by_policy,
    revision: row.revision,
    lastSeq: row.last_seq,
    messageCount: row.message_count,
    state: state ?? undefined,
    createdBy: row.created_by,
    createdAt: row.created_at,
  };
}

/** Says that a session has no such snapshot. */
export function snapshotNotFound(conversationId: bigint, snapshotId: bigint): RpcError {
  return new RpcError(
    "SNAPSHOT_NOT_FOUND",
    `session ${conversationId} has no snapshot ${snapshotId}`,
    {
      metadata: { conversation_id: String(conversationId), snapshot_id: String(snapshotId) },
    },
  );
}

/**
 * Takes a snapshot of a session whose row the transaction has locked. The oldest ones that a policy
 * took make room for it where need be.
 *
 * @throws TOO_MANY_SNAPSHOTS
 */
export async function takeSnapshot(
  queries: Queries,
  session: SessionRow,
  { name, byPolicy, by }: { name: string; byPolicy: boolean; by: string },
  now: Date,
): Promise<SnapshotRow> {
  const { id } = session;
  const [state, [count]] = await Promise.all([
    readState(queries, id),
    queries.query(sql.countSnapshots, [id]),
  ]);
  const excess = Number(present(count).snapshots) - limits.snapshots + 1;
  if (excess > 0) await makeRoom(queries, id, excess);
  const { revision, last_seq, message_count } = session;
  const [[row]] = await Promise.all([
    queries.query(sql.insertSnapshot, [
      id,
      name,
      byPolicy,
      revision,
      last_seq,
      message_count,
      state?.state,
      by,
      now,
    ]),
    queries.query(sql.markSnapshot, [id, now]),
  ]);
  return present(row);
}

async function makeRoom(queries: Queries, id: bigint, excess: number): Promise<void> {
  const dropped = await queries.query(sql.dropOldestByPolicy, [id, excess]);
  if (dropped.length === excess) return;
  throw new RpcError(
    "TOO_MANY_SNAPSHOTS",
    `session ${id} has ${limits.snapshots} snapshots, the most that it may have`,
    { metadata: { conversation_id: String(id), limit: String(limits.snapshots) } },
  );
}

/** Removes all snapshots of a session whose row the transaction has locked. */
export async function deleteAllSnapshots(queries: Queries, conversationId: bigint): Promise<void> {
  await queries.query(sql.deleteAllSnapshots, [conversationId]);
}
