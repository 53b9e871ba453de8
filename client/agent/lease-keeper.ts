// Holds the lease of a session for as long as a dialogue runs it.
import { hostname } from "node:os";
import type { AgentStoreClient } from "../agent-store-client.js";
import { LeaseHeldError, LeaseLostError, SessionNotFoundError } from "../errors.js";
import { sleep } from "./waiting.js";

/** How a dialogue holds its session. */
export interface LeaseOptions {
  /** Who runs the dialogue, for people to read: 1 to 256 characters. Default: host and process. */
  holder?: string | undefined;
  /**
   * How long the lease outlives a process that is killed, in milliseconds: 1,000 to 3,600,000. It
   * is renewed at every third of that. Default: 30,000.
   */
  leaseTtlMs?: number | undefined;
  /**
   * How long to wait for a lease that someone else holds, in milliseconds; a process that takes
   * over from one that was killed waits for as long as its lease lasts. Default: 0.
   */
  leaseWaitMs?: number | undefined;
}

const DEFAULT_TTL_MS = 30_000;
/** A lease that is released early is noticed after this long. */
const LOOK_AGAIN_MS = 500;

/** A lease that is kept renewed in the background until it is released or lost. */
export class LeaseKeeper {
  readonly fencingToken: bigint;
  readonly #store: AgentStoreClient;
  readonly #conversationId: bigint;
  readonly #ttlMs: number;
  readonly #lost = new AbortController();
  readonly #ended = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  private constructor(
    store: AgentStoreClient,
    conversationId: bigint,
    ttlMs: number,
    fencingToken: bigint,
  ) {
    this.#store = store;
    this.#conversationId = conversationId;
    this.#ttlMs = ttlMs;
    this.fencingToken = fencingToken;
    this.#renewLater();
  }

  /**
   * Acquires a session's lease, waiting for it if asked to.
   *
   * @throws LeaseHeldError when someone else still holds it after the wait
   * @throws SessionNotFoundError
   */
  static async acquire(
    store: AgentStoreClient,
    conversationId: bigint,
    options: LeaseOptions,
    signal: AbortSignal | undefined,
  ): Promise<LeaseKeeper> {
    const ttlMs = options.leaseTtlMs ?? DEFAULT_TTL_MS;
    const holder = options.holder ?? `${hostname()}:${process.pid}`.slice(-256);
    const until = Date.now() + (options.leaseWaitMs ?? 0);
    for (;;) {
      try {
        const lease = await store.acquireLease(conversationId, holder, { ttlMs, signal });
        return new LeaseKeeper(store, conversationId, ttlMs, lease.fencingToken);
      } catch (error) {
        const left = until - Date.now();
        if (!(error instanceof LeaseHeldError) || left <= 0) throw error;
        const wait = Math.min(error.retryDelayMs ?? LOOK_AGAIN_MS, LOOK_AGAIN_MS, left);
        await sleep(Math.max(wait, 1), signal);
      }
    }
  }

  /** Aborts when someone else has taken the lease; the reason is the LeaseLostError. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Notes that the store has refused the lease. */
  lose(error: LeaseLostError): void {
    this.#end();
    this.#lost.abort(error);
  }

  /**
   * Renews the lease now, so that it is certainly this dialogue's.
   *
   * @throws LeaseLostError
   */
  async renew(signal?: AbortSignal): Promise<void> {
    const ttlMs = this.#ttlMs;
    try {
      await this.#store.renewLease(this.#conversationId, this.fencingToken, { ttlMs, signal });
    } catch (error) {
      if (error instanceof LeaseLostError) this.lose(error);
      throw error;
    }
  }

  /** Gives the lease back, unless it was lost; stops renewing in any case. */
  async release(): Promise<void> {
    this.#end();
    if (this.lost.aborted) return;
    try {
      await this.#store.releaseLease(this.#conversationId, this.fencingToken);
    } catch (error) {
      // A session that was deleted has no lease.
      if (!(error instanceof SessionNotFoundError)) throw error;
    }
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#ended.abort();
  }

  #renewLater(): void {
    this.#timer = setTimeout(() => void this.#renewAndGoOn(), this.#ttlMs / 3);
    // A dialogue that nobody closes must not keep the process alive.
    this.#timer.unref();
  }

  async #renewAndGoOn(): Promise<void> {
    // A store that is away is tried again: the lease can be renewed until someone else takes it.
    await this.renew(this.#ended.signal).catch(() => {});
    if (!this.#ended.signal.aborted) this.#renewLater();
  }
}
