// Reads the index and the messages as they were at one moment.
import { plannedEachTime, type Statement } from "../db/database.js";
import type { CallContext } from "../rpc/call.js";

// Citus takes a statement apart, and gives each part that is of the coordinator a snapshot of its own. What
// the indexer moves from the change log into the index meanwhile would be in neither.
const keepSnapshot = plannedEachTime<never>("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");

/** Runs one statement that reads, with one snapshot also on Citus. */
export async function readOneMoment<Row>(
  { db, signal }: Pick<CallContext, "db" | "signal">,
  statement: Statement<Row>,
  values: unknown[],
): Promise<Row[]> {
  if (!db.shards) return await db.query(statement, values, signal);
  return await db.transaction(async (queries) => {
    const [, rows] = await Promise.all([
      queries.query(keepSnapshot, []),
      queries.query(statement, values),
    ]);
    return rows;
  }, signal);
}
