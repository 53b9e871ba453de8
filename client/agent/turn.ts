// Makes of a model's reply the turn that is kept: with tool calls that can be told apart.
import { randomUUID } from "node:crypto";
import type { OpenAiMessage, OpenAiToolCall } from "../openai.js";
import type { ChatReply } from "./chat.js";
import { toolCallsOf } from "./history.js";

/** What the store takes as the id of a tool call. */
const MAX_ID_LENGTH = 1024;

/**
 * Returns the reply with tool calls that can be kept and answered: each has an id, which no other
 * call of the conversation has (some providers leave it empty, or count anew in every turn), a name
 * and arguments as text. The calls of an incomplete reply are dropped.
 *
 * @param history the conversation before the reply
 * @throws TypeError when the reply is no message of the role assistant
 */
export function keptTurn(reply: ChatReply, history: readonly OpenAiMessage[]): ChatReply {
  const message: unknown = reply?.message;
  if (!isRecord(message) || message["role"] !== "assistant") {
    throw new TypeError("the chat function returned no message of the role assistant");
  }
  const { tool_calls: calls, ...rest } = reply.message;
  if (!Array.isArray(calls) || calls.length === 0) return reply;
  if (reply.incomplete) return { ...reply, message: rest };
  const taken = new Set(history.flatMap(toolCallsOf).map(({ id }) => id));
  const kept = (calls as readonly unknown[]).map((call) => usable(call, taken));
  return { ...reply, message: { ...reply.message, tool_calls: kept } };
}

function usable(value: unknown, taken: Set<string>): OpenAiToolCall {
  const call = isRecord(value) ? value : {};
  const id = isUsableId(call["id"]) && !taken.has(call["id"]) ? call["id"] : `call_${randomUUID()}`;
  taken.add(id);
  if (call["type"] === "custom" && isRecord(call["custom"])) {
    const { custom } = call;
    return {
      ...call,
      id,
      type: "custom",
      custom: { ...custom, name: text(custom["name"]), input: text(custom["input"]) },
    };
  }
  const called = isRecord(call["function"]) ? call["function"] : {};
  return {
    ...call,
    id,
    type: "function",
    function: { ...called, name: text(called["name"]), arguments: text(called["arguments"]) },
  };
}

function isUsableId(id: unknown): id is string {
  return (
    typeof id === "string" &&
    id !== "" &&
    id.length <= MAX_ID_LENGTH &&
    id.isWellFormed() &&
    !id.includes("\0")
  );
}

/** A text as it is; other values as JSON, since some providers write arguments out as an object. */
function text(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
