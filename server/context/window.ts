// Chooses the newest messages that fit a budget, without cutting a tool call from its results.
import { type AgentMessage, Role, type ToolCall } from "../../gen/agentstore/v1/messages.js";
import { countCharacters } from "../rpc/field-checks.js";

/** What messages take of a model's context. */
export interface Size {
  /** Unicode code points of contents and of names and arguments of tool calls. */
  characters: bigint;
  /** The output_tokens of the model's usage, else a fourth of the UTF-8 bytes, rounded up. */
  tokens: bigint;
}

/** The most that messages may take; undefined for any size. */
export type Budget = { [key in keyof Size]: bigint | undefined };

/** A message and its size. */
export interface Measured extends Size {
  message: AgentMessage;
}

/** What was chosen. */
export interface Window {
  /** In the order of seq. */
  messages: Measured[];
  /** Whether no older message can come in: a caller need not read on. */
  isFull: boolean;
}

/** Measures a message. */
export function measure(message: AgentMessage): Measured {
  const texts = [message.content, ...message.toolCalls.flatMap(textsOf)];
  const given = message.role === Role.ASSISTANT ? (message.usage?.outputTokens ?? 0n) : 0n;
  const bytes = sum(texts.map((text) => Buffer.byteLength(text)));
  return {
    message,
    characters: BigInt(sum(texts.map(countCharacters))),
    tokens: given > 0n ? given : BigInt(Math.ceil(bytes / 4)),
  };
}

/** What messages take together. */
export function totalOf(messages: readonly Size[]): Size {
  const total = { characters: 0n, tokens: 0n };
  for (const { characters, tokens } of messages) {
    total.characters += characters;
    total.tokens += tokens;
  }
  return total;
}

/** Whether a size is within a budget. */
export function fits({ characters, tokens }: Size, budget: Budget): boolean {
  return (
    (budget.characters === undefined || characters <= budget.characters) &&
    (budget.tokens === undefined || tokens <= budget.tokens)
  );
}

/**
 * Chooses from the newest messages of a session the longest part, up to the last
 * one, that fits a budget. A message with tool calls counts with the tool messages
 * that answer it; tool messages whose call is not in that part are left out of it.
 * It begins with a message of another role than tool.
 *
 * @param tail the session's last messages in the order of seq, without gaps. More
 *   of them never change what was chosen once the window is full.
 */
export function selectWindow(tail: readonly Measured[], budget: Budget): Window {
  const owners = ownersOf(tail);
  // What a message takes with the tool messages that come and go with it.
  const sizes = tail.map(({ characters, tokens }) => ({ characters, tokens }));
  owners.forEach((owner, index) => {
    const size = sizes[owner ?? index];
    const own = tail[index];
    if (owner === undefined || owner === index || !size || !own) return;
    size.characters += own.characters;
    size.tokens += own.tokens;
  });
  let cut = tail.length;
  let isFull = false;
  const total = { characters: 0n, tokens: 0n };
  for (let index = tail.length - 1; index >= 0 && !isFull; index--) {
    const size = sizes[index];
    if (owners[index] !== index || !size) continue;
    total.characters += size.characters;
    total.tokens += size.tokens;
    if (fits(total, budget)) cut = index;
    else isFull = true;
  }
  return { messages: tail.filter((_, index) => (owners[index] ?? -1) >= cut), isFull };
}

// With which message each one comes or goes, by index: a tool message with the latest one before it
// that has its call, or, if it names none, with the one that it follows; any other with itself.
// Undefined for a tool message whose call is not there.
function ownersOf(tail: readonly Measured[]): (number | undefined)[] {
  const calls = new Map<string, number>();
  let last: number | undefined;
  return tail.map(({ message: { role, toolCalls, toolCallId } }, index) => {
    if (role === Role.TOOL) return toolCallId === "" ? last : calls.get(toolCallId);
    for (const { id } of toolCalls) calls.set(id, index);
    last = index;
    return index;
  });
}

function textsOf(call: ToolCall): string[] {
  return [call.name, call.arguments];
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
