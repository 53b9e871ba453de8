// Keeps the change log in order: removes what is old, and renumbers what another cluster has written.
import { limits } from "../config.js";
import type { Database } from "../db/database.js";
import * as sql from "./sql.js";

/**
 * Removes changes from before a time that no registered reader waits for.
 *
 * @returns how many
 */
export async function removeOldChanges(
  db: Database,
  before: Date,
  signal: AbortSignal,
): Promise<number> {
  let removed = 0;
  for (;;) {
    const values = [before, limits.changesBatch];
    const [batch] = await db.query(sql.deleteOldChanges, values, signal);
    removed += Number(batch?.gone ?? 0n);
    if (batch?.gone !== BigInt(limits.changesBatch)) return removed;
  }
}

/**
 * Gives changes numbers of this cluster where they have another one's, as after a dump was restored:
 * a reader that waits for a transaction far ahead would stay silent until then. Readers see again
 * what not all of them had seen. Any number of servers may do it at once.
 */
export async function renumberForeignChanges(db: Database, signal: AbortSignal): Promise<void> {
  const [log] = await db.query(sql.isForeign, [], signal);
  if (!log?.foreign) return;
  await db.transaction(async (queries) => {
    // In a statement after the lock, so that it sees what another server has done meanwhile.
    const [, [now]] = await Promise.all([
      queries.query(sql.lockLog, []),
      queries.query(sql.isForeign, []),
    ]);
    if (!now?.foreign) return;
    await Promise.all([
      queries.query(sql.deleteSeen, []),
      queries.query(sql.renumberChanges, []),
      queries.query(sql.renumberReaders, []),
      queries.query(sql.renumberLog, []),
    ]);
  }, signal);
}
