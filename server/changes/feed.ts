// The changes of the log as they come, read once for all who watch in this process.
//
// Whoever commits a change wakes its own process, and the others by NOTIFY, outside of the change's
// transaction. A wake-up that is lost costs nothing but time: the log is looked at every second, and
// its position says what is new.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import { limits } from "../config.js";
import { breakConnection } from "../db/cancel.js";
import type { Database } from "../db/database.js";
import type { ChangesPage } from "./read.js";
import { endOfChanges, readChanges } from "./read.js";
import * as sql from "./sql.js";

/** Hears of changes, in pages. */
export interface ChangeSubscriber {
  /** What has happened since the page before. */
  onChanges(page: ChangesPage): void;
  /** What has happened since the page before is not to be had; the subscription is over. */
  onLost(): void;
}

/** How long a query on the listening connection may take. */
const PATIENCE_MS = 5_000;
const HEARTBEAT_MS = 10_000;
/** How long an answer needs until it is on its way. */
const ANSWER_MS = 1;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;

/** The feed of one process. It reads and listens only while somebody has subscribed. */
export class ChangeFeed {
  readonly #id = randomUUID();
  readonly #subscribers = new Set<ChangeSubscriber>();
  #running: Running | undefined;
  #notifying = false;
  #notifyAgain = false;

  /** @param listens false where LISTEN is of no use, as behind a pooler of transactions */
  constructor(
    readonly db: Database,
    readonly logger: Logger,
    readonly listens: boolean,
  ) {}

  /**
   * Subscribes to what happens from now on.
   *
   * @returns the position from which it hears of changes
   * @throws DATABASE_UNAVAILABLE and the like; then it has not subscribed
   */
  async subscribe(subscriber: ChangeSubscriber): Promise<string> {
    this.#subscribers.add(subscriber);
    const running = (this.#running ??= this.#start());
    try {
      await running.begun;
    } catch (error) {
      this.unsubscribe(subscriber);
      throw error;
    }
    return running.position;
  }

  /** Ends a subscription; with the last one, the feed rests. */
  unsubscribe(subscriber: ChangeSubscriber): void {
    this.#subscribers.delete(subscriber);
    if (this.#subscribers.size === 0) this.#stop();
  }

  /** Hears that a change was committed by this process. */
  changed(): void {
    this.#running?.wake();
    this.#notifyAgain = true;
    if (!this.#notifying) void this.#notify();
  }

  #stop(): void {
    this.#running?.stop();
    this.#running = undefined;
  }

  #start(): Running {
    const { db, logger } = this;
    const running = new Running(db, logger, this.listens ? this.#id : undefined, (page) => {
      if (running !== this.#running) return;
      for (const subscriber of this.#subscribers) {
        if (page) subscriber.onChanges(page);
        else subscriber.onLost();
      }
      if (page) return;
      this.#subscribers.clear();
      this.#stop();
    });
    return running;
  }

  // At most one is under way, and nobody waits for it.
  async #notify(): Promise<void> {
    this.#notifying = true;
    while (this.#notifyAgain) {
      // The answer to whoever made the change goes first.
      await sleep(ANSWER_MS, undefined, { ref: false });
      this.#notifyAgain = false;
      // One that is lost is made up for by the others' polls.
      await this.db.query(sql.notify, [this.#id], AbortSignal.timeout(PATIENCE_MS)).catch(() => {});
      await sleep(limits.changesNotifyMs, undefined, { ref: false });
    }
    this.#notifying = false;
  }
}

// The feed between its first subscription and the end of its last.
class Running {
  position = "";
  /** When the position is known. */
  readonly begun: Promise<void>;
  readonly #stopping = new AbortController();
  readonly #poll: NodeJS.Timeout;
  #reading = false;
  #readAgain = false;
  #failures = 0;

  /**
   * @param id whose own notifications are passed over; undefined: not to listen
   * @param tell takes each page; undefined when the changes since the last one are lost
   */
  constructor(
    readonly db: Database,
    readonly logger: Logger,
    readonly id: string | undefined,
    readonly tell: (page: ChangesPage | undefined) => void,
  ) {
    this.begun = this.#begin();
    const pollMs = id === undefined ? limits.changesPollAloneMs : limits.changesPollMs;
    this.#poll = setInterval(() => this.wake(), pollMs);
    this.#poll.unref();
  }

  wake(): void {
    this.#readAgain = true;
    if (!this.#reading && this.position !== "") void this.#read();
  }

  stop(): void {
    clearInterval(this.#poll);
    this.#stopping.abort();
  }

  get #signal(): AbortSignal {
    return this.#stopping.signal;
  }

  async #begin(): Promise<void> {
    this.position = await endOfChanges(this.db.queries(this.#signal));
    if (this.id !== undefined) void this.#listen(this.id);
    if (this.#readAgain) this.wake();
  }

  async #read(): Promise<void> {
    this.#reading = true;
    try {
      while (this.#readAgain) {
        this.#readAgain = false;
        const page = await readChanges(
          this.db.queries(this.#signal),
          this.position,
          limits.changesPage,
        );
        if (this.#signal.aborted) return;
        this.#failures = 0;
        if (!page?.complete) {
          this.tell(undefined);
          return;
        }
        const moved = page.position !== this.position;
        this.position = page.position;
        if (page.more) this.#readAgain = true;
        if (moved) this.tell(page);
        // Those that come one after the other are read together.
        if (moved && !page.more) await sleep(limits.changesRestMs, undefined, { ref: false });
      }
    } catch (error) {
      if (this.#signal.aborted) return;
      // The next poll tries again, from where it was.
      if (this.#failures++ === 0) this.logger.warn({ err: error }, "changes cannot be read");
    } finally {
      this.#reading = false;
    }
  }

  async #listen(id: string): Promise<void> {
    const signal = this.#signal;
    let pauseMs = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      try {
        await this.#listenOnce(id, () => {
          pauseMs = FIRST_PAUSE_MS;
          this.wake();
        });
      } catch (error) {
        if (!signal.aborted)
          this.logger.warn({ err: error }, "the wake-ups of others are not heard");
      }
      await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {});
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }

  // Listens until the connection breaks; `wake` also makes up for what came while there was none.
  async #listenOnce(id: string, wake: () => void): Promise<void> {
    const signal = this.#signal;
    const client = new pg.Client({
      connectionString: this.db.url,
      application_name: "agentstore changes",
      keepAlive: true,
      connectionTimeoutMillis: PATIENCE_MS,
      query_timeout: PATIENCE_MS,
    });
    const broken = new AbortController();
    client.on("error", (error) => broken.abort(error));
    client.on("end", () => broken.abort(new Error("the connection was closed")));
    client.on("notification", ({ payload }) => {
      if (payload !== id) wake();
    });
    const onStop = () => broken.abort();
    signal.addEventListener("abort", onStop, { once: true });
    try {
      await client.connect();
      await client.query("LISTEN agentstore_changes");
      wake();
      for (;;) {
        await sleep(HEARTBEAT_MS, undefined, { signal: broken.signal, ref: false });
        await client.query("SELECT 1");
      }
    } catch (error) {
      throw broken.signal.reason ?? error;
    } finally {
      signal.removeEventListener("abort", onStop);
      // A peer that is gone would not answer a goodbye.
      if (signal.aborted) client.end().catch(() => {});
      else breakConnection(client);
    }
  }
}
