// The statements on messages.
import { statement } from "../db/database.js";

/** A message as it is stored. */
export interface MessageRow {
  id: bigint;
  conversation_id: bigint;
  seq: bigint;
  role: string;
  content: string;
  ts_ms: bigint | null;
  name: string | null;
  tool_calls: { id: string; name: string; arguments: string }[] | null;
  tool_call_id: string | null;
  payload: string | null;
  payload_type: string | null;
  metadata: Record<string, unknown> | null;
  input_tokens: bigint | null;
  output_tokens: bigint | null;
  cached_tokens: bigint | null;
  reasoning_tokens: bigint | null;
  cost_micros: bigint | null;
  revision: bigint;
  exact: Buffer | null;
}

/** The columns of a MessageRow, for the slices that read messages too. */
export const MESSAGE_COLUMNS = [
  "id",
  "conversation_id",
  "seq",
  "role",
  "content",
  "ts_ms",
  "name",
  "tool_calls",
  "tool_call_id",
  "payload",
  "payload_type",
  "metadata",
  "input_tokens",
  "output_tokens",
  "cached_tokens",
  "reasoning_tokens",
  "cost_micros",
  "revision",
  "exact",
];

const COLUMNS = MESSAGE_COLUMNS.join(", ");

/** About how many bytes a message has in an answer: what may be large, and a sum for the rest. */
export const MESSAGE_BYTES = `(100 + octet_length(content) + coalesce(octet_length(payload), 0)
  + coalesce(octet_length(tool_calls::text), 0) + coalesce(octet_length(metadata::text), 0)
  + coalesce(octet_length(exact), 0))`;

/** Where a session stands, for the checks of an append and the range of a read. */
export const getLastSeq = statement<{ last_seq: bigint }>(
  "get_last_seq",
  `SELECT last_seq FROM conversations WHERE id = $1 AND tenant_id = $2`,
);

// Takes the seqs, and with the row's lock the session's turn: appends to one
// session commit in the order of their seqs. A request that was answered before
// or expects another last_seq changes no row.
export const advanceSession = statement<{ last_seq: bigint; revision: bigint }>(
  "advance_session",
  `UPDATE conversations
      SET last_seq = last_seq + $3,
          revision = revision + $3,
          message_count = message_count + $3,
          user_messages = user_messages + $4,
          assistant_messages = assistant_messages + $5,
          system_messages = system_messages + $6,
          tool_messages = tool_messages + $7,
          total_characters = total_characters + $8,
          input_tokens = input_tokens + $9,
          output_tokens = output_tokens + $10,
          cached_tokens = cached_tokens + $11,
          reasoning_tokens = reasoning_tokens + $12,
          cost_micros = cost_micros + $13,
          first_message_ms = least(first_message_ms, $14),
          last_message_ms = greatest(last_message_ms, $15),
          first_message = CASE WHEN last_seq = 0 THEN $16 ELSE first_message END,
          updated_at = greatest(updated_at, $17)
    WHERE id = $1 AND tenant_id = $2
      AND ($18::bigint IS NULL OR last_seq = $18)
      AND NOT EXISTS (
        SELECT 1 FROM conversation_requests WHERE conversation_id = $1 AND request_id = $19
      )
    RETURNING last_seq, revision`,
);

const INSERTED = `conversation_id, seq, revision, role, content, ts_ms, name, tool_calls,
  tool_call_id, payload, payload_type, metadata, input_tokens, output_tokens, cached_tokens,
  reasoning_tokens, cost_micros, exact`;

export const insertMessage = statement<{ id: bigint }>(
  "insert_message",
  `INSERT INTO conversation_messages (${INSERTED})
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
   RETURNING id`,
);

export const insertMessages = statement<{ id: bigint; seq: bigint }>(
  "insert_messages",
  `INSERT INTO conversation_messages (${INSERTED})
   SELECT $1, * FROM unnest(
     $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::json[],
     $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::bigint[], $14::bigint[],
     $15::bigint[], $16::bigint[], $17::bigint[], $18::bytea[])
   RETURNING id, seq`,
);

export const getMessage = statement<MessageRow>(
  "get_message",
  `SELECT ${COLUMNS} FROM conversation_messages WHERE conversation_id = $1 AND seq = $2`,
);

/** All messages of a batch, however large, to repeat the answer to an append. */
export const getMessageRange = statement<MessageRow>(
  "get_message_range",
  `SELECT ${COLUMNS}
     FROM conversation_messages
    WHERE conversation_id = $1 AND seq BETWEEN $2 AND $3
    ORDER BY seq`,
);

// A page: the messages between two seqs (both excluded), so many at the most,
// and none that begins after so many bytes.
const page = (name: string, direction: "ASC" | "DESC") =>
  statement<MessageRow>(
    name,
    `SELECT ${COLUMNS}
       FROM (
         SELECT *, sum(bytes) OVER (ORDER BY seq ${direction} ROWS UNBOUNDED PRECEDING) - bytes
                     AS bytes_before
           FROM (
             SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes
               FROM conversation_messages
              WHERE conversation_id = $1 AND seq > $2 AND seq < $3
              ORDER BY seq ${direction}
              LIMIT $4
           ) AS sized
       ) AS page
      WHERE bytes_before < $5
      ORDER BY seq ${direction}`,
  );

export const pageOldestFirst = page("page_oldest_first", "ASC");
export const pageNewestFirst = page("page_newest_first", "DESC");

export const deleteAllMessages = statement<never>(
  "delete_all_messages",
  `DELETE FROM conversation_messages WHERE conversation_id = $1`,
);
