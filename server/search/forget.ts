// Takes what is removed or erased out of the index, in the transaction that removes it.
import type { Queries } from "../db/database.js";
import * as sql from "./indexer-sql.js";

// What the indexer has read of a session before it was removed, it must not write behind that: these
// wait for its batch, and it waits for them.

/** Removes a session from the index. */
export async function forgetSession(queries: Queries, conversationId: bigint): Promise<void> {
  await Promise.all([
    queries.query(sql.holdIndexer, []),
    queries.query(sql.deleteOfSession, [conversationId]),
  ]);
}

/** Removes the messages behind one seq up to another one, so that nothing is left of what they said. */
export async function forgetMessages(
  queries: Queries,
  conversationId: bigint,
  [afterSeq, seq]: readonly [bigint, bigint],
): Promise<void> {
  await Promise.all([
    queries.query(sql.holdIndexer, []),
    queries.query(sql.deleteOfMessages, [conversationId, afterSeq, seq]),
  ]);
}

/** Removes a message that is not to be found any more. Waits for nobody: no search returns it anyway. */
export async function forgetMessage(
  queries: Queries,
  conversationId: bigint,
  seq: bigint,
): Promise<void> {
  await queries.query(sql.deleteOfMessage, [conversationId, seq]);
}
