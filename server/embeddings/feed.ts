// Finds the messages that need a vector, and queues them: those that the change log tells of, and
// once those that were there before the model.
import { areShown, lockReader, moveReader, readChanges, registerReader } from "../changes/read.js";
import { limits } from "../config.js";
import type { Database, Queries } from "../db/database.js";
import * as ofShards from "./feed-of-shards.js";
import * as sql from "./sql.js";

/** What those are called in the change log that look for messages to embed. */
const READER = "embeddings";

/**
 * Makes a model known, and begins with all messages where it is new, has vectors of another length
 * from now on, or where nobody has read the change log for it.
 *
 * @param dimensions how many numbers the vectors are asked to have; undefined for any
 */
export async function prepareModel(
  db: Database,
  model: string,
  dimensions: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  await db.transaction(async (queries) => {
    await queries.query(sql.insertModel, [model, dimensions ?? null]);
    const [known] = await queries.query(sql.getModel, [model]);
    if (dimensions !== undefined && known?.dimensions !== dimensions) {
      await queries.query(sql.startOver, [model, dimensions]);
    }
  }, signal);
}

/**
 * Queues what has changed since the last time.
 *
 * @param isAlive whether to say that somebody reads also where there is nothing new
 * @returns whether there is more already
 */
export async function queueChanges(
  db: Database,
  model: string,
  { now, isAlive }: { now: Date; isAlive: boolean },
  signal: AbortSignal,
): Promise<boolean> {
  return await db.transaction(async (queries) => {
    const position = await lockReader(queries, READER);
    if (position === undefined) return await begin(queries, model, now);
    const page = await readChanges(queries, position, limits.embeddingFeedBatch);
    if (!page) return false;
    if (db.shards && !(await areShown(queries, page.changes))) return false;
    const ranges = page.changes.filter((change) => change.first_seq !== null);
    if (ranges.length > 0) {
      const ids = ranges.map((range) => range.conversation_id);
      const tenants = ranges.map((range) => range.tenant_id);
      const first = ranges.map((range) => range.first_seq);
      const last = ranges.map((range) => range.last_seq);
      if (db.shards) {
        await ofShards.queueRanges(queries, model, [ids, tenants, first, last], now);
        await ofShards.dequeueGone(queries, [ids, first, last]);
      } else {
        await queries.query(sql.queueRanges, [ids, tenants, first, last, now, model]);
        await queries.query(sql.dequeueGone, [ids, first, last]);
      }
    }
    if (isAlive || page.position !== position) {
      await moveReader(queries, READER, page.position, now);
    }
    return page.more;
  }, signal);
}

// Where there is no reader, nothing tells what was written so far.
async function begin(queries: Queries, model: string, now: Date): Promise<boolean> {
  const [reader] = await queries.query(sql.findReader, [READER]);
  // Another server has its turn.
  if (reader) return false;
  await registerReader(queries, READER, now);
  await queries.query(sql.startOver, [model, null]);
  return true;
}

/**
 * Unregisters the reader that has not read since a time: servers embed no more, and the change log
 * must not be kept for ever. Whoever embeds again begins with all messages.
 */
export async function forgetIdleReader(
  db: Database,
  since: Date,
  signal: AbortSignal,
): Promise<void> {
  await db.query(sql.forgetReader, [READER, since], signal);
}

/**
 * Queues some of the messages that were there before the model, unless enough wait already.
 *
 * @returns whether there is more to do at once
 */
export async function queueBackfill(
  db: Database,
  model: string,
  now: Date,
  signal: AbortSignal,
): Promise<boolean> {
  return await db.transaction(async (queries) => {
    const [after] = await queries.query(sql.lockBackfill, [model]);
    if (!after) return false;
    const [queue] = await queries.query(sql.countWaiting, [limits.embeddingBackfillWaiting]);
    if (queue?.waiting === limits.embeddingBackfillWaiting) return false;
    const from = [after.after_conversation_id, after.after_seq];
    const [end] = await queries.query(sql.nextStretch, [...from, limits.embeddingFeedBatch]);
    const to = end ? [end.conversation_id, end.seq] : from;
    const complete = (end?.found ?? 0n) < BigInt(limits.embeddingFeedBatch);
    if (end && db.shards) await ofShards.queueStretch(queries, model, [...from, ...to], now);
    else if (end) await queries.query(sql.queueStretch, [...from, ...to, now, model]);
    await queries.query(sql.moveBackfill, [model, ...to, complete]);
    return !complete;
  }, signal);
}
