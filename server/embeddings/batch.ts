// Takes up some of the messages that wait, embeds them, and says what came of it.
import { limits } from "../config.js";
import type { Database } from "../db/database.js";
import type { EmbeddingsEndpoint } from "./endpoint.js";
import { EndpointError } from "./endpoint-error.js";
import { keyOf, keysOf } from "./keys.js";
import { readTextsOfShards } from "./shards-sql.js";
import type { ClaimRow } from "./sql.js";
import * as sql from "./sql.js";
import { type ReadMessage, storeVectors } from "./store-vectors.js";

/** What came of a batch. */
export type BatchOutcome =
  /** Nothing is due. */
  | { kind: "idle" }
  /** So many messages were embedded; there may be more. */
  | { kind: "embedded"; messages: number }
  /** Some have failed by themselves, while the endpoint works. */
  | { kind: "failed"; error: EndpointError }
  /** The endpoint does not answer; what was taken up has been given back. */
  | { kind: "away"; error: EndpointError };

/** What is sent to see whether an endpoint works at all. */
const PROBE = "ping";
/** How long a message waits that has failed by itself, the first time. */
const FIRST_PAUSE_MS = 10_000;
/** How many of those that have failed are tried at a time, each by itself. */
const MOST_ALONE = 8;

interface Message extends ReadMessage {
  failures: number;
}

/**
 * Takes up messages that are due, embeds them and stores their vectors. Of what it takes up, nothing
 * is lost: a process that dies leaves it to whoever comes after limits.embeddingClaimMs.
 *
 * @throws RpcError or Error when the database fails, and the signal's reason
 */
export async function embedBatch(
  db: Database,
  endpoint: EmbeddingsEndpoint,
  signal: AbortSignal,
): Promise<BatchOutcome> {
  const now = Date.now();
  const until = new Date(now + limits.embeddingClaimMs);
  const values = [limits.embeddingBatch, new Date(now), until];
  const claimed = await db.query(sql.claim, values, signal);
  if (claimed.length === 0) return { kind: "idle" };
  const [model] = await db.query(sql.getModel, [endpoint.model], signal);
  return await new Batch(db, endpoint, model?.dimensions ?? null, signal).embed(claimed);
}

class Batch {
  constructor(
    readonly db: Database,
    readonly endpoint: EmbeddingsEndpoint,
    readonly dimensions: number | null,
    readonly signal: AbortSignal,
  ) {}

  async embed(claimed: ClaimRow[]): Promise<BatchOutcome> {
    const messages = await this.#read(claimed);
    await this.#dropOthers(claimed, messages);
    const parts = partsOf(messages);
    const taken = new Set(parts.flat());
    await this.#giveBack(messages.filter((message) => !taken.has(message)));
    let outcome: BatchOutcome = { kind: "embedded", messages: 0 };
    for (const [place, part] of parts.entries()) {
      const next = await this.#embedPart(part);
      if (next.kind === "away") {
        await this.#giveBack(parts.slice(place + 1).flat());
        return next;
      }
      outcome = together(outcome, next);
    }
    return outcome;
  }

  async #read(claimed: ClaimRow[]): Promise<Message[]> {
    const values = [...keysOf(claimed), this.endpoint.model, limits.embeddingCharacters];
    const read = this.db.shards ? readTextsOfShards : sql.readTexts;
    const texts = await this.db.query(read, values, this.signal);
    const claims = new Map(claimed.map((row) => [keyOf(row), row]));
    return texts.flatMap((text) => {
      const claim = claims.get(keyOf(text));
      return claim ? [{ ...claim, ...text }] : [];
    });
  }

  // Those that have been deleted, or embedded, or say nothing.
  async #dropOthers(claimed: ClaimRow[], messages: Message[]): Promise<void> {
    const needed = new Set(messages.map(keyOf));
    const others = claimed.filter((row) => !needed.has(keyOf(row)));
    if (others.length > 0) await this.db.query(sql.dequeue, keysOf(others), this.signal);
  }

  async #giveBack(messages: Message[]): Promise<void> {
    if (messages.length === 0) return;
    await this.db.query(sql.putOff, [...keysOf(messages), new Date()], this.signal);
  }

  async #embedPart(messages: Message[]): Promise<BatchOutcome> {
    const { db, endpoint, signal } = this;
    try {
      const texts = messages.map(({ text }) => text);
      const vectors = await endpoint.embed(texts, this.dimensions, signal);
      await storeVectors(db, endpoint.model, messages, vectors, signal);
      return { kind: "embedded", messages: messages.length };
    } catch (error) {
      if (!(error instanceof EndpointError)) throw error;
      const cause = error.fault === "busy" ? error : await this.#probe();
      if (cause) {
        await this.#giveBack(messages);
        return { kind: "away", error: cause };
      }
      await this.#countFailure(messages, error);
      return { kind: "failed", error };
    }
  }

  // Tells an endpoint that is away from one that cannot cope with these messages.
  async #probe(): Promise<EndpointError | undefined> {
    try {
      await this.endpoint.embed([PROBE], this.dimensions, this.signal);
      return undefined;
    } catch (error) {
      if (error instanceof EndpointError) return error;
      throw error;
    }
  }

  // Those that failed together come again at once, each by itself.
  async #countFailure(messages: Message[], error: EndpointError): Promise<void> {
    const [first, second] = messages;
    const before = second ? 0 : (first?.failures ?? 0);
    const isLast = error.fault === "refused" || before + 1 >= limits.embeddingFailures;
    const now = Date.now();
    const pauseMs = second ? 0 : FIRST_PAUSE_MS * 4 ** Math.max(0, before - 1);
    const values = [
      ...keysOf(messages),
      new Date(now + pauseMs),
      error.message,
      !second && isLast ? new Date(now) : null,
    ];
    await this.db.query(sql.countFailure, values, this.signal);
  }
}

// What is sent in one request. One that has failed before goes by itself: it may be what the others
// failed of.
function partsOf(messages: Message[]): Message[][] {
  let left = limits.embeddingBatchCharacters;
  const fresh = messages
    .filter(({ failures }) => failures === 0)
    .filter(({ text }, place) => {
      left -= text.length;
      return place === 0 || left >= 0;
    });
  const alone = messages.filter(({ failures }) => failures > 0).slice(0, MOST_ALONE);
  return [...(fresh.length > 0 ? [fresh] : []), ...alone.map((message) => [message])];
}

function together(before: BatchOutcome, next: BatchOutcome): BatchOutcome {
  if (before.kind === "embedded" && next.kind === "embedded") {
    return { kind: "embedded", messages: before.messages + next.messages };
  }
  return next.kind === "embedded" ? before : next;
}
