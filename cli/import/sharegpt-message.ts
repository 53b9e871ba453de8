// Turns the elements of a ShareGPT conversation into messages to append.
import type { NewMessage, Role, ToolCall } from "../../client/index.js";
import { elements, member } from "../json-slices.js";
import { SHAREGPT_MESSAGE } from "../source-forms.js";
import { isObject, isShortText, type JsonRecord } from "./json.js";

const SPEAKERS = new Map<string, Role>([
  ["human", "user"],
  ["user", "user"],
  ["gpt", "assistant"],
  ["assistant", "assistant"],
  ["chatgpt", "assistant"],
  ["bot", "assistant"],
  ["model", "assistant"],
  ["function_call", "assistant"],
  ["tool_call", "assistant"],
  ["system", "system"],
  ["observation", "tool"],
  ["tool", "tool"],
  ["tool_response", "tool"],
  ["function_response", "tool"],
]);

/** Maps the elements of one conversation, in their order: results find the calls before them. */
export class ShareGptMessages {
  readonly #warn: (warning: string) => void;
  #unanswered: string[] = [];
  #calls = 0;

  /** @param warn takes what a person should know about an element that is imported all the same */
  constructor(warn: (warning: string) => void) {
    this.#warn = warn;
  }

  /**
   * Maps one element; its JSON text is kept as the payload.
   *
   * A function call becomes an assistant turn with tool_calls, whose arguments are the exact text
   * that they have in the value; a value that is no call stays the turn's text. A result takes the
   * id of the first call before it that has no result yet, if there is one. An unknown speaker
   * becomes a user of that name: neither the model nor someone who instructs it.
   *
   * @param source the parsed element, whose `from` is a string
   * @param raw the element's JSON text
   * @param place where it is, for warnings: `conversations[3]`
   */
  next(source: JsonRecord & { from: string }, raw: string, place: string): NewMessage {
    const speaker = source.from.trim().toLowerCase();
    const text = valueText(source["value"], raw);
    const message: NewMessage = {
      role: SPEAKERS.get(speaker) ?? "user",
      content: text.toWellFormed(),
      payload: raw,
      payloadType: SHAREGPT_MESSAGE,
    };
    if (!SPEAKERS.has(speaker)) {
      if (isShortText(source.from)) message.name = source.from;
      this.#warn(`${place}.from is not a known speaker: kept as a user of that name`);
    }
    if (speaker === "function_call" || speaker === "tool_call") {
      const calls = this.#toolCalls(text);
      if (calls === undefined) {
        this.#warn(`${place}.value is not the JSON of a call: kept as the assistant's text`);
      } else {
        message.content = "";
        message.toolCalls = calls;
      }
      this.#unanswered = (calls ?? []).map((call) => call.id);
    }
    if (message.role === "tool") {
      const id = this.#unanswered.shift();
      if (id !== undefined) message.toolCallId = id;
    }
    return message;
  }

  /** The calls that a value holds, one or a list; undefined when it holds anything else. */
  #toolCalls(text: string): ToolCall[] | undefined {
    const value = parse(text);
    const items = Array.isArray(value) ? elements(text) : [text];
    const found = items.map(readCall);
    if (found.length === 0 || found.length > 1000 || found.includes(undefined)) return undefined;
    return found
      .filter((call) => call !== undefined)
      .map((call) => {
        this.#calls += 1;
        return { ...call, id: call.id || `call_${this.#calls}` };
      });
  }
}

function valueText(value: unknown, raw: string): string {
  if (typeof value === "string") return value;
  return value === undefined || value === null ? "" : (member(raw, "value") ?? "");
}

/** Reads `{name, arguments}`, also where OpenAI's `{id, function: {…}}` stands around it. */
function readCall(raw: string): ToolCall | undefined {
  const item = parse(raw);
  if (!isObject(item)) return undefined;
  const wrapped = isObject(item["function"]) ? member(raw, "function") : undefined;
  const rawCall = wrapped ?? raw;
  const call = wrapped === undefined ? item : (item["function"] as JsonRecord);
  if (!isShortText(call["name"])) return undefined;
  const key = ["arguments", "parameters"].find((candidate) => Object.hasOwn(call, candidate));
  const written = key === undefined ? "{}" : call[key];
  const text = typeof written === "string" ? written : (member(rawCall, key ?? "") ?? "{}");
  const id = isShortText(item["id"]) ? item["id"] : "";
  return { id, name: call["name"], arguments: text.toWellFormed() };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
