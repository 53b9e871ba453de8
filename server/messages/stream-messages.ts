// StreamMessages: a session page by page, as fast as the caller reads.
import {
  type StreamMessagesRequest,
  StreamMessagesResponse,
} from "../../gen/agentstore/v1/messages.js";
import type { StreamRpc } from "../rpc/method.js";
import { readFirstPage } from "./first-page.js";
import { checkRange, isEmpty, type SeqRange } from "./range.js";
import { type Pages, readPages } from "./read-pages.js";

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
    // The first page alone, as it is waited for.
    let next: Promise<Pages> | null = readFirstPage(context, request);
    while (next) {
      const { pages, rest }: Pages = await next;
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
