// What asks a model for its next turn: the one function that a dialogue needs of a provider.
import type { OpenAiMessage } from "../openai.js";
import type { NewUsage } from "../types.js";
import type { ToolDefinition } from "./tools.js";

/** What a model is asked with. */
export interface ChatRequest {
  /**
   * The conversation, in OpenAI's form and in an order that every provider accepts: each call of an
   * assistant turn is answered right behind that turn.
   */
  messages: readonly OpenAiMessage[];
  /** The tools that the model may call; may be empty. */
  tools: readonly ToolDefinition[];
  /** Aborts when the answer is no longer wanted. */
  signal: AbortSignal;
  /** Takes the answer's text as it arrives, where the chat function streams. */
  onText?: ((delta: string) => void) | undefined;
}

/** A model's turn. */
export interface ChatReply {
  /** A message of the role assistant: text, tool calls, or both. */
  message: OpenAiMessage;
  /** What the turn used, where the provider says so. */
  usage?: NewUsage | undefined;
  /**
   * True when the answer broke off: the message is what had arrived. It is kept, marked as
   * incomplete, and its tool calls, if any, are dropped, because their arguments may be cut off.
   */
  incomplete?: boolean | undefined;
  /** Why the answer broke off. */
  cause?: unknown;
}

/**
 * Asks a model for its next turn.
 *
 * It rejects when there is no answer, with whatever error the provider's library has, which the
 * dialogue hands on as the `cause` of a `ChatError`. When its signal aborts it ends soon: with what
 * has arrived so far as an incomplete reply, or by rejecting.
 */
export type ChatFunction = (request: ChatRequest) => Promise<ChatReply>;
