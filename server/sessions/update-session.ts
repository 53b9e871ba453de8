// UpdateSession: the fields that a mask names.
import {
  AgentSession,
  type UpdateSessionRequest,
  type UpdateSessionResponse,
} from "../../gen/agentstore/v1/sessions.js";
import { recordAudit } from "../audit/record.js";
import { recordChange } from "../changes/record.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { syncLabels } from "./labels.js";
import {
  checkSessionFields,
  checkSnapshotPolicy,
  distinctTags,
  toAgentSession,
} from "./session.js";
import * as sql from "./sql.js";

const MASKABLE = ["title", "owner_id", "tags", "metadata", "expires_at", "snapshot_policy"];

/** What sessions are found by. */
const LABELS = new Set(["owner_id", "tags", "metadata", "expires_at"]);

export const updateSession: UnaryRpc<UpdateSessionRequest, UpdateSessionResponse> = {
  validate({ session, updateMask, requestId }, check, limits) {
    if (session) {
      check.positive("session.id", session.id);
      checkSessionFields(session, check, limits, "session.");
      checkSnapshotPolicy("session.snapshot_policy", session.snapshotPolicy, check, limits);
    } else {
      check.fail("session", "is required");
    }
    const paths = updateMask ?? [];
    if (paths.length === 0)
      check.fail("update_mask", `must name at least one of ${MASKABLE.join(", ")}`);
    for (const path of paths) {
      if (!MASKABLE.includes(path)) {
        check.fail("update_mask", `may name only ${MASKABLE.join(", ")}`);
        break;
      }
    }
    checkRequestId(check, requestId);
  },

  async handle(request, context) {
    const session = present(request.session);
    const { tenant } = context.principal;
    const write = {
      conversationId: session.id,
      tenant,
      requestId: request.requestId,
      fingerprint: fingerprint(context, "UpdateSession", request),
    };
    context.note({ conversation_id: session.id });
    const answered = await repeatable(context, async (queries) => {
      const kept = await findAnswer(queries, write);
      if (kept) return { session: AgentSession.decode(present(kept.answer)), replayed: true };
      const now = new Date();
      const [row] = await queries.query(sql.updateSession, [
        session.id,
        tenant,
        request.updateMask,
        session.title,
        session.ownerId,
        distinctTags(session.tags),
        session.metadata,
        session.expiresAt,
        now,
        session.snapshotPolicy?.everyMessages,
        session.snapshotPolicy?.everyMinutes,
      ]);
      if (!row) throw sessionNotFound(session.id);
      const updated = toAgentSession(row);
      const answer = AgentSession.encode(updated).finish();
      const change = {
        rpc: "UpdateSession",
        conversationId: session.id,
        fields: [...new Set(request.updateMask)],
        requestId: request.requestId,
      };
      const labelled = request.updateMask?.some((path) => LABELS.has(path)) ?? false;
      await Promise.all([
        labelled && syncLabels(queries, session.id),
        keepAnswer(queries, write, { answer }, now),
        recordChange(
          queries,
          {
            conversationId: session.id,
            tenant,
            firstRevision: updated.revision,
            lastRevision: updated.revision,
          },
          now,
        ),
        recordAudit(queries, context, change),
      ]);
      return { session: updated, replayed: false };
    });
    if (request.updateMask?.includes("snapshot_policy")) context.snapshots.policySet();
    context.snapshots.changed(session.id);
    return answered;
  },
};
