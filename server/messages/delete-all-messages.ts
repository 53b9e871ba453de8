// Removes the messages of a session that is being deleted.
import type { Queries } from "../db/database.js";
import * as sql from "./sql.js";
import * as versions from "./versions/sql.js";

/** Removes all messages of a session whose row the transaction has locked, and their history. */
export async function deleteAllMessages(queries: Queries, conversationId: bigint): Promise<void> {
  await Promise.all([
    queries.query(versions.deleteAllVersions, [conversationId]),
    queries.query(sql.deleteAllMessages, [conversationId]),
  ]);
}
