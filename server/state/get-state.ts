// GetState: the JSON document of a session.
import type { GetStateRequest, GetStateResponse } from "../../gen/agentstore/v1/state.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { UnaryRpc } from "../rpc/method.js";
import * as sql from "./sql.js";
import { toAgentState } from "./state.js";

export const getState: UnaryRpc<GetStateRequest, GetStateResponse> = {
  validate({ conversationId }, check) {
    check.positive("conversation_id", conversationId);
  },

  async handle({ conversationId }, context) {
    const { db, principal, signal } = context;
    context.note({ conversation_id: conversationId });
    const [row] = await db.query(sql.getState, [conversationId, principal.tenant], signal);
    if (!row) throw sessionNotFound(conversationId);
    return { state: toAgentState(conversationId, row) };
  },
};
