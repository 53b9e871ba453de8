// Reads one line of a JSONL file as a conversation, whichever of the known forms it has.
import type { JsonObject, NewMessage } from "../../client/index.js";
import { elements, type Member, members } from "../json-slices.js";
import { isModel } from "../options.js";
import type { SourceForm } from "../source-forms.js";
import { BadLineError } from "./bad-line.js";
import { hasLoneSurrogate, isObject, type JsonRecord } from "./json.js";
import { sourceMetadata } from "./metadata.js";
import { openAiMessage } from "./openai-message.js";
import { ShareGptMessages } from "./sharegpt-message.js";

/** A conversation that is ready to be stored. */
export interface ImportedConversation {
  /** The model that the line names; undefined when it names none. */
  model: string | undefined;
  /** The beginning of what the user says first; empty when there is no such text. */
  title: string;
  metadata: JsonObject;
  messages: NewMessage[];
  /** What a person should know although the line is imported. */
  warnings: string[];
}

const TITLE_CHARACTERS = 80;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a line: `{"messages":[…]}`, `{"conversations":[…]}`, each with any other members, or the
 * bare array. Each element is told by itself to be an OpenAI chat message (`role`) or a ShareGPT
 * one (`from`).
 * @throws BadLineError when it is none of these
 */
export function readConversation(bytes: Buffer): ImportedConversation {
  const text = decode(bytes);
  const value = parse(text);
  try {
    return convert(text, value);
  } catch (error) {
    // Only the stack can run out here: values are walked recursively, and the line is valid JSON.
    if (error instanceof RangeError) throw new BadLineError("is nested too deeply");
    throw error;
  }
}

function convert(text: string, value: unknown): ImportedConversation {
  const warnings: string[] = [];
  const warn = (warning: string): void => void warnings.push(warning);
  const { form, items, rawItems, others } = findMessages(text, value);
  const shareGpt = new ShareGptMessages(warn);
  const name = form === "array" ? "" : form;
  const messages = items.map((item: unknown, index) => {
    const place = `${name}[${index}]`;
    const raw = rawItems[index] ?? "";
    if (!isObject(item)) throw new BadLineError(`${place} is not an object`);
    if (/\\u[dD][89a-fA-F]/.test(raw) && hasLoneSurrogate(item)) {
      warn(`${place} has half a surrogate pair: exact in the payload, U+FFFD elsewhere`);
    }
    if (isShareGpt(item)) return shareGpt.next(item, raw, place);
    if (typeof item["role"] === "string") return openAiMessage(item, raw, place);
    throw new BadLineError(`${place} has neither a "role" nor a "from" that is a string`);
  });
  return {
    model: modelOf(value),
    title: titleOf(messages),
    metadata: sourceMetadata(form, others, warn),
    messages,
    warnings,
  };
}

function isShareGpt(item: JsonRecord): item is JsonRecord & { from: string } {
  return typeof item["from"] === "string" && typeof item["role"] !== "string";
}

function decode(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new BadLineError("is not valid UTF-8");
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const hint = /^\s*[[{]\s*$/.test(text)
      ? "; a file with one JSON document over several lines becomes JSONL with `jq -c .`"
      : "";
    throw new BadLineError(`is not valid JSON: ${(error as Error).message}${hint}`);
  }
}

interface Found {
  form: SourceForm;
  items: unknown[];
  rawItems: string[];
  others: Member[];
}

function findMessages(text: string, value: unknown): Found {
  if (Array.isArray(value)) {
    return { form: "array", items: value, rawItems: elements(text), others: [] };
  }
  if (!isObject(value)) throw new BadLineError("is neither an object nor an array of messages");
  const forms = ["messages", "conversations"] as const;
  const form = forms.find((key) => Array.isArray(value[key]));
  if (form === undefined) {
    const present = forms.find((key) => Object.hasOwn(value, key));
    throw new BadLineError(
      present === undefined
        ? 'has neither "messages" nor "conversations"'
        : `"${present}" is not an array`,
    );
  }
  const parts = members(text);
  const chosen = parts.findLastIndex((part) => part.key === form);
  return {
    form,
    items: value[form] as unknown[],
    rawItems: elements(parts[chosen]?.raw ?? "[]"),
    others: parts.filter((_, index) => index !== chosen),
  };
}

function modelOf(value: unknown): string | undefined {
  const model = isObject(value) ? value["model"] : undefined;
  return typeof model === "string" && isModel(model) ? model : undefined;
}

function titleOf(messages: readonly NewMessage[]): string {
  const first = messages.find((message) => message.role === "user" && message.content?.trim());
  // A title is one line, and a few hundred characters hold enough of it.
  const line = (first?.content ?? "")
    .trimStart()
    .slice(0, 1000)
    .replaceAll(/[\s\p{Cc}]+/gu, " ")
    .toWellFormed()
    .trim();
  const characters = Array.from(line);
  return characters.length <= TITLE_CHARACTERS
    ? line
    : `${characters.slice(0, TITLE_CHARACTERS - 1).join("")}…`;
}
