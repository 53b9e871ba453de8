// What LoadContext promises, said a second time and without regard to cost.
import { expect } from "vitest";
import type { LoadContextResponse } from "../../gen/agentstore/v1/context.js";
import { type AgentMessage, type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";

/** A message as far as its size and place in a turn go. */
export type Said = Pick<
  NewMessage | AgentMessage,
  "role" | "content" | "toolCalls" | "toolCallId" | "usage"
>;

/** The budget of a request; 0 for none. */
export interface Limits {
  maxMessages: number;
  maxCharacters: number;
  maxTokens: number;
}

/** Unicode code points of content, names and arguments. */
export function charactersOf({ content, toolCalls }: Said): number {
  const texts = [content, ...toolCalls.flatMap((call) => [call.name, call.arguments])];
  return [...texts.join("")].length;
}

/** Tokens as the contract counts them. */
export function tokensOf({ role, content, toolCalls, usage }: Said): number {
  if (role === Role.ASSISTANT && usage && usage.outputTokens > 0n) {
    return Number(usage.outputTokens);
  }
  const texts = [content, ...toolCalls.flatMap((call) => [call.name, call.arguments])];
  return Math.ceil(Buffer.byteLength(texts.join("")) / 4);
}

/** How many leading system messages there are. */
export function leadingOf(session: readonly Said[]): number {
  const first = session.findIndex(({ role }) => role !== Role.SYSTEM);
  return first < 0 ? session.length : first;
}

/** The indices of the messages that must come; undefined when the leading ones do not fit. */
export function expectedContext(session: readonly Said[], limits: Limits): number[] | undefined {
  const leading = [...session.keys()].slice(0, leadingOf(session));
  const within = (chosen: number[]): boolean => {
    const messages = chosen.map((index) => session[index]!);
    const total = (size: (one: Said) => number) =>
      messages.reduce((sum, one) => sum + size(one), 0);
    return (
      (limits.maxCharacters === 0 || total(charactersOf) <= limits.maxCharacters) &&
      (limits.maxTokens === 0 || total(tokensOf) <= limits.maxTokens)
    );
  };
  if (leading.length > limits.maxMessages || !within(leading)) return undefined;
  const oldest = Math.max(leading.length, session.length - (limits.maxMessages - leading.length));
  let best = leading;
  for (let start = session.length - 1; start >= oldest; start--) {
    if (session[start]!.role === Role.TOOL) continue;
    const chosen = [...session.keys()].filter((index) => {
      if (index < start) return false;
      const { role, toolCallId } = session[index]!;
      return role !== Role.TOOL || toolCallId === "" || callOf(session, index) >= start;
    });
    if (!within([...leading, ...chosen])) break;
    best = [...leading, ...chosen];
  }
  return best;
}

/** The place of the call that a tool message answers: the latest one before it; -1 without one. */
export function callOf(session: readonly Said[], index: number): number {
  const { toolCallId } = session[index]!;
  return session
    .slice(0, index)
    .findLastIndex(({ toolCalls }) => toolCalls.some(({ id }) => id === toolCallId));
}

/** Asserts what must hold of every answer. */
export function expectSoundContext(
  { messages, omittedMessages, characters, tokens, session }: LoadContextResponse,
  limits: Limits,
): void {
  expect(messages.length).toBeLessThanOrEqual(limits.maxMessages);
  expect(omittedMessages).toBe(session!.lastSeq - BigInt(messages.length));
  const sum = (size: (one: Said) => number) =>
    messages.reduce((total, one) => total + size(one), 0);
  expect(Number(characters)).toBe(sum(charactersOf));
  expect(Number(tokens)).toBe(sum(tokensOf));
  if (limits.maxCharacters > 0)
    expect(Number(characters)).toBeLessThanOrEqual(limits.maxCharacters);
  if (limits.maxTokens > 0) expect(Number(tokens)).toBeLessThanOrEqual(limits.maxTokens);
  const seqs = messages.map(({ seq }) => seq);
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => Number(a - b)));
  const rest = messages.findIndex(({ role, seq }, index) => {
    return role !== Role.SYSTEM || seq !== BigInt(index + 1);
  });
  expect(messages[rest]?.role).not.toBe(Role.TOOL);
  for (const [index, { role, toolCallId }] of messages.entries()) {
    if (role === Role.TOOL && toolCallId !== "") {
      expect(callOf(messages, index), `the call of ${toolCallId}`).toBeGreaterThanOrEqual(0);
    }
  }
}
