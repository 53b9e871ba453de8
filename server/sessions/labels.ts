// Keeps what sessions are found by, beside their rows.
import type { Queries } from "../db/database.js";
import * as sql from "./labels-sql.js";

/**
 * Makes the labels and tags of a session agree with its row. To be called in each transaction that
 * inserts a row into `conversations` or changes its owner_id, tags, metadata or expires_at.
 */
export async function syncLabels(queries: Queries, conversationId: bigint): Promise<void> {
  await Promise.all([
    queries.query(sql.putLabels, [conversationId]),
    queries.query(sql.dropTags, [conversationId]),
    queries.query(sql.putTags, [conversationId]),
  ]);
}
