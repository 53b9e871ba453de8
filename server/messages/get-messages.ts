// GetMessages: one page of a session.
import { type GetMessagesRequest, GetMessagesResponse } from "../../gen/agentstore/v1/messages.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { checkRange, isEmpty, lastSeqOf, rangeOf, skip } from "./range.js";
import { readPages } from "./read-pages.js";

export const getMessages: UnaryRpc<GetMessagesRequest, GetMessagesResponse> = {
  validate(request, check, limits) {
    checkRange(request, check, limits);
    check.notNegative("offset", request.offset);
  },

  async handle(request, context) {
    const { conversationId, afterSeq, beforeSeq, order, lastN, offset } = request;
    context.note({ conversation_id: conversationId });
    const query = ["GetMessages", conversationId, afterSeq, beforeSeq, order, lastN, offset];
    const position = decodePageToken(request.pageToken, query);
    const lastSeq = await lastSeqOf(context, conversationId);
    // A token holds the range that is left, so that pages of the newest messages
    // stay the same ones while new messages arrive.
    const range = position
      ? { after: position[0], before: position[1] }
      : skip(rangeOf(request, lastSeq), offset, order);
    if (isEmpty(range)) return { messages: [], nextPageToken: "" };
    const { pages, rest } = await readPages(context, request, range, 1);
    const page = present(pages[0]);
    context.note({ messages: page.count });
    const nextPageToken = isEmpty(rest) ? "" : encodePageToken(query, [rest.after, rest.before]);
    const otherFields = GetMessagesResponse.encode({ messages: [], nextPageToken }).finish();
    return page.encode<GetMessagesResponse>(otherFields);
  },
};
