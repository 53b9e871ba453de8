// LoadContext: what the next call of a session's model needs, within a budget.
import type { LoadContextRequest, LoadContextResponse } from "../../gen/agentstore/v1/context.js";
import { MessageOrder, Role } from "../../gen/agentstore/v1/messages.js";
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { fieldError, type RpcError } from "../errors/rpc-error.js";
import { rangeOf, type Standing, toStanding } from "../messages/range.js";
import type { CallContext } from "../rpc/call.js";
import type { UnaryRpc } from "../rpc/method.js";
import { readSession } from "../sessions/get-session.js";
import { messagePages } from "./read-messages.js";
import { ToolCallPairing } from "./tool-calls.js";
import { type Budget, type Measured, measure, selectWindow, totalOf } from "./window.js";

export const loadContext: UnaryRpc<LoadContextRequest, LoadContextResponse> = {
  validate({ conversationId, maxMessages, maxCharacters, maxTokens }, check, limits) {
    check.positive("conversation_id", conversationId);
    check.within("max_messages", maxMessages, 0, limits.pageSizeMost);
    check.notNegative("max_characters", maxCharacters);
    check.notNegative("max_tokens", maxTokens);
  },

  async handle(request, context) {
    const { conversationId, maxCharacters, maxTokens } = request;
    const maxMessages = request.maxMessages || context.limits.pageSizeDefault;
    context.note({ conversation_id: conversationId });
    const { session, messageCount } = await readSession(context, conversationId);
    const standing = toStanding(session.lastSeq, messageCount);
    const leading = await readLeading(context, session);
    const rest = budgetBeside(leading.messages, { maxMessages, maxCharacters, maxTokens });
    const newest = await readNewest(context, conversationId, standing, leading, rest);
    const chosen = [...leading.messages, ...newest];
    const messages = chosen.map(({ message }) => message);
    const pairing = new ToolCallPairing();
    for (const message of messages) pairing.take(message);
    context.note({ messages: messages.length });
    return {
      session,
      messages,
      omittedMessages: standing.shown - BigInt(messages.length),
      ...totalOf(chosen),
      unpairedToolCalls: pairing.open(),
    };
  },
};

/** The leading system messages and about how many bytes they have. */
interface Leading {
  messages: Measured[];
  bytes: number;
}

/** Sessions have one or two leading system messages as a rule. */
const LEADING_PAGE = 8;

async function readLeading(context: CallContext, session: AgentSession): Promise<Leading> {
  const { limits } = context;
  const leading: Leading = { messages: [], bytes: 0 };
  // To one more than any budget has room for.
  const most = BigInt(limits.pageSizeMost) + 1n;
  const range = { after: 0n, before: (session.lastSeq < most ? session.lastSeq : most) + 1n };
  const order = MessageOrder.OLDEST_FIRST;
  for await (const page of messagePages(context, session.id, range, order, LEADING_PAGE)) {
    for (const message of page.messages) {
      if (message.role !== Role.SYSTEM) return leading;
      leading.messages.push(measure(message));
    }
    leading.bytes += page.bytes;
    if (leading.bytes > limits.contextBytes) {
      const most = `the ${limits.contextBytes} bytes that are read at the most`;
      throw tooSmall("conversation_id", `its leading system messages have more than ${most}`);
    }
  }
  return leading;
}

/** What a request has room for beside the leading system messages. */
function budgetBeside(
  leading: Measured[],
  { maxMessages, maxCharacters, maxTokens }: Omit<LoadContextRequest, "conversationId">,
): Budget & { messages: bigint } {
  const { characters, tokens } = totalOf(leading);
  const remain = (field: string, most: bigint, needed: bigint): bigint => {
    if (needed <= most) return most - needed;
    throw tooSmall(field, `must be at least ${needed} for the leading system messages`, needed);
  };
  return {
    messages: remain("max_messages", BigInt(maxMessages), BigInt(leading.length)),
    characters: maxCharacters ? remain("max_characters", maxCharacters, characters) : undefined,
    tokens: maxTokens ? remain("max_tokens", maxTokens, tokens) : undefined,
  };
}

async function readNewest(
  context: CallContext,
  conversationId: bigint,
  standing: Standing,
  leading: Leading,
  budget: Budget & { messages: bigint },
): Promise<Measured[]> {
  const { pageSizeDefault, contextBytes } = context.limits;
  if (budget.messages === 0n) return [];
  const order = MessageOrder.NEWEST_FIRST;
  const request = {
    conversationId,
    pageSize: pageSizeDefault,
    afterSeq: leading.messages.at(-1)?.message.seq ?? 0n,
    beforeSeq: 0n,
    order,
    lastN: budget.messages,
    showDeleted: false,
  };
  const range = await rangeOf(context, request, standing);
  let { bytes } = leading;
  let tail: Measured[] = [];
  let newest: Measured[] = [];
  for await (const page of messagePages(context, conversationId, range, order, pageSizeDefault)) {
    tail = [...page.messages.map(measure).reverse(), ...tail];
    const window = selectWindow(tail, budget);
    newest = window.messages;
    bytes += page.bytes;
    if (window.isFull || bytes > contextBytes) break;
  }
  return newest;
}

function tooSmall(field: string, description: string, needed?: bigint): RpcError {
  const metadata: Record<string, string> = needed === undefined ? {} : { needed: String(needed) };
  return fieldError("BUDGET_TOO_SMALL", field, description, metadata);
}
