// DeleteSnapshot: removes one snapshot; what it referred to stays.
import type {
  DeleteSnapshotRequest,
  DeleteSnapshotResponse,
} from "../../gen/agentstore/v1/snapshots.js";
import { recordAudit } from "../audit/record.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import type { UnaryRpc } from "../rpc/method.js";
import * as sql from "./sql.js";

export const deleteSnapshot: UnaryRpc<DeleteSnapshotRequest, DeleteSnapshotResponse> = {
  validate({ conversationId, snapshotId, requestId }, check) {
    check.positive("conversation_id", conversationId);
    check.positive("snapshot_id", snapshotId);
    checkRequestId(check, requestId);
  },

  async handle(request, context) {
    const { conversationId, snapshotId, requestId } = request;
    const { tenant } = context.principal;
    const write = {
      conversationId,
      tenant,
      requestId,
      fingerprint: fingerprint(context, "DeleteSnapshot", request),
    };
    context.note({ conversation_id: conversationId, snapshot: snapshotId });
    return await repeatable(context, async (queries) => {
      const [[session], kept] = await Promise.all([
        queries.query(sql.lockSession, [conversationId, tenant]),
        // In a statement after the lock's, so that it sees what the lock waited for.
        findAnswer(queries, write),
      ]);
      if (kept) return { deleted: true, replayed: true };
      if (!session) throw sessionNotFound(conversationId);
      const [deleted] = await queries.query(sql.deleteSnapshot, [conversationId, snapshotId]);
      if (!deleted) return { deleted: false, replayed: false };
      await Promise.all([
        keepAnswer(queries, write, {}, new Date()),
        recordAudit(queries, context, { rpc: "DeleteSnapshot", conversationId, requestId }),
      ]);
      return { deleted: true, replayed: false };
    });
  },
};
