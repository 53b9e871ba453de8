// Reads messages in pages, as objects to look into.

import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { GetMessagesResponse, type MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { isEmpty, type SeqRange } from "../messages/range.js";
import { readPages } from "../messages/read-pages.js";
import type { CallContext } from "../rpc/call.js";

/** A page as it was read. */
export interface Page {
  /** In the order that was asked for; never empty. */
  messages: AgentMessage[];
  /** How large they are, encoded. */
  bytes: number;
}

/**
 * Reads the messages of a range that are not deleted, a page at a time; a reader that has enough
 * stops.
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
    const request = { conversationId, order, pageSize, showDeleted: false };
    const read = await readPages(context, request, rest, 1);
    rest = read.rest;
    const [page] = read.pages;
    // What is left of the range may all be deleted.
    if (!page) return;
    // No field of a message is bytes, so that nothing of it looks into their memory.
    const encoded = page.encode(Buffer.alloc(0)).take();
    yield { messages: GetMessagesResponse.decode(encoded).messages, bytes: encoded.length };
  }
}
