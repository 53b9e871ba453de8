// An OpenAI-compatible embeddings endpoint, which is trusted with texts but not to behave.
import OpenAI from "openai";
import { limits } from "../config.js";
import { boundedFetch } from "./bounded-fetch.js";
import { EndpointError } from "./endpoint-error.js";
import { vectorFault } from "./vector.js";

/** Where embeddings are made. */
export interface EndpointOptions {
  /** What `/embeddings` is appended to, for example `https://api.openai.com/v1`. */
  url: string;
  /** The model, as the endpoint calls it. */
  model: string;
  /** How many numbers to ask for; absent: as many as the model has. */
  dimensions?: number | undefined;
  /** The bearer token, if it wants one. */
  apiKey?: string | undefined;
}

/** The client of an endpoint. */
export class EmbeddingsEndpoint {
  readonly model: string;
  readonly dimensions: number | undefined;
  readonly #client: OpenAI;

  /** @param requestMs how long a request may take, with its answer, in milliseconds */
  constructor(
    { url, model, dimensions, apiKey }: EndpointOptions,
    readonly requestMs: number = limits.embeddingRequestMs,
  ) {
    this.model = model;
    this.dimensions = dimensions;
    this.#client = new OpenAI({
      baseURL: url,
      apiKey: apiKey ?? "none",
      // Not from the environment: they are those of whatever else this machine uses OpenAI for.
      organization: null,
      project: null,
      ...(apiKey === undefined ? { defaultHeaders: { authorization: null } } : {}),
      // Whoever calls retries, and knows when.
      maxRetries: 0,
      timeout: requestMs,
      logLevel: "off",
      fetch: boundedFetch(limits.embeddingAnswerBytes),
    });
  }

  /**
   * Embeds texts.
   *
   * @param texts 1 to limits.embeddingBatch, none of them empty
   * @param dimensions how many numbers each vector must have; null for any, but all the same
   * @returns a vector for each text
   * @throws EndpointError, and the signal's reason
   */
  async embed(
    texts: string[],
    dimensions: number | null,
    signal: AbortSignal,
  ): Promise<Float32Array[]> {
    const impatience = AbortSignal.timeout(this.requestMs);
    try {
      // The client's own timeout ends when the headers have come; a body may take for ever.
      const answer: unknown = await this.#client.embeddings.create(
        {
          model: this.model,
          input: texts,
          encoding_format: "float",
          ...(this.dimensions === undefined ? {} : { dimensions: this.dimensions }),
        },
        { signal: AbortSignal.any([signal, impatience]) },
      );
      return readAnswer(answer, texts.length, dimensions ?? this.dimensions);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (impatience.aborted) throw tooSlow(this.requestMs);
      throw toEndpointError(error, this.requestMs);
    }
  }
}

function tooSlow(ms: number): EndpointError {
  return new EndpointError("failed", `it has not answered within ${ms / 1000} s`);
}

/** What an endpoint says of texts that it does not take. */
const REFUSALS = new Set([400, 413, 422]);

function toEndpointError(error: unknown, requestMs: number): unknown {
  if (error instanceof EndpointError) return error;
  if (error instanceof OpenAI.APIConnectionTimeoutError) return tooSlow(requestMs);
  if (error instanceof OpenAI.APIConnectionError) {
    const { cause } = error;
    if (cause instanceof EndpointError) return cause;
    return new EndpointError("failed", `it cannot be reached${codeOf(cause)}`);
  }
  if (error instanceof OpenAI.APIError) {
    const { status, headers } = error as { status?: number; headers?: Headers };
    const text = `it answered with HTTP status ${status}`;
    if (status === 429) return new EndpointError("busy", text, retryAfter(headers));
    if (status === 503) return new EndpointError("failed", text, retryAfter(headers));
    return new EndpointError(REFUSALS.has(status ?? 0) ? "refused" : "failed", text);
  }
  // What the body holds is not what it is called, or it broke off.
  if (error instanceof SyntaxError) return new EndpointError("failed", "its answer is no JSON");
  if (error instanceof TypeError && error.cause)
    return new EndpointError("failed", "its answer broke off");
  return error;
}

// For example ECONNREFUSED; fetch hides it behind its own.
function codeOf(error: unknown): string {
  let inner = error;
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
  const code = (inner as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? ` (${code})` : "";
}

function retryAfter(headers: Headers | undefined): number | undefined {
  const text = headers?.get("retry-after");
  if (!text) return undefined;
  const seconds = Number(text);
  const ms = Number.isNaN(seconds) ? Date.parse(text) - Date.now() : seconds * 1000;
  return Number.isNaN(ms) || ms < 0 ? undefined : Math.min(ms, limits.embeddingPauseMostMs);
}

function readAnswer(answer: unknown, count: number, dimensions?: number): Float32Array[] {
  const data = (answer as { data?: unknown } | null)?.data;
  if (!Array.isArray(data))
    throw new EndpointError("failed", "its answer is no list of embeddings");
  if (data.length !== count) {
    throw new EndpointError("failed", `it answered ${data.length} embeddings for ${count} texts`);
  }
  const vectors: Float32Array[] = [];
  for (const [place, item] of data.entries()) {
    const { index = place, embedding } = (item ?? {}) as { index?: unknown; embedding?: unknown };
    if (!isPlace(index, count) || vectors[index]) {
      throw new EndpointError("failed", "its answer's indexes are wrong");
    }
    vectors[index] = readVector(embedding, dimensions ?? vectors.find(Boolean)?.length);
  }
  return vectors;
}

function isPlace(index: unknown, count: number): index is number {
  return Number.isInteger(index) && (index as number) >= 0 && (index as number) < count;
}

function readVector(values: unknown, dimensions: number | undefined): Float32Array {
  const isVector = Array.isArray(values) && values.every((value) => typeof value === "number");
  if (!isVector) throw new EndpointError("failed", "an embedding of it is no list of numbers");
  const fault = vectorFault(values);
  if (fault)
    throw new EndpointError("failed", `an embedding of it is no vector: it ${fault.description}`);
  if (dimensions !== undefined && values.length !== dimensions) {
    throw new EndpointError(
      "failed",
      `an embedding of it has ${values.length} numbers, not ${dimensions}`,
    );
  }
  return Float32Array.from(values);
}
