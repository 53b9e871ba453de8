// StreamMessages: a session page by page, as fast as the caller reads.
import {
  type StreamMessagesRequest,
  StreamMessagesResponse,
} from "../../gen/agentstore/v1/messages.js";
import type { StreamRpc } from "../rpc/method.js";
import { checkRange, isEmpty, rangeOf, type SeqRange, standingOf } from "./range.js";
import { readPages } from "./read-pages.js";

export const streamMessages: StreamRpc<StreamMessagesRequest, StreamMessagesResponse> = {
  validate: checkRange,

  async *handle(request, context) {
    const { conversationId } = request;
    const { limits } = context;
    let count = 0;
    context.note({ conversation_id: conversationId, messages: 0 });
    // Small pages are read several at a time.
    const perRead = Math.floor(limits.pageSizeMost / (request.pageSize || limits.pageSizeDefault));
    const read = (range: SeqRange, most: number) => {
      const pages = readPages(context, request, range, most);
      // Where the caller goes away meanwhile, nobody awaits the pages.
      pages.catch(() => {});
      return pages;
    };
    const range = await rangeOf(context, request, await standingOf(context, conversationId));
    // The first page alone, as it is waited for.
    let next = isEmpty(range) ? null : read(range, 1);
    while (next) {
      const { pages, rest } = await next;
      // The next pages are read while these travel; no more than that.
      next = isEmpty(rest) ? null : read(rest, perRead);
      for (const page of pages) {
        count += page.count;
        context.note({ messages: count });
        const { lastSeq } = page;
        const otherFields = StreamMessagesResponse.encode({ messages: [], lastSeq }).finish();
        yield page.encode<StreamMessagesResponse>(otherFields);
      }
    }
  },
};
