// Appending: what AddMessage and AddMessages have in common.
import type { AgentMessage, MessageView, NewMessage } from "../../gen/agentstore/v1/messages.js";
import type { RepeatableWrite } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import type { Encoded } from "../rpc/method.js";
import { encodeAppendAnswer } from "./wire/append-answer.js";

/** Messages for one session, all or none. */
export interface Append extends RepeatableWrite {
  /** At least one. */
  messages: NewMessage[];
  expectedLastSeq?: bigint | undefined;
}

/** What an append answers. */
export interface Appended {
  messages: AgentMessage[];
  replayed: boolean;
}

/**
 * Appends messages in one transaction with the session's counters and the
 * request's answer, in a group with whatever else is being appended.
 *
 * @param view how much of the messages to answer
 * @returns the encoded answer
 * @throws SESSION_NOT_FOUND, LAST_SEQ_MISMATCH, REQUEST_ID_REUSED, OVERLOADED
 */
export async function append(
  context: CallContext,
  write: Append,
  view: MessageView,
): Promise<Encoded<never>> {
  context.note({ conversation_id: write.conversationId, messages: write.messages.length });
  const { messages, replayed } = await context.appends.append(write, context.cancellation);
  context.note({ last_seq: present(messages.at(-1)).seq, replayed });
  return encodeAppendAnswer(messages, replayed, view);
}
