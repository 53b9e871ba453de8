// CreateSnapshot: the session as it is now, to come back to.
import {
  type CreateSnapshotRequest,
  type CreateSnapshotResponse,
  SessionSnapshot,
} from "../../gen/agentstore/v1/snapshots.js";
import { recordAudit } from "../audit/record.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { takeSnapshot, toSnapshot } from "./snapshot.js";
import * as sql from "./sql.js";

export const createSnapshot: UnaryRpc<CreateSnapshotRequest, CreateSnapshotResponse> = {
  validate({ conversationId, name, requestId }, check, limits) {
    check.positive("conversation_id", conversationId);
    check.text("name", name, limits.snapshotNameCharacters);
    checkRequestId(check, requestId);
  },

  async handle(request, context) {
    const { conversationId, name, requestId } = request;
    const { principal } = context;
    const write = {
      conversationId,
      tenant: principal.tenant,
      requestId,
      fingerprint: fingerprint(context, "CreateSnapshot", request),
    };
    context.note({ conversation_id: conversationId });
    const answered = await repeatable(context, async (queries) => {
      const [[session], kept] = await Promise.all([
        queries.query(sql.lockSession, [conversationId, principal.tenant]),
        // In a statement after the lock's, so that it sees what the lock waited for.
        findAnswer(queries, write),
      ]);
      if (kept) return { snapshot: SessionSnapshot.decode(present(kept.answer)), replayed: true };
      if (!session) throw sessionNotFound(conversationId);
      const now = new Date();
      const by = { name, byPolicy: false, by: principal.name };
      const snapshot = toSnapshot(await takeSnapshot(queries, session, by, now));
      await Promise.all([
        keepAnswer(queries, write, { answer: SessionSnapshot.encode(snapshot).finish() }, now),
        recordAudit(queries, context, { rpc: "CreateSnapshot", conversationId, requestId }),
      ]);
      return { snapshot, replayed: false };
    });
    context.note({ snapshot: answered.snapshot.id, replayed: answered.replayed });
    return answered;
  },
};
