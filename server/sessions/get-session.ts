// GetSession: one session by its id.
import type { GetSessionRequest, GetSessionResponse } from "../../gen/agentstore/v1/sessions.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { UnaryRpc } from "../rpc/method.js";
import { toAgentSession } from "./session.js";
import * as sql from "./sql.js";

export const getSession: UnaryRpc<GetSessionRequest, GetSessionResponse> = {
  validate({ conversationId }, check) {
    check.positive("conversation_id", conversationId);
  },

  async handle({ conversationId }, context) {
    const { db, principal, signal } = context;
    context.note({ conversation_id: conversationId });
    const [row] = await db.query(sql.getSession, [conversationId, principal.tenant], signal);
    if (!row) throw sessionNotFound(conversationId);
    return { session: toAgentSession(row) };
  },
};
