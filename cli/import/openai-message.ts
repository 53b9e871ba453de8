// Turns one element of a conversation in OpenAI's form into a message to append.

import type { NewMessage, OpenAiMessage } from "../../client/index.js";
import { fromLlmMessage, OPENAI_CHAT_MESSAGE } from "../../client/index.js";
import { elements, member, members } from "../json-slices.js";
import { BadLineError } from "./bad-line.js";
import { isObject, type JsonRecord } from "./json.js";

/**
 * Maps an OpenAI chat message of any role and age. Arguments that are not a string become the exact
 * text that they have in the file. What the store's fields cannot say stays whole in the payload.
 * @param source the parsed element
 * @param raw the element's JSON text
 * @param place where it is, for errors: `messages[3]`
 * @throws BadLineError when the role is none of OpenAI's
 */
export function openAiMessage(source: JsonRecord, raw: string, place: string): NewMessage {
  if (!isRole(source["role"])) {
    throw new BadLineError(
      `${place}.role is none of system, developer, user, assistant, tool, function`,
    );
  }
  const message = fromLlmMessage(source as unknown as OpenAiMessage, raw);
  if (hasWrittenOutArguments(source)) {
    const exact = fromLlmMessage(withTextArguments(source, raw)).toolCalls;
    if (exact) message.toolCalls = exact;
  }
  if (message.payload === undefined && hasDuplicateKeys(raw, source)) {
    message.payload = raw;
    message.payloadType = OPENAI_CHAT_MESSAGE;
  }
  return message;
}

const ROLES = new Set<unknown>(["system", "developer", "user", "assistant", "tool", "function"]);

function isRole(role: unknown): boolean {
  return ROLES.has(role);
}

/** Whether a call's arguments are JSON values of their own instead of JSON text in a string. */
function hasWrittenOutArguments(source: JsonRecord): boolean {
  const calls: unknown[] = Array.isArray(source["tool_calls"]) ? source["tool_calls"] : [];
  const functions = calls.map((call) => (isObject(call) ? call["function"] : undefined));
  return [...functions, source["function_call"]].some(
    (called) =>
      isObject(called) && "arguments" in called && typeof called["arguments"] !== "string",
  );
}

/** The message with all arguments as text: the bytes that they have in the file. */
function withTextArguments(source: JsonRecord, raw: string): OpenAiMessage {
  const changed: JsonRecord = { ...source };
  if (Array.isArray(source["tool_calls"])) {
    const rawCalls = elements(member(raw, "tool_calls") ?? "[]");
    changed["tool_calls"] = source["tool_calls"].map((call: unknown, index) => {
      if (!isObject(call)) return call;
      const rawFunction = member(rawCalls[index] ?? "{}", "function") ?? "{}";
      return { ...call, function: withTextArgument(call["function"], rawFunction) };
    });
  }
  if (isObject(source["function_call"])) {
    const rawFunction = member(raw, "function_call") ?? "{}";
    changed["function_call"] = withTextArgument(source["function_call"], rawFunction);
  }
  return changed as unknown as OpenAiMessage;
}

function withTextArgument(called: unknown, raw: string): unknown {
  if (!isObject(called) || typeof called["arguments"] === "string") return called;
  const text = member(raw, "arguments");
  return text === undefined ? called : { ...called, arguments: text };
}

/** Whether JSON.parse dropped a member because another one of the same key follows. */
function hasDuplicateKeys(raw: string, value: unknown): boolean {
  if (Array.isArray(value)) {
    const items = elements(raw);
    return value.some((item, index) => hasDuplicateKeys(items[index] ?? "null", item));
  }
  if (!isObject(value)) return false;
  const parts = members(raw);
  if (parts.length !== Object.keys(value).length) return true;
  return parts.some((part) => hasDuplicateKeys(part.raw, value[part.key]));
}
