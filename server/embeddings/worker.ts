// Embeds messages in the background, as long as an endpoint is configured.
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { limits } from "../config.js";
import type { Database } from "../db/database.js";
import { embedBatch } from "./batch.js";
import type { EmbeddingsEndpoint } from "./endpoint.js";
import type { EndpointError } from "./endpoint-error.js";
import { prepareModel, queueBackfill, queueChanges } from "./feed.js";
import * as sql from "./sql.js";
import { ensureVectorIndex } from "./vector-index.js";

const FIRST_PAUSE_MS = 1_000;
/** How long a server may not know that pgvector was installed. */
const LOOK_AGAIN_MS = 60_000;
/** How often a server says that it reads the change log, when that has nothing new. */
const ALIVE_MS = 3_600_000;

/**
 * The worker of one server process. Any number of them share the work: one at a time reads the change
 * log, and each takes up messages that no other has.
 */
export class EmbeddingWorker {
  readonly #stopping = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  /** How often in a row the endpoint has not answered. */
  #away = 0;
  /** What was noted last of why it does not; undefined before the first time. */
  #noted: string | null | undefined;
  #prepared = false;
  /** When to say again that somebody reads the change log, in milliseconds. */
  #aliveDueMs = 0;
  /** When to look for pgvector again, in milliseconds; Infinity when the index is made. */
  #indexDueMs = 0;

  /** @param db for the work in the background: it takes two connections */
  constructor(
    readonly db: Database,
    readonly endpoint: EmbeddingsEndpoint,
    readonly logger: Logger,
  ) {}

  /** Begins to work. */
  start(): void {
    const { signal } = this.#stopping;
    this.#running = Promise.all([
      this.#repeat("the queue of embeddings waits", signal, () => this.feed(signal)),
      this.#repeat("embeddings wait", signal, () => this.embed(signal)),
    ]);
  }

  /** Ends the work; a request to the endpoint is broken off, and made again later. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /**
   * Queues what is to be embedded.
   *
   * @returns how long to wait before the next time, in milliseconds
   */
  async feed(signal: AbortSignal): Promise<number> {
    const { model, dimensions } = this.endpoint;
    if (!this.#prepared) await prepareModel(this.db, model, dimensions, signal);
    this.#prepared = true;
    const now = new Date();
    const isAlive = now.getTime() >= this.#aliveDueMs;
    const changed = await queueChanges(this.db, model, { now, isAlive }, signal);
    if (isAlive) this.#aliveDueMs = now.getTime() + ALIVE_MS;
    const before = await queueBackfill(this.db, model, new Date(), signal);
    if (changed || before) return 0;
    if (Date.now() >= this.#indexDueMs) await this.#ensureIndex(signal);
    return limits.embeddingFeedMs;
  }

  async #ensureIndex(signal: AbortSignal): Promise<void> {
    const { model } = this.endpoint;
    const [known] = await this.db.query(sql.getModel, [model], signal);
    if (!known?.dimensions) return;
    const space = { model, dimensions: known.dimensions };
    const made = await ensureVectorIndex(this.db, space, this.logger, signal);
    this.#indexDueMs = made ? Number.POSITIVE_INFINITY : Date.now() + LOOK_AGAIN_MS;
  }

  /**
   * Embeds a batch of what is due.
   *
   * @returns how long to wait before the next one, in milliseconds
   */
  async embed(signal: AbortSignal): Promise<number> {
    const outcome = await embedBatch(this.db, this.endpoint, signal);
    if (outcome.kind === "idle") return limits.embeddingFeedMs;
    if (outcome.kind === "away") return await this.#pause(outcome.error, signal);
    this.#away = 0;
    await this.#noteError(null, signal);
    if (outcome.kind === "failed") {
      this.logger.warn({ why: outcome.error.message }, "messages are not embedded");
    }
    return 0;
  }

  async #pause(error: EndpointError, signal: AbortSignal): Promise<number> {
    const growing = Math.min(FIRST_PAUSE_MS * 2 ** this.#away, limits.embeddingPauseMostMs);
    const pauseMs = error.retryAfterMs ?? Math.round(growing * (0.5 + Math.random() / 2));
    if (this.#away === 0) {
      this.logger.warn({ why: error.message }, "the embeddings endpoint does not answer");
    }
    this.#away++;
    await this.#noteError(error.message, signal);
    return pauseMs;
  }

  async #noteError(text: string | null, signal: AbortSignal): Promise<void> {
    if (text === this.#noted) return;
    await this.db.query(sql.noteError, [this.endpoint.model, text], signal);
    this.#noted = text;
  }

  async #repeat(
    complaint: string,
    signal: AbortSignal,
    turn: () => Promise<number>,
  ): Promise<void> {
    let failing = false;
    while (!signal.aborted) {
      let pauseMs: number = limits.embeddingFeedMs;
      try {
        pauseMs = await turn();
        failing = false;
      } catch (error) {
        if (!failing && !signal.aborted) this.logger.warn({ err: error }, complaint);
        failing = true;
      }
      if (pauseMs > 0) await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }
}
