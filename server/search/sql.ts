// The page that the statements of search end in.
import { createHash } from "node:crypto";
import { type Statement, statement } from "../db/database.js";
import { MESSAGE_BYTES, MESSAGE_COLUMNS, type MessageRow } from "../messages/sql.js";

/** A message of a page of results. */
export interface HitRow extends MessageRow {
  /** Its rank in the order of newest first. */
  order_ms: bigint;
  /** Its rank in the order of best first, in millionths; 0 otherwise. */
  score: bigint;
  /** How many there are, of this page and, where there is one more, the next. */
  found: bigint;
}

/**
 * A statement that Postgres keeps its plan of: planning takes longer than most of these run. For those
 * whose best plan does not depend on the values; there is one for each text, so there must be few.
 */
export function plannedOnce<Row extends object>(text: string): Statement<Row> {
  return statement(`search_${createHash("sha256").update(text).digest("hex").slice(0, 24)}`, text);
}

const COLUMNS = MESSAGE_COLUMNS.join(", ");

/** The order of best first, of rows that have a score. */
export const BEST_FIRST = "score DESC, conversation_id DESC, seq DESC";

/**
 * The page of the messages that a subquery names, in an order of its columns conversation_id, seq, id,
 * ts_ms and score. It ends after the message that passes so many bytes.
 */
export function pageOf(
  keys: string,
  order: string,
  { bytes, sharded }: { bytes: string; sharded: boolean },
): string {
  const read = `SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes
                 FROM conversation_messages`;
  // Citus takes no LATERAL with an OFFSET over shards.
  const messages = sharded
    ? `JOIN (${read} WHERE deleted_at IS NULL) AS m
                ON m.conversation_id = k.conversation_id AND m.seq = k.seq`
    : `CROSS JOIN LATERAL (
               ${read}
                WHERE conversation_id = k.conversation_id AND seq = k.seq
               OFFSET 0) AS m`;
  return `
    SELECT ${COLUMNS}, order_ms, score, found
      FROM (
        SELECT *, sum(bytes) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
          FROM (
            SELECT m.*, k.ts_ms AS order_ms, k.score, k.place, k.found
              FROM (SELECT *, row_number() OVER (ORDER BY ${order}) AS place, count(*) OVER () AS found
                      FROM ${keys} AS u) AS k
             ${messages}
          ) AS sized
      ) AS page
     WHERE bytes_before < ${bytes}
     ORDER BY place`;
}
