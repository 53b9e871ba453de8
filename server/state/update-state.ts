// UpdateState: another JSON document in the place of a session's present one.
import {
  AgentState,
  type UpdateStateRequest,
  type UpdateStateResponse,
} from "../../gen/agentstore/v1/state.js";
import { recordAudit } from "../audit/record.js";
import { recordChange } from "../changes/record.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { assertEtag } from "./etag.js";
import * as sql from "./sql.js";
import { checkState, findStateRevisions, putStates, toAgentState } from "./state.js";

export const updateState: UnaryRpc<UpdateStateRequest, UpdateStateResponse> = {
  validate(request, check, limits) {
    check.positive("conversation_id", request.conversationId);
    checkState(request, check, limits);
    checkRequestId(check, request.requestId);
  },

  async handle(request, context) {
    const { conversationId, state, expectedEtag, requestId } = request;
    const { tenant } = context.principal;
    const print = fingerprint(context, "UpdateState", request);
    const write = { conversationId, tenant, requestId, fingerprint: print };
    context.note({ conversation_id: conversationId, state_bytes: Buffer.byteLength(state) });
    const answered = await repeatable(context, async (queries) => {
      // The others after the lock, so that they see what it waited for.
      const [[session], kept, states] = await Promise.all([
        queries.query(sql.lockSession, [conversationId, tenant]),
        findAnswer(queries, write),
        findStateRevisions(queries, [conversationId]),
      ]);
      if (kept) return { state: AgentState.decode(present(kept.answer)), replayed: true };
      if (!session) throw sessionNotFound(conversationId);
      assertEtag(conversationId, states.get(conversationId) ?? 0n, expectedEtag);
      const now = new Date();
      const revision = session.revision + 1n;
      const written = toAgentState(conversationId, { state: null, revision, updated_at: now });
      await Promise.all([
        queries.query(sql.raiseRevision, [conversationId, now]),
        putStates(queries, [{ conversationId, state, revision }], now),
        keepAnswer(queries, write, { answer: AgentState.encode(written).finish() }, now),
        recordChange(
          queries,
          { conversationId, tenant, firstRevision: revision, lastRevision: revision },
          now,
        ),
        recordAudit(queries, context, {
          rpc: "UpdateState",
          conversationId,
          fields: ["state"],
          requestId,
        }),
      ]);
      return { state: written, replayed: false };
    });
    context.snapshots.changed(conversationId);
    return answered;
  },
};
