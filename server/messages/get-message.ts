// GetMessage: one message by its place.
import type { GetMessageRequest, GetMessageResponse } from "../../gen/agentstore/v1/messages.js";
import { RpcError } from "../errors/rpc-error.js";
import type { UnaryRpc } from "../rpc/method.js";
import { toAgentMessage } from "./message.js";
import { lastSeqOf } from "./range.js";
import * as sql from "./sql.js";

export const getMessage: UnaryRpc<GetMessageRequest, GetMessageResponse> = {
  validate({ conversationId, seq }, check) {
    check.positive("conversation_id", conversationId);
    check.positive("seq", seq);
  },

  async handle({ conversationId, seq }, context) {
    context.note({ conversation_id: conversationId, seq });
    const lastSeq = await lastSeqOf(context, conversationId);
    const values = [conversationId, seq];
    const [row] = await context.db.query(sql.getMessage, values, context.signal);
    if (row) return { message: toAgentMessage(row) };
    throw new RpcError("MESSAGE_NOT_FOUND", `session ${conversationId} has no message ${seq}`, {
      metadata: {
        conversation_id: String(conversationId),
        seq: String(seq),
        last_seq: String(lastSeq),
      },
    });
  },
};
