// Removes vectors in the transactions that remove or change what they stand for.
import type { Queries } from "../db/database.js";
import * as sql from "./sql.js";

/** Removes the vectors of a session, and what waits for one. After its messages were removed. */
export async function forgetEmbeddings(queries: Queries, conversationId: bigint): Promise<void> {
  await Promise.all([
    queries.query(sql.forgetAll, [conversationId]),
    queries.query(sql.dequeueAll, [conversationId]),
  ]);
}

/**
 * Removes the vectors of those messages whose content has changed, or that were deleted. After the
 * statement that has changed them, for which whoever stores a vector has to wait.
 *
 * @param firstSeq the messages from here to lastSeq may have changed
 * @param revision the session's before the change
 */
export async function forgetChanged(
  queries: Queries,
  change: { conversationId: bigint; firstSeq: bigint; lastSeq: bigint; revision: bigint },
): Promise<void> {
  const { conversationId, firstSeq, lastSeq, revision } = change;
  await queries.query(sql.forgetChanged, [conversationId, firstSeq, lastSeq, revision]);
}
