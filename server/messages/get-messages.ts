// GetMessages: one page of a session.
import { type GetMessagesRequest, GetMessagesResponse } from "../../gen/agentstore/v1/messages.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { readFirstPage } from "./first-page.js";
import { checkRange, isEmpty } from "./range.js";

export const getMessages: UnaryRpc<GetMessagesRequest, GetMessagesResponse> = {
  validate(request, check, limits) {
    checkRange(request, check, limits);
    check.notNegative("offset", request.offset);
  },

  async handle(request, context) {
    const { conversationId, afterSeq, beforeSeq, order, lastN, offset, showDeleted } = request;
    context.note({ conversation_id: conversationId });
    const query: unknown[] = [
      "GetMessages",
      conversationId,
      afterSeq,
      beforeSeq,
      order,
      lastN,
      offset,
    ];
    if (showDeleted) query.push("show_deleted");
    const position = decodePageToken(request.pageToken, query);
    // A token holds the range that is left, so that pages of the newest messages
    // stay the same ones while new messages arrive.
    const left = position ? { after: position[0], before: position[1] } : undefined;
    const { pages, rest } = await readFirstPage(context, request, { offset, left });
    const page = pages[0];
    if (!page) return { messages: [], nextPageToken: "" };
    context.note({ messages: page.count });
    const nextPageToken = isEmpty(rest) ? "" : encodePageToken(query, [rest.after, rest.before]);
    const otherFields = GetMessagesResponse.encode({ messages: [], nextPageToken }).finish();
    return page.encode<GetMessagesResponse>(otherFields);
  },
};
