// Removes the messages of a session that is being deleted.
import type { Queries } from "../db/database.js";
import * as sql from "./sql.js";

/** Removes all messages of a session whose row the transaction has locked. */
export async function deleteAllMessages(queries: Queries, conversationId: bigint): Promise<void> {
  await queries.query(sql.deleteAllMessages, [conversationId]);
}
