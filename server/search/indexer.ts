// The indexer: brings what was said into the index of search, behind the callers' backs.
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { areShown, lockReader, moveReader, readChanges } from "../changes/read.js";
import type { ChangeRow } from "../changes/sql.js";
import { limits } from "../config.js";
import type { Database, Queries } from "../db/database.js";
import * as sql from "./indexer-sql.js";

/** The name of the position in the change log. */
const READER = "search";

/** What one step did, or where it found that there is nothing to do. */
type Step = "worked" | "caught up" | "idle" | "elsewhere";

/**
 * The indexer of one server. Of any number of them, one works at a time; each step is a transaction of
 * its own, moves the position with what it has indexed, and may be done twice. A server that dies in the
 * middle of one leaves it to the next.
 */
export class SearchIndexer {
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #load = { atMs: 0, last: 0n, busy: false };
  #settled = true;

  /** @param db for the work in the background */
  constructor(
    readonly db: Database,
    readonly logger: Logger,
  ) {}

  /** Begins to work in the background. */
  start(): void {
    this.#running = this.#run(this.#stopping.signal);
  }

  /** Ends the work in the background; what is half indexed will be indexed anew. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failing = false;
    while (!signal.aborted) {
      let pauseMs: number = limits.indexIdleMs;
      try {
        pauseMs = await this.turn(signal);
        failing = false;
      } catch (error) {
        if (!failing && !signal.aborted) this.logger.warn({ err: error }, "the search index waits");
        failing = true;
      }
      if (pauseMs > 0) await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
  }

  /**
   * Indexes a batch, or settles what was indexed before.
   *
   * @returns how long to leave the database alone before the next turn, in milliseconds
   */
  async turn(signal: AbortSignal): Promise<number> {
    const started = performance.now();
    const step = await this.#step(signal);
    if (step === "elsewhere") return limits.indexIdleMs;
    if (step === "idle") {
      if (!this.#settled) await this.db.query(sql.settleIndexes, [], signal);
      this.#settled = true;
      return limits.indexIdleMs;
    }
    this.#settled = false;
    // A busy database is left to its callers for most of the time.
    const busy = await this.#isBusy(signal);
    const pauseMs = busy ? (performance.now() - started) * limits.indexBusyPauses : 0;
    // One that is not would be kept busy by a batch for each message of a single caller.
    return step === "caught up" ? Math.max(pauseMs, limits.indexRestMs) : pauseMs;
  }

  /** Indexes the next changes; when there are none, the next messages that were there before the index. */
  async #step(signal: AbortSignal): Promise<Step> {
    return await this.db.transaction(async (queries) => {
      const position = await lockReader(queries, READER);
      if (position === undefined) return "elsewhere";
      const page = await readChanges(queries, position, limits.indexChanges);
      if (!page) throw new Error("the position of the search index is not one of this database");
      const sharded = this.db.shards !== undefined;
      if (page.changes.length === 0) return (await fill(queries, sharded)) ? "worked" : "idle";
      if (sharded && !(await areShown(queries, page.changes))) return "idle";
      const indexed = await indexChanges(queries, page.changes, sharded);
      // What is left over comes next time: it begins at the same position.
      if (!indexed) return "worked";
      await moveReader(queries, READER, page.position, new Date());
      return page.more ? "worked" : "caught up";
    }, signal);
  }

  async #isBusy(signal: AbortSignal): Promise<boolean> {
    const nowMs = performance.now();
    const { atMs } = this.#load;
    if (nowMs - atMs >= limits.indexLoadMs) {
      const [row] = await this.db.query(sql.getLastMessageId, [], signal);
      const last = row?.last ?? 0n;
      const rate = (Number(last - this.#load.last) / (nowMs - atMs)) * 1000;
      this.#load = { atMs: nowMs, last, busy: atMs > 0 && rate > limits.indexBusyRate };
    }
    return this.#load.busy;
  }
}

/** @returns whether all of them are in the index now */
async function indexChanges(
  queries: Queries,
  changes: readonly ChangeRow[],
  sharded: boolean,
): Promise<boolean> {
  // On Citus a removed session may have been there for as long as a batch before this one took.
  const removed = sharded ? changes.filter((change) => change.removed) : [];
  if (removed.length > 0) {
    await queries.query(sql.deleteOfSessions, [removed.map((change) => change.conversation_id)]);
  }
  const written = changes.filter((change) => change.first_seq !== null);
  if (written.length === 0) return true;
  const ranges = [
    written.map((change) => change.conversation_id),
    written.map((change) => change.first_revision),
    written.map((change) => change.last_revision),
    written.map((change) => change.first_seq),
    written.map((change) => change.last_seq),
  ];
  if (sharded) {
    await queries.query(sql.gatherLittle, []);
    const stale = await queries.query(sql.findStaleOfShards, [...ranges, limits.indexMessages]);
    const taken = await indexFirst(queries, stale);
    if (taken.length < stale.length || stale.length === limits.indexMessages) return false;
    await queries.query(sql.removeHiddenOfShards, ranges);
    return true;
  }
  const batch = [limits.indexMessages, limits.indexBytes];
  const [, [row]] = await Promise.all([
    queries.query(sql.gatherLittle, []),
    queries.query(sql.indexRanges, [...ranges, ...batch]),
  ]);
  if (!row?.complete) return false;
  await queries.query(sql.removeHidden, ranges);
  return true;
}

/** Indexes the first of some messages on Citus, as many as one transaction may have; returns them. */
async function indexFirst(queries: Queries, found: sql.KeyRow[]): Promise<sql.KeyRow[]> {
  const taken = found.filter(({ bytes_before }) => bytes_before < limits.indexBytes);
  const keys = [taken.map((key) => key.conversation_id), taken.map(({ seq }) => seq)];
  if (taken.length > 0) await queries.query(sql.indexMessagesOfShards, keys);
  return taken;
}

/** @returns whether there was anything to look at */
async function fill(queries: Queries, sharded: boolean): Promise<boolean> {
  const [place] = await queries.query(sql.getFill, []);
  if (!place || place.conversation_id === 0n) return false;
  const next = sharded ? await fillOfShards(queries, place) : await fillNext(queries, place);
  await queries.query(sql.moveFill, [next?.conversation_id ?? 0n, next?.seq ?? 0n]);
  return true;
}

/** @returns where it has come to; undefined at the end */
async function fillNext(queries: Queries, place: sql.FillRow): Promise<sql.FillRow | undefined> {
  const values = [place.conversation_id, place.seq, limits.indexMessages, limits.indexBytes];
  const [, [next]] = await Promise.all([
    queries.query(sql.gatherMuch, []),
    queries.query(sql.fillBackwards, values),
  ]);
  return next;
}

/** As fillNext(), on Citus. */
async function fillOfShards(
  queries: Queries,
  place: sql.FillRow,
): Promise<sql.FillRow | undefined> {
  const values = [place.conversation_id, place.seq, limits.indexMessages];
  await queries.query(sql.gatherMuch, []);
  const found = await queries.query(sql.findNextToFillOfShards, values);
  return (await indexFirst(queries, found)).at(-1);
}
