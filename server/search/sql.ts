// The statements of search that are the same for all queries, and the page that the others end in.
import { createHash } from "node:crypto";
import { type Statement, statement } from "../db/database.js";
import { MESSAGE_BYTES, MESSAGE_COLUMNS, type MessageRow } from "../messages/sql.js";
import { UNSEEN } from "./sources.js";

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
export function pageOf(keys: string, order: string, bytes: string): string {
  return `
    SELECT ${COLUMNS}, order_ms, score, found
      FROM (
        SELECT *, sum(bytes) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
          FROM (
            SELECT m.*, k.ts_ms AS order_ms, k.score, k.place, k.found
              FROM (SELECT *, row_number() OVER (ORDER BY ${order}) AS place, count(*) OVER () AS found
                      FROM ${keys} AS u) AS k
             CROSS JOIN LATERAL (
               SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes
                 FROM conversation_messages
                WHERE conversation_id = k.conversation_id AND seq = k.seq
               OFFSET 0) AS m
          ) AS sized
      ) AS page
     WHERE bytes_before < ${bytes}
     ORDER BY place`;
}

/** A Lag, as a row. $1 tenant, $2 model or ''. */
export const getLag = statement<{
  changed: bigint;
  unfilled: bigint;
  fill_id: bigint;
  fill_seq: bigint;
  indexed: number;
}>(
  "get_search_lag",
  `SELECT (SELECT coalesce(sum(least(x.last_seq - x.first_seq, x.last_revision - x.first_revision) + 1), 0)
             FROM (${UNSEEN}) AS x
            WHERE x.tenant_id = $1)::bigint AS changed,
          CASE WHEN b.conversation_id > 0 THEN (
            SELECT coalesce(sum(CASE WHEN id = b.conversation_id THEN b.seq - 1
                                ELSE message_count END), 0)::bigint
              FROM conversations
             WHERE tenant_id = $1 AND ($2 = '' OR model_id = $2) AND id <= b.conversation_id)
          ELSE 0 END AS unfilled,
          b.conversation_id AS fill_id, b.seq AS fill_seq,
          (SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'message_search'::regclass) AS indexed
     FROM search_backfill AS b`,
);
