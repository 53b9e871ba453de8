// Reads from a history what was done in it: the tool calls, each with its result.
import type { OpenAiMessage } from "@agentstore/client";

/** A tool call and what came of it. */
export interface Action {
  tool: string;
  args: Record<string, unknown>;
  /** What the tool answered; undefined when that is no JSON object: it failed, or never answered. */
  result: Record<string, unknown> | undefined;
  /** The same as text. */
  text: string;
}

/** Lists the tool calls of a history, oldest first. */
export function actionsIn(messages: readonly OpenAiMessage[]): Action[] {
  const results = new Map(messages.map((message) => [message.tool_call_id, contentOf(message)]));
  return messages
    .flatMap((message) => message.tool_calls ?? [])
    .filter((call) => call.type === "function")
    .map((call) => {
      const text = results.get(call.id) ?? "";
      return {
        tool: call.function.name,
        args: object(call.function.arguments) ?? {},
        result: object(text),
        text,
      };
    });
}

/** The text of a message; empty when it has none. */
export function contentOf(message: OpenAiMessage | undefined): string {
  return typeof message?.content === "string" ? message.content : "";
}

function object(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
