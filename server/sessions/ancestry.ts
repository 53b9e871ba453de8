// Remembers from which sessions a fork has its messages, so that what is a person's can be found.
import type { Queries } from "../db/database.js";
import * as sql from "./labels-sql.js";

/**
 * Records that a session begins with messages of another one, and so of those that this one began
 * with. To be called in the transaction that makes a fork, when its row and its state are there.
 *
 * @param seq the last message that was taken over; 0 for none
 */
export async function recordAncestry(
  queries: Queries,
  { parent, fork, seq }: { parent: bigint; fork: bigint; seq: bigint },
): Promise<void> {
  await queries.query(sql.recordAncestry, [parent, fork, seq]);
}
