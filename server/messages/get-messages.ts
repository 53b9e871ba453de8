// GetMessages: one page of a session.
import { type GetMessagesRequest, GetMessagesResponse } from "../../gen/agentstore/v1/messages.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { checkRange, isEmpty, rangeOf, standingOf } from "./range.js";
import { readPages } from "./read-pages.js";

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
    const standing = await standingOf(context, conversationId);
    // A token holds the range that is left, so that pages of the newest messages
    // stay the same ones while new messages arrive.
    const range = position
      ? { after: position[0], before: position[1] }
      : await rangeOf(context, request, standing, offset);
    if (isEmpty(range)) return { messages: [], nextPageToken: "" };
    const { pages, rest } = await readPages(context, request, range, 1);
    const page = pages[0];
    if (!page) return { messages: [], nextPageToken: "" };
    context.note({ messages: page.count });
    const nextPageToken = isEmpty(rest) ? "" : encodePageToken(query, [rest.after, rest.before]);
    const otherFields = GetMessagesResponse.encode({ messages: [], nextPageToken }).finish();
    return page.encode<GetMessagesResponse>(otherFields);
  },
};
