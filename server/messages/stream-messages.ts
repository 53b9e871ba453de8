// StreamMessages: a session page by page, as fast as the caller reads.
import type {
  StreamMessagesRequest,
  StreamMessagesResponse,
} from "../../gen/agentstore/v1/messages.js";
import { present } from "../present.js";
import type { StreamRpc } from "../rpc/method.js";
import { checkRange, isEmpty, lastSeqOf, rangeOf, readPage, type SeqRange } from "./range.js";

export const streamMessages: StreamRpc<StreamMessagesRequest, StreamMessagesResponse> = {
  validate: checkRange,

  async *handle(request, context) {
    const { conversationId } = request;
    let count = 0;
    context.note({ conversation_id: conversationId, messages: 0 });
    const read = (range: SeqRange) => {
      const page = readPage(context, request, range);
      // Where the caller goes away meanwhile, nobody awaits the page.
      page.catch(() => {});
      return page;
    };
    const range = rangeOf(request, await lastSeqOf(context, conversationId));
    let next = isEmpty(range) ? null : read(range);
    while (next) {
      const { messages, rest } = await next;
      // The next page is read while this one travels; no more than that.
      next = isEmpty(rest) ? null : read(rest);
      count += messages.length;
      context.note({ messages: count });
      yield { messages, lastSeq: present(messages.at(-1)).seq };
    }
  },
};
