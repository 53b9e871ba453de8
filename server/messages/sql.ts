// The statements on messages.
import { statement } from "../db/database.js";
import { unnested } from "../db/unnested.js";
import { WIRE_COLUMNS } from "./wire/message-page.js";

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
  edited_at: Date | null;
  version: bigint;
  deleted_at: Date | null;
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
  "edited_at",
  "version",
  "deleted_at",
];

const COLUMNS = MESSAGE_COLUMNS.join(", ");

/** About how many bytes a message has in an answer: what may be large, and a sum for the rest. */
export const MESSAGE_BYTES = `(100 + octet_length(content) + coalesce(octet_length(payload), 0)
  + coalesce(octet_length(tool_calls::text), 0) + coalesce(octet_length(metadata::text), 0)
  + coalesce(octet_length(exact), 0))`;

/** Where a session stands, for the range of a read. */
export const getLastSeq = statement<{ last_seq: bigint; message_count: bigint }>(
  "get_last_seq",
  `SELECT last_seq, message_count FROM conversations WHERE id = $1 AND tenant_id = $2`,
);

/** A session that a group of appends has locked. */
export interface LockedSessionRow {
  id: bigint;
  tenant_id: string;
  last_seq: bigint;
  revision: bigint;
  /** That of the session's lease; 0 when nobody holds it. */
  fencing_token: bigint;
  message_count: bigint;
}

const FENCING_TOKEN = "CASE WHEN lease_holder IS NULL THEN 0 ELSE lease_token END";
const LOCKED = `id, tenant_id, last_seq, revision, message_count, ${FENCING_TOKEN} AS fencing_token`;

// The lock is the session's turn: appends to one session commit in the order of
// their seqs. Sessions that another transaction holds are left out, so that a
// group never waits, and so never deadlocks.
export const lockSessions = statement<LockedSessionRow>(
  "lock_sessions",
  `SELECT ${LOCKED}
     FROM conversations
    WHERE id = ANY ($1)
    ORDER BY id
      FOR UPDATE SKIP LOCKED`,
);

/** As lockSessions, for one session. */
export const lockSession = statement<LockedSessionRow>(
  "lock_session_of_group",
  `SELECT ${LOCKED} FROM conversations WHERE id = $1 FOR UPDATE SKIP LOCKED`,
);

const HEAD_COLUMNS = {
  id: "bigint",
  tenant_id: "text",
  last_seq: "bigint",
  revision: "bigint",
  fencing_token: "bigint",
};

/**
 * As lockSessions, for sessions of which all is known: fails unless they could be locked and stand so.
 * What is sent behind it need not wait for its answer.
 */
export const checkHeads = statement<never>(
  "check_heads",
  `SELECT 1 / CASE WHEN count(*) = coalesce(cardinality($1), 0) THEN 1 ELSE 0 END
     FROM (
       SELECT c.id
         FROM (SELECT ${unnested(HEAD_COLUMNS)}) AS d
         JOIN conversations c USING (id, tenant_id, last_seq, revision)
        WHERE ${FENCING_TOKEN} = d.fencing_token
        ORDER BY c.id
          FOR UPDATE OF c SKIP LOCKED
     ) AS locked`,
);

/** As lockSessions, for one session, which it waits for. */
export const awaitSession = statement<LockedSessionRow>(
  "await_session",
  `SELECT ${LOCKED} FROM conversations WHERE id = $1 FOR UPDATE`,
);

const ADVANCE_COLUMNS = {
  id: "bigint",
  messages: "bigint",
  users: "bigint",
  assistants: "bigint",
  systems: "bigint",
  tools: "bigint",
  characters: "bigint",
  input_tokens: "bigint",
  output_tokens: "bigint",
  cached_tokens: "bigint",
  reasoning_tokens: "bigint",
  cost_micros: "bigint",
  first_ms: "bigint",
  last_ms: "bigint",
  first_message: "text",
};

// A counter that no session of the group raises comes as NULL, and so does its whole column.
const ADVANCE = `UPDATE conversations AS c
      SET last_seq = c.last_seq + d.messages,
          revision = c.revision + d.messages,
          message_count = c.message_count + d.messages,
          user_messages = c.user_messages + coalesce(d.users, 0),
          assistant_messages = c.assistant_messages + coalesce(d.assistants, 0),
          system_messages = c.system_messages + coalesce(d.systems, 0),
          tool_messages = c.tool_messages + coalesce(d.tools, 0),
          total_characters = c.total_characters + d.characters,
          input_tokens = c.input_tokens + coalesce(d.input_tokens, 0),
          output_tokens = c.output_tokens + coalesce(d.output_tokens, 0),
          cached_tokens = c.cached_tokens + coalesce(d.cached_tokens, 0),
          reasoning_tokens = c.reasoning_tokens + coalesce(d.reasoning_tokens, 0),
          cost_micros = c.cost_micros + coalesce(d.cost_micros, 0),
          first_message_ms = least(c.first_message_ms, d.first_ms),
          last_message_ms = greatest(c.last_message_ms, d.last_ms),
          first_message = CASE WHEN c.message_count = 0 THEN d.first_message
                               ELSE c.first_message END,
          updated_at = greatest(c.updated_at, $16)
     FROM (SELECT ${unnested(ADVANCE_COLUMNS)}) AS d
    WHERE c.id = d.id`;

export const advanceSessions = statement<never>("advance_sessions", ADVANCE);

/** As advanceSessions, for the one session $17, whose shard Citus sees by that. */
export const advanceSession = statement<never>("advance_session", `${ADVANCE} AND c.id = $17`);

/** What an append has given to a message. */
export interface InsertedRow {
  id: bigint;
  conversation_id: bigint;
  seq: bigint;
}

const INSERT_COLUMNS = {
  conversation_id: "bigint",
  seq: "bigint",
  revision: "bigint",
  role: "text",
  content: "text",
  ts_ms: "bigint",
  name: "text",
  tool_calls: "json",
  tool_call_id: "text",
  payload: "text",
  payload_type: "text",
  metadata: "jsonb",
  input_tokens: "bigint",
  output_tokens: "bigint",
  cached_tokens: "bigint",
  reasoning_tokens: "bigint",
  cost_micros: "bigint",
  exact: "bytea",
  changed_by: "text",
};

const INSERT = `INSERT INTO conversation_messages (${Object.keys(INSERT_COLUMNS).join(", ")}, changed_at)`;
const INSERTED = "RETURNING id, conversation_id, seq";

export const insertMessages = statement<InsertedRow>(
  "insert_messages",
  `${INSERT}
   SELECT ${unnested(INSERT_COLUMNS)}, $20::timestamptz
   ${INSERTED}`,
);

/**
 * As insertMessages, for one message of the session $1; the other columns are arrays of one. Citus
 * copies what a SELECT inserts through the coordinator, and sends this to the shard as it is.
 */
export const insertMessage = statement<InsertedRow>(
  "insert_message",
  `${INSERT}
   VALUES ($1::bigint, ($2::bigint[])[1], ($3::bigint[])[1], ($4::text[])[1], ($5::text[])[1],
     ($6::bigint[])[1], ($7::text[])[1], ($8::json[])[1], ($9::text[])[1], ($10::text[])[1],
     ($11::text[])[1], ($12::jsonb[])[1], ($13::bigint[])[1], ($14::bigint[])[1],
     ($15::bigint[])[1], ($16::bigint[])[1], ($17::bigint[])[1], ($18::bytea[])[1],
     ($19::text[])[1], $20::timestamptz)
   ${INSERTED}`,
);

export const getMessage = statement<MessageRow>(
  "get_message",
  `SELECT ${COLUMNS} FROM conversation_messages WHERE conversation_id = $1 AND seq = $2`,
);

/** All messages of a batch, however large, as they were appended, to repeat the answer to that. */
export const getAppended = statement<MessageRow>(
  "get_appended",
  `SELECT ${COLUMNS}
     FROM conversation_messages
    WHERE conversation_id = $1 AND seq BETWEEN $2 AND $3 AND version = 1
    UNION ALL
   SELECT ${COLUMNS}
     FROM message_versions
    WHERE conversation_id = $1 AND seq BETWEEN $2 AND $3 AND version = 1
    ORDER BY seq`,
);

// Pages: the messages between two seqs (both excluded), so many at the most, and none that begins after
// so many bytes. Sums along the page are made only where all of it would be too large.
const page = (
  name: string,
  direction: "ASC" | "DESC",
  inclusive: "<=" | ">=",
  last: "max" | "min",
  shown: "" | "AND deleted_at IS NULL",
  after = "$2",
) => {
  const range = `conversation_id = $1 AND seq > ${after} AND seq < $3 ${shown}`;
  const sized = `
    SELECT seq, ${MESSAGE_BYTES} AS bytes
      FROM conversation_messages
     WHERE ${range}
     ORDER BY seq ${direction}
     LIMIT $4`;
  return statement<never>(
    name,
    `SELECT ${WIRE_COLUMNS.join(", ")}
       FROM conversation_messages
      WHERE ${range}
        AND seq ${inclusive} (
          SELECT CASE WHEN sum(bytes) <= $5 THEN ${last}(seq) ELSE (
            SELECT ${last}(seq)
              FROM (
                SELECT seq, sum(bytes) OVER (ORDER BY seq ${direction} ROWS UNBOUNDED PRECEDING)
                            - bytes AS bytes_before
                  FROM (${sized}) AS sized
              ) AS page
             WHERE bytes_before < $5) END
            FROM (${sized}) AS sized)
      ORDER BY seq ${direction}`,
  );
};

const SHOWN = "AND deleted_at IS NULL";
export const pageOldestFirst = page("page_oldest_first", "ASC", "<=", "max", SHOWN);
export const pageNewestFirst = page("page_newest_first", "DESC", ">=", "min", SHOWN);
export const pageOldestFirstOfAll = page("page_oldest_first_of_all", "ASC", "<=", "max", "");
export const pageNewestFirstOfAll = page("page_newest_first_of_all", "DESC", ">=", "min", "");

// As pageOldestFirst, of the last $6 seqs of the session alone.
const AMONG_LAST = "greatest($2, (SELECT last_seq - $6::bigint FROM conversations WHERE id = $1))";
export const pageOfLast = page("page_of_last", "ASC", "<=", "max", SHOWN, AMONG_LAST);
export const pageOfLastOfAll = page("page_of_last_of_all", "ASC", "<=", "max", "", AMONG_LAST);

// So many shown messages from one end of a range, with the deleted ones between them, take up a
// stretch of seqs as long as both numbers together. Of the deleted ones, the r-th from that end has
// (its distance from the end - r) shown ones before it: those that belong to the stretch have fewer
// than so many.
const stretch = (name: string, direction: "ASC" | "DESC", distance: string) =>
  statement<{ deleted: bigint }>(
    name,
    `SELECT count(*) AS deleted
       FROM (
         SELECT seq, row_number() OVER (ORDER BY seq ${direction}) AS place
           FROM conversation_messages
          WHERE conversation_id = $1 AND deleted_at IS NOT NULL AND seq > $2 AND seq < $3
       ) AS deleted
      WHERE ${distance} - place < $4`,
  );

/** How many deleted ones lie among the oldest $4 shown messages of a range, and before them. */
export const deletedAmongOldest = stretch("deleted_among_oldest", "ASC", "seq - $2");
/** How many deleted ones lie among the newest $4 shown messages of a range, and behind them. */
export const deletedAmongNewest = stretch("deleted_among_newest", "DESC", "$3 - seq");

const endShown = (name: string, direction: "ASC" | "DESC") =>
  statement<{ seq: bigint }>(
    name,
    `SELECT seq FROM conversation_messages
      WHERE conversation_id = $1 AND seq > $2 AND seq < $3 AND deleted_at IS NULL
      ORDER BY seq ${direction}
      LIMIT 1`,
  );

export const oldestShown = endShown("oldest_shown", "ASC");
export const newestShown = endShown("newest_shown", "DESC");

export const deleteAllMessages = statement<never>(
  "delete_all_messages",
  `DELETE FROM conversation_messages WHERE conversation_id = $1`,
);
