// Appending: what AddMessage and AddMessages have in common.
import type { AgentMessage, MessageView, NewMessage } from "../../gen/agentstore/v1/messages.js";
import type { StateUpdate } from "../../gen/agentstore/v1/state.js";
import type { AuditActor } from "../audit/record.js";
import type { RepeatableWrite } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import type { Encoded } from "../rpc/method.js";
import { encodeAppendAnswer } from "./wire/append-answer.js";

/** Messages for one session, all or none. */
export interface Append extends RepeatableWrite {
  /** Who appends: the principal's name. */
  by: string;
  /** At least one. */
  messages: NewMessage[];
  expectedLastSeq?: bigint | undefined;
  /** 0 for none. */
  fencingToken: bigint;
  /** The session's state to write with them. */
  state?: StateUpdate | undefined;
  /** Who appends by which RPC, for the audit log; absent where it records no such append. */
  audit?: { actor: AuditActor; rpc: string } | undefined;
}

/** What an append answers. */
export interface Appended {
  messages: AgentMessage[];
  /** Of the state that was written; empty when none was. */
  stateEtag: string;
  replayed: boolean;
}

/**
 * Appends messages in one transaction with the session's counters and the
 * request's answer, in a group with whatever else is being appended.
 *
 * @param rpc the RPC's name
 * @param view how much of the messages to answer
 * @returns the encoded answer
 * @throws SESSION_NOT_FOUND, LAST_SEQ_MISMATCH, LEASE_LOST, ETAG_MISMATCH, REQUEST_ID_REUSED,
 *   OVERLOADED
 */
export async function append(
  context: CallContext,
  rpc: string,
  unaudited: Append,
  view: MessageView,
): Promise<Encoded<never>> {
  // Messages say by themselves who has written them; a state that is replaced does not.
  const audited = context.appends.audited || unaudited.state !== undefined;
  const write = audited ? { ...unaudited, audit: { actor: context, rpc } } : unaudited;
  context.note({ conversation_id: write.conversationId, messages: write.messages.length });
  const appended = await context.appends.append(write, context.cancellation);
  context.snapshots.changed(write.conversationId);
  context.note({ last_seq: present(appended.messages.at(-1)).seq, replayed: appended.replayed });
  return encodeAppendAnswer(appended, view);
}
