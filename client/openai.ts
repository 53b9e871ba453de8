// Converts between OpenAI chat messages and the store's messages, without losing anything.
import { InvalidFieldError } from "./errors.js";
import type { AgentMessage, NewMessage, Role, ToolCall } from "./types.js";

/** The `payloadType` of a message whose `payload` is the JSON text of an OpenAI chat message. */
export const OPENAI_CHAT_MESSAGE = "openai.chat.message";

/** A tool call of an OpenAI chat message. */
export type OpenAiToolCall =
  | { id: string; type: "function"; function: { name: string; arguments: string } }
  | { id: string; type: "custom"; custom: { name: string; input: string } };

/**
 * An OpenAI chat message, of any role and age of the API. Further keys are kept too; those that
 * are listed here are the ones that this module reads.
 */
export interface OpenAiMessage {
  role: string;
  content?: string | readonly unknown[] | null;
  name?: string;
  tool_calls?: readonly OpenAiToolCall[] | null;
  tool_call_id?: string;
  refusal?: string | null;
  audio?: unknown;
  function_call?: { name: string; arguments: string } | null;
  annotations?: readonly unknown[];
}

const ROLES = new Map<unknown, Role>([
  ["system", "system"],
  ["developer", "system"],
  ["user", "user"],
  ["assistant", "assistant"],
  ["tool", "tool"],
  ["function", "tool"],
]);

/** The limits that the server sets on the typed fields; what is beyond stays in the payload. */
const MAX_SHORT_TEXT = 1024;
const MAX_TOOL_CALLS = 1000;

/**
 * Turns one OpenAI chat message into a message to append.
 *
 * What the typed fields can say in full (role, content, name, tool_calls of functions,
 * tool_call_id) is stored in them alone. Any other message (content in parts, `refusal`,
 * `developer`, unknown keys, content left out, …) is also kept whole in `payload`, as JSON text;
 * `content` is then what there is to read and search, and `toolCalls` whatever fits.
 *
 * @param message the message; its role is system, developer, user, assistant, tool or function
 * @param rawJson the JSON text that `message` was parsed from, to be kept byte for byte where a
 *   payload is needed; by default it is made anew from `message`
 * @throws InvalidFieldError when `message` is no object or its role is none of those above
 */
export function fromLlmMessage(message: OpenAiMessage, rawJson?: string): NewMessage {
  const source = asRecord(message);
  const role = ROLES.get(source?.["role"]);
  if (source === undefined || role === undefined) {
    throw InvalidFieldError.of(
      "role",
      "an OpenAI chat message has the role system, developer, user, assistant, tool or function",
    );
  }
  const result: NewMessage = { role, content: readableText(source).toWellFormed() };
  const name = source["name"];
  if (isShortText(name) && name !== "") result.name = name;
  if (role === "assistant") {
    const toolCalls = readableToolCalls(source);
    if (toolCalls.length > 0) result.toolCalls = toolCalls;
  }
  const toolCallId = source["tool_call_id"];
  if (role === "tool" && isShortText(toolCallId) && toolCallId !== "") {
    result.toolCallId = toolCallId;
  }
  if (!sameJson(fromFields(result), source)) {
    result.payload = rawJson?.isWellFormed() ? rawJson : JSON.stringify(message);
    result.payloadType = OPENAI_CHAT_MESSAGE;
  }
  return result;
}

/**
 * Turns OpenAI chat messages into messages to append, as `fromLlmMessage` does with each.
 *
 * @throws InvalidFieldError as `fromLlmMessage` does
 */
export function fromLlmMessages(messages: readonly OpenAiMessage[]): NewMessage[] {
  return messages.map((message) => fromLlmMessage(message));
}

/**
 * Turns a stored message into an OpenAI chat message: the very one that `fromLlmMessage` was
 * given, for messages that came that way; for others, what their fields say.
 *
 * @throws SyntaxError when the payload claims to be an OpenAI chat message and is not JSON
 */
export function toLlmMessage(message: AgentMessage): OpenAiMessage {
  if (hasOpenAiPayload(message)) return JSON.parse(message.payload) as OpenAiMessage;
  return fromFields(message);
}

/** Turns stored messages into OpenAI chat messages, as `toLlmMessage` does with each. */
export function toLlmMessages(messages: readonly AgentMessage[]): OpenAiMessage[] {
  return messages.map(toLlmMessage);
}

/**
 * Returns the JSON text of what `toLlmMessage` returns: the kept payload byte for byte where
 * there is one (numbers beyond a double included), otherwise made from the message's fields.
 */
export function toLlmJson(message: AgentMessage): string {
  return hasOpenAiPayload(message) ? message.payload : JSON.stringify(fromFields(message));
}

function hasOpenAiPayload(message: AgentMessage): boolean {
  return message.payloadType === OPENAI_CHAT_MESSAGE && message.payload !== "";
}

/** What the typed fields alone say, in OpenAI's form. */
function fromFields(
  message: Pick<NewMessage, "content" | "name" | "toolCalls" | "toolCallId"> & { role: string },
): OpenAiMessage {
  const { content = "", toolCalls = [] } = message;
  const result: OpenAiMessage = { role: message.role, content };
  if (message.name) result.name = message.name;
  if (toolCalls.length > 0) {
    if (content === "") result.content = null;
    result.tool_calls = toolCalls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    }));
  }
  if (message.toolCallId) result.tool_call_id = message.toolCallId;
  return result;
}

/** The text of a message for people and for search: its content, or what stands in for it. */
function readableText(message: Record<string, unknown>): string {
  const { content } = message;
  if (typeof content === "string") return content;
  const parts = Array.isArray(content) ? content.map(readablePart) : [];
  parts.push(text(message["refusal"]) || text(asRecord(message["audio"])?.["transcript"]));
  return parts.filter((part) => part !== "").join("\n");
}

function readablePart(part: unknown): string {
  if (typeof part === "string") return part;
  const fields = asRecord(part);
  return text(fields?.["text"]) || text(fields?.["refusal"]);
}

/** The tool calls that fit the typed field, from every form that the API has had. */
function readableToolCalls(message: Record<string, unknown>): ToolCall[] {
  const calls = Array.isArray(message["tool_calls"])
    ? message["tool_calls"].map((call) => {
        const fields = asRecord(call);
        const custom = asRecord(fields?.["custom"]);
        const called = asRecord(fields?.["function"]) ?? custom;
        return toolCall(
          fields?.["id"],
          called?.["name"],
          called?.["arguments"] ?? custom?.["input"],
        );
      })
    : [];
  const legacy = asRecord(message["function_call"]);
  if (legacy !== undefined) calls.push(toolCall("", legacy["name"], legacy["arguments"]));
  return calls.filter((call) => call !== undefined).slice(0, MAX_TOOL_CALLS);
}

function toolCall(id: unknown, name: unknown, args: unknown): ToolCall | undefined {
  if (!isShortText(name)) return undefined;
  const written = typeof args === "string" ? args : (JSON.stringify(args) ?? "");
  return { id: isShortText(id) ? id : "", name, arguments: written.toWellFormed() };
}

function isShortText(value: unknown): value is string {
  return (
    typeof value === "string" &&
    value.length <= MAX_SHORT_TEXT &&
    value.isWellFormed() &&
    !value.includes("\0")
  );
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

/** Whether two values are the same JSON; a key that is undefined is one that is not there. */
function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return (
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((item, index) => sameJson(item, b[index]))
    );
  }
  const left = asRecord(a);
  const right = asRecord(b);
  if (left === undefined || right === undefined) return false;
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].every((key) => sameJson(own(left, key), own(right, key)));
}

/** A property of the object itself: a key such as `__proto__` must not reach its prototype. */
function own(object: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}
