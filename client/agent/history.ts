// Reads a conversation in OpenAI's form: which tool calls have results, and what a model is sent.
import type { OpenAiMessage } from "../openai.js";
import type { PendingCall } from "./dialogue.js";

/**
 * The tool calls of a message, of whatever kind; none unless it is an assistant's. A call without
 * an id, which imported conversations may have, is not one that could be answered.
 */
export function toolCallsOf(message: OpenAiMessage): PendingCall[] {
  if (message.role !== "assistant" || !Array.isArray(message.tool_calls)) return [];
  const calls = message.tool_calls as readonly (PartialCall | null)[];
  return calls.flatMap((call) => {
    if (typeof call?.id !== "string") return [];
    const { function: called, custom } = call;
    const name = called?.name ?? custom?.name ?? "";
    return [{ id: call.id, name, arguments: called?.arguments ?? custom?.input ?? "" }];
  });
}

/** A tool call of any origin. */
interface PartialCall {
  id?: unknown;
  function?: { name?: string; arguments?: string };
  custom?: { name?: string; input?: string };
}

/** The text of a message. */
export function textOf({ content }: OpenAiMessage): string {
  if (typeof content === "string") return content;
  const parts = (content ?? []) as readonly { text?: unknown }[];
  return parts.map(({ text }) => (typeof text === "string" ? text : "")).join("");
}

/** A call with what answers it. */
interface Pair {
  call: PendingCall;
  result?: OpenAiMessage;
}

/**
 * Tells which message answers which call, whatever stands between them, by the rules of the store:
 * ids may come again in later turns, so a result answers the newest turn that waits for it; one
 * without an id, as older tables have them, answers the newest turn that waits for any.
 */
function pairsOf(messages: readonly OpenAiMessage[]): Map<OpenAiMessage, Pair[]> {
  const turns = new Map<OpenAiMessage, Pair[]>();
  const open: Pair[][] = [];
  for (const message of messages) {
    if (message.role === "tool") {
      const id = message.tool_call_id ?? "";
      const pair = waiting(open, (call) => call.id === id) ?? (id === "" && waiting(open));
      if (pair) pair.result = message;
      continue;
    }
    const pairs = toolCallsOf(message).map((call) => ({ call }));
    if (pairs.length === 0) continue;
    turns.set(message, pairs);
    open.push(pairs);
  }
  return turns;
}

/** The first call of the newest turn that waits for a result, of those that fit. */
function waiting(
  turns: readonly Pair[][],
  fits: (call: PendingCall) => boolean = () => true,
): Pair | undefined {
  const waits = ({ call, result }: Pair): boolean => result === undefined && fits(call);
  return turns.findLast((pairs) => pairs.some(waits))?.find(waits);
}

/** The tool calls that no message answers, in their order. */
export function unansweredCalls(messages: readonly OpenAiMessage[]): PendingCall[] {
  const pairs = [...pairsOf(messages).values()].flat();
  return pairs.filter(({ result }) => result === undefined).map(({ call }) => call);
}

/**
 * The conversation in the order that providers require: the results of a turn's calls stand right
 * behind it, in the order of the calls, although they may have been appended in another order, or
 * late, behind what was said meanwhile. Results that answer no call are left out.
 */
export function inCallOrder(messages: readonly OpenAiMessage[]): OpenAiMessage[] {
  const turns = pairsOf(messages);
  return messages
    .filter(({ role }) => role !== "tool")
    .flatMap((message) => [
      message,
      ...(turns.get(message) ?? []).flatMap(({ result }) => (result ? [result] : [])),
    ]);
}
