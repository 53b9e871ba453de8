// DeleteSession: a session and all that belongs to it, for good.
import type {
  DeleteSessionRequest,
  DeleteSessionResponse,
} from "../../gen/agentstore/v1/sessions.js";
import { recordAudit } from "../audit/record.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import type { UnaryRpc } from "../rpc/method.js";
import { deleteEverything } from "./delete-everything.js";
import * as sql from "./sql.js";

export const deleteSession: UnaryRpc<DeleteSessionRequest, DeleteSessionResponse> = {
  validate({ conversationId, requestId }, check) {
    check.positive("conversation_id", conversationId);
    checkRequestId(check, requestId);
  },

  async handle(request, context) {
    const { conversationId, requestId } = request;
    const write = {
      conversationId,
      tenant: context.principal.tenant,
      requestId,
      fingerprint: fingerprint(context, "DeleteSession", request),
    };
    context.note({ conversation_id: conversationId });
    return await repeatable(context, async (queries) => {
      const values = [conversationId, context.principal.tenant];
      const [locked] = await queries.query(sql.lockSession, values);
      const kept = await findAnswer(queries, write);
      if (kept) return { deleted: true, replayed: true };
      if (!locked) return { deleted: false, replayed: false };
      const now = new Date();
      await deleteEverything(queries, conversationId, now);
      await Promise.all([
        keepAnswer(queries, write, {}, now),
        recordAudit(queries, context, { rpc: "DeleteSession", conversationId, requestId }),
      ]);
      return { deleted: true, replayed: false };
    });
  },
};
