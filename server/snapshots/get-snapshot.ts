// GetSnapshot: one snapshot, with the state that it holds.
import type { GetSnapshotRequest, GetSnapshotResponse } from "../../gen/agentstore/v1/snapshots.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { UnaryRpc } from "../rpc/method.js";
import { snapshotNotFound, toSnapshot } from "./snapshot.js";
import * as sql from "./sql.js";

export const getSnapshot: UnaryRpc<GetSnapshotRequest, GetSnapshotResponse> = {
  validate({ conversationId, snapshotId }, check) {
    check.positive("conversation_id", conversationId);
    check.positive("snapshot_id", snapshotId);
  },

  async handle({ conversationId, snapshotId }, context) {
    const { db, principal, signal } = context;
    context.note({ conversation_id: conversationId, snapshot: snapshotId });
    const key = [conversationId, principal.tenant];
    const [session] = await db.query(sql.findSession, key, signal);
    if (!session) throw sessionNotFound(conversationId);
    const [row] = await db.query(sql.getSnapshot, [conversationId, snapshotId], signal);
    if (!row) throw snapshotNotFound(conversationId, snapshotId);
    return { snapshot: toSnapshot(row, row.state) };
  },
};
