// RestoreSnapshot: back to a snapshot, in a new session or in the session itself.
import { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import {
  RestoreMode,
  type RestoreSnapshotRequest,
  type RestoreSnapshotResponse,
} from "../../gen/agentstore/v1/snapshots.js";
import { recordAudit } from "../audit/record.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { type ForkPoint, makeFork } from "../forks/fork.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import { assertRevision } from "../messages/errors.js";
import { checkExpectedRevision } from "../messages/versions/change.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { rollBack } from "./roll-back.js";
import { snapshotNotFound } from "./snapshot.js";
import type { SnapshotRow } from "./sql.js";
import * as sql from "./sql.js";

export const restoreSnapshot: UnaryRpc<RestoreSnapshotRequest, RestoreSnapshotResponse> = {
  validate(request, check) {
    check.positive("conversation_id", request.conversationId);
    check.positive("snapshot_id", request.snapshotId);
    check.enumValue("mode", request.mode, RestoreMode, { zero: false });
    checkRequestId(check, request.requestId);
    checkExpectedRevision(request.expectedRevision, check);
  },

  async handle(request, context) {
    const { conversationId, snapshotId, mode, requestId } = request;
    const { principal } = context;
    const write = {
      conversationId,
      tenant: principal.tenant,
      requestId,
      fingerprint: fingerprint(context, "RestoreSnapshot", request),
    };
    context.note({ conversation_id: conversationId, snapshot: snapshotId });
    const answered = await repeatable(context, async (queries) => {
      const find = mode === RestoreMode.ROLL_BACK ? sql.lockSession : sql.findSession;
      // All but the lock in statements after it, so that they see what it waited for.
      const [[session], kept, [snapshot]] = await Promise.all([
        queries.query(find, [conversationId, principal.tenant]),
        findAnswer(queries, write),
        queries.query(sql.getSnapshot, [conversationId, snapshotId]),
      ]);
      if (kept) return { session: AgentSession.decode(present(kept.answer)), replayed: true };
      if (!session) throw sessionNotFound(conversationId);
      if (!snapshot) throw snapshotNotFound(conversationId, snapshotId);
      assertRevision(request.expectedRevision, session.revision, { conversationId });
      const now = new Date();
      const restored =
        mode === RestoreMode.ROLL_BACK
          ? await rollBack(queries, session, snapshot, principal.name, now)
          : await makeFork(queries, context, forkPointOf(snapshot), now);
      const change = { rpc: "RestoreSnapshot", conversationId: restored.id, requestId };
      await Promise.all([
        keepAnswer(queries, write, { answer: AgentSession.encode(restored).finish() }, now),
        recordAudit(queries, context, change),
      ]);
      return { session: restored, replayed: false };
    });
    context.note({ restored: answered.session.id, replayed: answered.replayed });
    context.snapshots.changed(answered.session.id);
    return answered;
  },
};

function forkPointOf(snapshot: SnapshotRow & { state: string | null }): ForkPoint {
  const { conversation_id, last_seq, revision, state } = snapshot;
  return { conversationId: conversation_id, seq: last_seq, revision, state };
}
