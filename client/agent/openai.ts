// A chat function for OpenAI, and for any endpoint that speaks its chat completions protocol.
import OpenAI, { APIConnectionError, APIConnectionTimeoutError, OpenAIError } from "openai";
import type { ChatFunction, ChatReply, ChatRequest } from "./chat.js";
import { AnswerParts, newUsage } from "./openai-answer.js";

/** Which model is asked, and how. */
export interface OpenAiChatOptions {
  /** The model's name, as the endpoint knows it. */
  model: string;
  /** The key. Default: the environment variable OPENAI_API_KEY. */
  apiKey?: string | undefined;
  /**
   * Where the endpoint is. Default: the environment variable OPENAI_BASE_URL, else
   * `https://api.openai.com/v1`.
   */
  baseURL?: string | undefined;
  /** A client of the `openai` package, for what else it can be configured with, such as Azure. */
  client?: OpenAI | undefined;
  /** Further fields of the request, such as `temperature` or `parallel_tool_calls`. */
  parameters?: Readonly<Record<string, unknown>> | undefined;
  /**
   * Whether the answer is streamed, so that its text can be shown as it arrives and what has
   * arrived of an interrupted answer is kept. Default: true.
   */
  stream?: boolean | undefined;
  /**
   * How long an attempt may take until the answer begins and, streamed, how long the answer may
   * then stand still, in milliseconds (1 to 2,147,483,647). Default: 600,000.
   */
  timeoutMs?: number | undefined;
  /**
   * How often a request is repeated that failed before its answer began: connection errors, 408,
   * 409, 429 and 5xx, after the time that the endpoint asks for. Default: 2.
   */
  maxRetries?: number | undefined;
}

/**
 * Makes a chat function. It throws the errors of the `openai` package: `APIError` and its
 * subclasses, such as `RateLimitError`; a connection that breaks off is an `APIConnectionError`.
 * When an answer breaks off after text has arrived, that text is returned, as incomplete; parts of
 * tool calls are not.
 *
 * @throws OpenAIError when there is no key
 */
export function openAiChat(options: OpenAiChatOptions): ChatFunction {
  const { model, parameters, stream = true, timeoutMs = 600_000, maxRetries = 2 } = options;
  const client =
    options.client ??
    new OpenAI({
      ...(options.apiKey === undefined ? {} : { apiKey: options.apiKey }),
      ...(options.baseURL === undefined ? {} : { baseURL: options.baseURL }),
      // What it would log are contents.
      logLevel: "off",
    });
  return async (request) => {
    const controller = new AbortController();
    const abort = (): void => controller.abort(request.signal.reason);
    request.signal.throwIfAborted();
    request.signal.addEventListener("abort", abort);
    const body = {
      ...parameters,
      model,
      messages: request.messages,
      ...(request.tools.length > 0 ? { tools: request.tools } : {}),
    };
    const call: Call = {
      client,
      body,
      request,
      controller,
      timeoutMs,
      options: { signal: controller.signal, timeout: timeoutMs, maxRetries },
    };
    try {
      return await (stream ? streamed(call) : whole(call));
    } finally {
      request.signal.removeEventListener("abort", abort);
    }
  };
}

interface Call {
  client: OpenAI;
  body: object;
  request: ChatRequest;
  /** Ends the connection: when the caller's signal aborts, or the answer stands still. */
  controller: AbortController;
  timeoutMs: number;
  options: OpenAI.RequestOptions;
}

async function whole({ client, body, request, options }: Call): Promise<ChatReply> {
  const asked = client.chat.completions.create(
    body as OpenAI.ChatCompletionCreateParamsNonStreaming,
    options,
  );
  const answer = await orAborted(asked, request.signal).catch((error: unknown) => {
    throw request.signal.aborted ? request.signal.reason : brokenOff(error);
  });
  const message = answer?.choices?.[0]?.message;
  if (!message) throw new APIConnectionError({ message: "the endpoint's answer has no message" });
  if (typeof message.content === "string") request.onText?.(message.content);
  return { message, usage: newUsage(answer.usage) };
}

async function streamed(call: Call): Promise<ChatReply> {
  const { client, body, request, controller, timeoutMs, options } = call;
  const asked = client.chat.completions.create(
    {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    } as OpenAI.ChatCompletionCreateParamsStreaming,
    options,
  );
  const chunks = await orAborted(asked, request.signal);
  const parts = new AnswerParts();
  let failure: unknown;
  const onIdle = (): void => {
    failure = new APIConnectionTimeoutError({ message: `nothing more came for ${timeoutMs} ms` });
    controller.abort();
  };
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    for (;;) {
      const timer = setTimeout(onIdle, timeoutMs);
      let text: string;
      try {
        const next = await iterator.next();
        if (next.done) break;
        text = parts.add(next.value);
      } catch (error) {
        failure ??= error;
        break;
      } finally {
        clearTimeout(timer);
      }
      if (text !== "") request.onText?.(text);
    }
  } finally {
    controller.abort();
  }
  if (parts.finished) return parts.reply();
  const cause: unknown = request.signal.aborted ? request.signal.reason : brokenOff(failure);
  if (parts.text === "") throw cause;
  return parts.incomplete(cause);
}

/** Why an answer ended early, as an error of the `openai` package. */
function brokenOff(failure: unknown): unknown {
  if (failure instanceof OpenAIError) return failure;
  const reason = failure instanceof Error ? `: ${failure.message}` : "";
  return new APIConnectionError({
    message: `the answer broke off${reason}`,
    ...(failure instanceof Error ? { cause: failure } : {}),
  });
}

/** Waits for the package, which does not notice a signal while it waits to repeat a request. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
