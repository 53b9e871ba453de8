// Messages whose every field is hard to keep exactly.
import { type AgentMessage, type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import type { Part } from "./store.js";

/** Text that survives only where nothing is trimmed, normalised or replaced. */
export const ODD_TEXT =
  "\uFEFF \u0000\t\r\n\n\r e\u0301 \u00E9 \u202E 👩‍👩‍👧 🏳️‍🌈 漢字 \u2028\u2029 \uFFFD \uFFFE \u{10FFFF} \\u0000 %_\\ \u0000 ";

/** As ODD_TEXT, for fields that cannot hold U+0000. */
export const ODD_TEXT_WITHOUT_NUL = ODD_TEXT.replaceAll("\0", "");

const ODD_JSON = '{"b" : 1.0,\n"a":1e400, "a":9007199254740993 ,"\\u0061":"\\ud800"}\r\n';

/** One message for each kind of trouble. */
export const oddMessages: Record<string, Part<NewMessage>> = {
  "nothing but a role": { role: Role.ASSISTANT },
  "odd text": { role: Role.USER, content: ODD_TEXT },
  "only U+0000": { role: Role.SYSTEM, content: "\0" },
  "only white space": { role: Role.USER, content: " \n" },
  "a byte order mark": { role: Role.USER, content: "\uFEFF" },
  "every field, odd text": {
    role: Role.ASSISTANT,
    content: ODD_TEXT,
    timestampMs: -1n,
    name: ODD_TEXT,
    toolCalls: [
      { id: ODD_TEXT, name: ODD_TEXT, arguments: ODD_TEXT },
      { id: "", name: "", arguments: "" },
      { id: "call_1", name: "f", arguments: ODD_JSON },
    ],
    payload: ODD_TEXT,
    payloadType: `x/${ODD_TEXT}`,
    metadata: {
      text: ODD_TEXT_WITHOUT_NUL,
      [ODD_TEXT_WITHOUT_NUL]: [null, true, 0.1, -2.5e-7, { "": { "": [[], {}] } }],
    },
    usage: {
      inputTokens: 1n,
      outputTokens: 2n,
      cachedTokens: 3n,
      reasoningTokens: 4n,
      costMicros: 10n ** 15n,
    },
  },
  "a tool's answer": { role: Role.TOOL, content: "[]", toolCallId: "\0call", name: "to\0ol" },
  "U+0000 in the name alone": { role: Role.USER, content: "x", name: "\0" },
  "arguments that are odd JSON": {
    role: Role.ASSISTANT,
    toolCalls: [{ id: "1", name: "f", arguments: ODD_JSON }],
  },
  "arguments that are no JSON": {
    role: Role.ASSISTANT,
    toolCalls: [
      { id: "1", name: "f", arguments: '{"a": ' },
      { id: "1", name: "f", arguments: "\0" },
      { id: "2", name: "g", arguments: '"\\u0000"' },
    ],
  },
  "a payload that is odd JSON": {
    role: Role.USER,
    content: "x",
    payload: ODD_JSON,
    payloadType: "openai.chat.message",
  },
  "a payload type alone": { role: Role.USER, payloadType: "t" },
  "an empty metadata": { role: Role.USER, metadata: {} },
  "a usage of zeros": { role: Role.USER, usage: {} },
  "the time 0": { role: Role.USER, timestampMs: 0n },
  "a time before 1970": { role: Role.USER, timestampMs: -1_234_567_890_123n },
  "the first time": { role: Role.USER, timestampMs: -62_135_596_800_000n },
  "the last time": { role: Role.USER, timestampMs: 253_402_300_799_999n },
  "a name as long as the limit": { role: Role.USER, name: "🙂".repeat(1_024) },
};

/** What the server should answer for a message. */
export function stored(message: Part<NewMessage>, place: Partial<AgentMessage>): AgentMessage {
  const { usage, toolCalls, timestampMs, ...rest } = message;
  return {
    id: 0n,
    conversationId: 0n,
    seq: 0n,
    revision: 0n,
    content: "",
    name: "",
    toolCallId: "",
    payload: "",
    payloadType: "",
    metadata: undefined,
    toolCalls: (toolCalls ?? []) as AgentMessage["toolCalls"],
    usage: usage && {
      inputTokens: 0n,
      outputTokens: 0n,
      cachedTokens: 0n,
      reasoningTokens: 0n,
      costMicros: 0n,
      ...usage,
    },
    timestampMs: timestampMs ?? 0n,
    version: 1n,
    editedAt: undefined,
    deletedAt: undefined,
    ...rest,
    ...place,
  } as AgentMessage;
}
