// GetMessage: one message by its place, as it is or as it was.
import type { GetMessageRequest, GetMessageResponse } from "../../gen/agentstore/v1/messages.js";
import type { UnaryRpc } from "../rpc/method.js";
import { messageDeleted, messageNotFound, versionNotFound } from "./errors.js";
import { toAgentMessage } from "./message.js";
import { standingOf } from "./range.js";
import * as sql from "./sql.js";
import { getVersion } from "./versions/sql.js";

export const getMessage: UnaryRpc<GetMessageRequest, GetMessageResponse> = {
  validate({ conversationId, seq, version }, check) {
    check.positive("conversation_id", conversationId);
    check.positive("seq", seq);
    check.notNegative("version", version);
  },

  async handle(request, context) {
    const { conversationId, seq, version, showDeleted } = request;
    const { db, signal } = context;
    context.note({ conversation_id: conversationId, seq });
    const { lastSeq } = await standingOf(context, conversationId);
    const [current] = await db.query(sql.getMessage, [conversationId, seq], signal);
    if (!current) throw messageNotFound(request, lastSeq);
    if (current.deleted_at && !showDeleted) throw messageDeleted(request);
    if (version === 0n || version === current.version) return { message: toAgentMessage(current) };
    const [row] = await db.query(getVersion, [conversationId, seq, version], signal);
    if (!row) throw versionNotFound(request, version, current.version);
    return { message: toAgentMessage(row) };
  },
};
