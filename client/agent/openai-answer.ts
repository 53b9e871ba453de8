// Puts a streamed answer of the chat completions protocol together from its parts.
import type { OpenAiMessage } from "../openai.js";
import type { NewUsage } from "../types.js";
import type { ChatReply } from "./chat.js";

/** A part of a streamed answer, as far as it can be relied on: endpoints differ. */
interface Chunk {
  choices?: {
    delta?: {
      content?: string | null;
      refusal?: string | null;
      tool_calls?: CallPart[];
    };
    finish_reason?: string | null;
  }[];
  usage?: CompletionUsage | null;
}

interface CallPart {
  index?: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

interface CompletionUsage {
  prompt_tokens?: number;
  completion_tokens?: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
  completion_tokens_details?: { reasoning_tokens?: number } | null;
}

/** A tool call as far as it has arrived. */
interface StreamedCall {
  id: string;
  name: string;
  arguments: string;
}

/** A streamed answer as far as it has arrived. */
export class AnswerParts {
  /** The text so far. */
  text = "";
  /** Whether the endpoint has said that the answer is at its end; only its usage may follow. */
  finished = false;
  readonly #calls: StreamedCall[] = [];
  /** Which call a part belongs to, by the number that the endpoint gives it. */
  readonly #numbers = new Map<number, number>();
  #refusal = "";
  #usage: NewUsage | undefined;

  /**
   * Adds a part.
   *
   * @returns the text that it brings
   * @throws TypeError when it is nothing of the protocol
   */
  add(chunk: unknown): string {
    const { choices, usage } = (chunk ?? {}) as Chunk;
    if (usage) this.#usage = newUsage(usage);
    const choice = choices?.[0];
    const delta = choice?.delta;
    const text = delta?.content ?? "";
    this.text += text;
    if (delta?.refusal) this.#refusal += delta.refusal;
    for (const part of delta?.tool_calls ?? []) this.#addCall(part);
    if (choice?.finish_reason) this.finished = true;
    return text;
  }

  /** The whole answer. */
  reply(): ChatReply {
    const message: OpenAiMessage = { role: "assistant", content: this.text };
    if (this.#refusal !== "") message.refusal = this.#refusal;
    if (this.#calls.length > 0) {
      message.tool_calls = this.#calls.map(({ id, ...called }) => ({
        id,
        type: "function",
        function: called,
      }));
    }
    // As the endpoint would have said it at once.
    if (this.text === "" && (this.#calls.length > 0 || this.#refusal !== "")) {
      message.content = null;
    }
    return { message, usage: this.#usage };
  }

  /** The text of an answer that broke off. */
  incomplete(cause: unknown): ChatReply {
    const message = { role: "assistant", content: this.text };
    return { message, usage: this.#usage, incomplete: true, cause };
  }

  #addCall(part: CallPart): void {
    const call = this.#callOf(part);
    if (part.id && call.id === "") call.id = part.id;
    call.name += part.function?.name ?? "";
    call.arguments += part.function?.arguments ?? "";
  }

  /** The call that a part goes on with; some endpoints give no numbers and send each call whole. */
  #callOf({ index, id }: CallPart): StreamedCall {
    const known = index === undefined ? this.#calls.length - 1 : this.#numbers.get(index);
    const call = known === undefined ? undefined : this.#calls[known];
    const isNext = index === undefined && id !== undefined && id !== call?.id;
    if (call && !isNext) return call;
    const added = { id: "", name: "", arguments: "" };
    const length = this.#calls.push(added);
    if (index !== undefined) this.#numbers.set(index, length - 1);
    return added;
  }
}

/** What an answer used, in the store's terms; undefined when the endpoint did not say. */
export function newUsage(usage: CompletionUsage | null | undefined): NewUsage | undefined {
  if (!usage) return undefined;
  return {
    inputTokens: count(usage.prompt_tokens),
    outputTokens: count(usage.completion_tokens),
    cachedTokens: count(usage.prompt_tokens_details?.cached_tokens),
    reasoningTokens: count(usage.completion_tokens_details?.reasoning_tokens),
  };
}

function count(value: unknown): number {
  return Number.isSafeInteger(value) ? Math.max(0, value as number) : 0;
}
