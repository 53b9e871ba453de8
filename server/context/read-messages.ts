// Reads messages in pages, as objects to look into.

import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { GetMessagesResponse, type MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { isEmpty, type SeqRange } from "../messages/range.js";
import { readPages } from "../messages/read-pages.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";

/** A page as it was read. */
export interface Page {
  /** In the order that was asked for; never empty. */
  messages: AgentMessage[];
  /** How large they are, encoded. */
  bytes: number;
}

/**
 * Reads the messages of a range, a page at a time; a reader that has enough stops.
 *
 * @param range of a session of the caller's
 * @param pageSize how many messages a page has at the most; large ones end it early
 * @throws SESSION_NOT_FOUND when the session is deleted meanwhile
 */
export async function* messagePages(
  context: CallContext,
  conversationId: bigint,
  range: SeqRange,
  order: MessageOrder,
  pageSize: number,
): AsyncGenerator<Page, void, undefined> {
  for (let rest = range; !isEmpty(rest); ) {
    const request = { conversationId, order, pageSize };
    const read = await readPages(context, request, rest, 1);
    const encoded = present(read.pages[0]).encode(Buffer.alloc(0));
    yield { messages: GetMessagesResponse.decode(encoded).messages, bytes: encoded.length };
    rest = read.rest;
  }
}
