// A model for tests that says what it is told to, in turn, and keeps what it was asked.
import type { ChatFunction, ChatReply, ChatRequest } from "../../../../client/agent/index.js";
import type { OpenAiMessage, OpenAiToolCall } from "../../../../client/index.js";

/** What the model does at one turn: a text, a message, a reply, or whatever a function comes to. */
export type Turn =
  | string
  | OpenAiMessage
  | ChatReply
  | ((request: ChatRequest) => ChatReply | Promise<ChatReply>);

/** A chat function that takes the turns one after another. */
export function scripted(...turns: Turn[]): { chat: ChatFunction; asked: ChatRequest[] } {
  const asked: ChatRequest[] = [];
  const chat: ChatFunction = async (request) => {
    const turn = turns[asked.length];
    asked.push({ ...request, messages: structuredClone(request.messages) });
    if (turn === undefined) throw new Error(`the script has no turn ${asked.length}`);
    if (typeof turn === "function") return turn(request);
    if (typeof turn === "string") return { message: { role: "assistant", content: turn } };
    return "message" in turn ? turn : { message: turn };
  };
  return { chat, asked };
}

/** An assistant's message that calls tools: `["c1", "clock"]`, `["c2", "add", '{"a":1}']`. */
export function calling(...calls: [id: string, name: string, args?: string][]): OpenAiMessage {
  return {
    role: "assistant",
    content: null,
    tool_calls: calls.map(([id, name, args = "{}"]) => toolCall(id, name, args)),
  };
}

export function toolCall(id: string, name: string, args = "{}"): OpenAiToolCall {
  return { id, type: "function", function: { name, arguments: args } };
}

/** A tool message. */
export function result(id: string, name: string, content: string): OpenAiMessage {
  return { role: "tool", tool_call_id: id, name, content };
}

/** Something that happens when it is told to. */
export function gate<T = void>(): { promise: Promise<T>; open: (value: T) => void } {
  let open: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}
