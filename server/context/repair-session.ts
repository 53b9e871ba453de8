// RepairSession: an answer for each tool call that was interrupted.
import type {
  RepairSessionRequest,
  RepairSessionResponse,
  UnpairedToolCall,
} from "../../gen/agentstore/v1/context.js";
import {
  type AgentMessage,
  MessageOrder,
  MessageView,
  NewMessage,
  Role,
} from "../../gen/agentstore/v1/messages.js";
import { RpcError, writeConflict } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, type RepeatableWrite } from "../idempotency/requests.js";
import { assertLease } from "../leases/lease.js";
import { append } from "../messages/append.js";
import { type SeqRange, standingOf } from "../messages/range.js";
import type { CallContext } from "../rpc/call.js";
import type { UnaryRpc } from "../rpc/method.js";
import { messagePages } from "./read-messages.js";
import { ToolCallPairing } from "./tool-calls.js";

const INTERRUPTED =
  "This tool call was interrupted. Its outcome is not known: it may or may not have taken effect.";

/** How often a repair looks anew because someone else has appended meanwhile. */
const MOST_TRIES = 10;

export const repairSession: UnaryRpc<RepairSessionRequest, RepairSessionResponse> = {
  validate({ conversationId, requestId, fencingToken }, check) {
    check.positive("conversation_id", conversationId);
    checkRequestId(check, requestId);
    check.notNegative("fencing_token", fencingToken);
  },

  async handle(request, context) {
    const { conversationId, requestId, fencingToken } = request;
    const write = {
      conversationId,
      tenant: context.principal.tenant,
      by: context.principal.name,
      requestId,
      fingerprint: fingerprint(context, "RepairSession", request),
      fencingToken,
    };
    context.note({ conversation_id: conversationId });
    const pairing = new ToolCallPairing();
    let seen = 0n;
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const { lastSeq } = await standingOf(context, conversationId);
      for await (const message of messagesOf(context, conversationId, seen, lastSeq)) {
        pairing.take(message);
      }
      seen = lastSeq;
      const calls = pairing.open().slice(0, context.limits.batchMessages);
      if (calls.length === 0) return await withoutRepair(context, write);
      try {
        const messages = calls.map(interrupted);
        const repair = { ...write, expectedLastSeq: lastSeq, messages };
        return await append(context, "RepairSession", repair, MessageView.FULL);
      } catch (error) {
        if (!(error instanceof RpcError && error.reason === "LAST_SEQ_MISMATCH")) throw error;
      }
    }
    throw writeConflict();
  },
};

// The same request may have closed the calls before.
async function withoutRepair(
  context: CallContext,
  write: RepeatableWrite & { fencingToken: bigint },
): Promise<RepairSessionResponse> {
  const { db, signal } = context;
  const kept = await db.transaction((queries) => findAnswer(queries, write), signal);
  const messages: AgentMessage[] = [];
  if (kept) {
    const { first_seq: first, last_seq: last } = kept;
    if (first === null || last === null) throw new Error("a repair's answer has no messages");
    const repaired = messagesOf(context, write.conversationId, first - 1n, last);
    for await (const message of repaired) messages.push(message);
  } else {
    await assertLease(context, write.conversationId, write.fencingToken);
  }
  return { messages, replayed: kept !== null };
}

async function* messagesOf(
  context: CallContext,
  conversationId: bigint,
  after: bigint,
  last: bigint,
): AsyncGenerator<AgentMessage, void, undefined> {
  const range: SeqRange = { after, before: last + 1n };
  const { pageSizeMost } = context.limits;
  const order = MessageOrder.OLDEST_FIRST;
  for await (const page of messagePages(context, conversationId, range, order, pageSizeMost)) {
    yield* page.messages;
  }
}

function interrupted({ toolCallId, name }: UnpairedToolCall): NewMessage {
  return NewMessage.fromPartial({
    role: Role.TOOL,
    content: INTERRUPTED,
    name,
    toolCallId,
    metadata: { interrupted: true },
  });
}
