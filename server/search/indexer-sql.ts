// The statements that fill the index of search and keep it.
import { statement } from "../db/database.js";
import { NO_TIME } from "./filter.js";

const SHOWN = "m.deleted_at IS NULL AND m.content <> ''";

/** Puts messages `m` of sessions `c` into the index, each once, if it is not there as it is now. */
const insert = (from: string) => `
  INSERT INTO message_search AS s
    (conversation_id, seq, id, revision, tenant_id, model_id, role, ts_ms, body, long, language,
     words, size)
  SELECT t.conversation_id, t.seq, t.id, t.revision, t.tenant_id, t.model_id, t.role,
         coalesce(t.ts_ms, ${NO_TIME}), t.body, length(t.body) > 80000, t.language,
         t.words || array_to_tsvector(agentstore_scopes(t.tenant_id, t.model_id)), length(t.words)
    FROM (SELECT *, agentstore_words(language, content) AS words
            FROM (SELECT *, agentstore_language(content) AS language,
                         lower(content COLLATE "default") AS body
                    FROM (${from}) AS m
                  OFFSET 0) AS m
          OFFSET 0) AS t
   ORDER BY t.conversation_id, t.seq
      ON CONFLICT (conversation_id, seq) DO UPDATE
     SET revision = excluded.revision, role = excluded.role, ts_ms = excluded.ts_ms,
         body = excluded.body, long = excluded.long, language = excluded.language,
         words = excluded.words, size = excluded.size
   WHERE s.revision < excluded.revision`;

const MESSAGE = `m.conversation_id, m.seq, m.id, m.revision, c.tenant_id, c.model_id, m.role, m.ts_ms,
                 m.content`;

// Of the messages in ranges of sessions ($1 to $5, columns), so many ($6) that the index does not have as
// they are, and no more when these bytes ($7) are passed.
const ranges = `unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                  AS x (conversation_id, first_revision, last_revision, first_seq, last_seq)`;

/** Whether that was all. */
export const indexRanges = statement<{ complete: boolean }>(
  "index_ranges",
  `WITH stale AS MATERIALIZED (
     SELECT *, sum(octet_length(content)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(content)
                 AS bytes_before
       FROM (
         SELECT DISTINCT ON (m.conversation_id, m.seq) ${MESSAGE}
           FROM ${ranges}
          CROSS JOIN LATERAL (
            SELECT * FROM conversation_messages AS m
             WHERE m.conversation_id = x.conversation_id
               AND m.seq BETWEEN x.first_seq AND x.last_seq
               AND m.revision >= x.first_revision
               AND ${SHOWN}
               AND NOT EXISTS (
                 SELECT FROM message_search AS s
                  WHERE s.conversation_id = m.conversation_id AND s.seq = m.seq
                    AND s.revision >= m.revision)
            OFFSET 0) AS m
          CROSS JOIN LATERAL (
            SELECT * FROM conversations AS c WHERE c.id = x.conversation_id OFFSET 0) AS c
          ORDER BY m.conversation_id, m.seq
          LIMIT $6) AS m
   ), indexed AS (
     ${insert("SELECT * FROM stale WHERE bytes_before < $7")}
     RETURNING 1
   )
   SELECT count(*) < $6 AND coalesce(bool_and(bytes_before < $7), true) AS complete FROM stale`,
);

/** Takes out of the index what the same ranges have of messages that are not shown any more. */
export const removeHidden = statement<never>(
  "remove_hidden_from_index",
  `DELETE FROM message_search AS s
    USING ${ranges}, conversation_messages AS m
    WHERE s.conversation_id = x.conversation_id AND s.seq BETWEEN x.first_seq AND x.last_seq
      AND m.conversation_id = s.conversation_id AND m.seq = s.seq AND NOT (${SHOWN})`,
);

// On Citus, the index is on the coordinator, and messages are on all nodes. What is to be indexed is found
// without its text, so that no more text is sent than is taken; and the functions of the index, which the
// other nodes need not have, are called behind a step of its own.

/** A message to look at. */
export interface KeyRow {
  conversation_id: bigint;
  seq: bigint;
  /** The bytes of those before it. */
  bytes_before: bigint;
}

/** As indexRanges, on Citus, the messages alone. The columns $1 to $5, $6 how many. */
export const findStaleOfShards = statement<KeyRow>(
  "find_stale_of_shards",
  `WITH known AS MATERIALIZED (
     SELECT s.conversation_id, s.seq, s.revision
       FROM ${ranges}
       JOIN message_search AS s
         ON s.conversation_id = x.conversation_id AND s.seq BETWEEN x.first_seq AND x.last_seq
   )
   SELECT conversation_id, seq,
          (sum(bytes) OVER (ORDER BY conversation_id, seq) - bytes)::bigint AS bytes_before
     FROM (
       SELECT DISTINCT m.conversation_id, m.seq, octet_length(m.content) AS bytes
         FROM ${ranges}
         JOIN conversation_messages AS m
           ON m.conversation_id = x.conversation_id
          AND m.seq BETWEEN x.first_seq AND x.last_seq
          AND m.revision >= x.first_revision
         LEFT JOIN known AS k
           ON k.conversation_id = m.conversation_id AND k.seq = m.seq AND k.revision >= m.revision
        WHERE k.seq IS NULL AND ${SHOWN}
        ORDER BY m.conversation_id, m.seq
        LIMIT $6) AS stale
    ORDER BY conversation_id, seq`,
);

/** As fillBackwards, on Citus, the messages alone. $1, $2 the place, $3 how many. */
export const findNextToFillOfShards = statement<KeyRow>(
  "find_next_to_fill_of_shards",
  `SELECT conversation_id, seq,
          (sum(bytes) OVER (ORDER BY conversation_id DESC, seq DESC) - bytes)::bigint AS bytes_before
     FROM (
       SELECT conversation_id, seq, octet_length(content) AS bytes
         FROM conversation_messages
        WHERE (conversation_id, seq) < ($1, $2)
        ORDER BY conversation_id DESC, seq DESC
        LIMIT $3) AS next
    ORDER BY conversation_id DESC, seq DESC`,
);

/** Indexes the messages $1, $2 on Citus, those that are shown. */
export const indexMessagesOfShards = statement<never>(
  "index_messages_of_shards",
  `WITH taken AS MATERIALIZED (
     SELECT ${MESSAGE}
       FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_id, seq)
       JOIN conversation_messages AS m ON m.conversation_id = k.conversation_id AND m.seq = k.seq
       JOIN conversations AS c ON c.id = m.conversation_id
      WHERE ${SHOWN}
   )
   ${insert("SELECT * FROM taken")}`,
);

/** As removeHidden, on Citus. */
export const removeHiddenOfShards = statement<never>(
  "remove_hidden_of_shards",
  `WITH hidden AS MATERIALIZED (
     SELECT m.conversation_id, m.seq
       FROM ${ranges}
       JOIN conversation_messages AS m
         ON m.conversation_id = x.conversation_id AND m.seq BETWEEN x.first_seq AND x.last_seq
      WHERE NOT (${SHOWN})
   )
   DELETE FROM message_search AS s
    USING hidden AS h
    WHERE s.conversation_id = h.conversation_id AND s.seq = h.seq`,
);

/** What the index has not been filled with yet: the place before it. */
export interface FillRow {
  conversation_id: bigint;
  seq: bigint;
}

export const getFill = statement<FillRow>(
  "get_search_fill",
  `SELECT conversation_id, seq FROM search_backfill`,
);

// Backwards, so that what was said last can be found first. $1, $2 the place, $3 messages, $4 bytes.
export const fillBackwards = statement<FillRow>(
  "fill_search_backwards",
  `WITH next AS MATERIALIZED (
     SELECT *, sum(octet_length(content)) OVER (ORDER BY conversation_id DESC, seq DESC)
                 - octet_length(content) AS bytes_before
       FROM (
         SELECT conversation_id, seq, id, revision, role, ts_ms, content, deleted_at
           FROM conversation_messages
          WHERE (conversation_id, seq) < ($1, $2)
          ORDER BY conversation_id DESC, seq DESC
          LIMIT $3) AS m
   ), taken AS MATERIALIZED (
     SELECT * FROM next WHERE bytes_before < $4
   ), indexed AS (
     ${insert(`SELECT ${MESSAGE} FROM taken AS m JOIN conversations AS c ON c.id = m.conversation_id
                WHERE ${SHOWN}`)}
     RETURNING 1
   )
   SELECT conversation_id, seq FROM taken ORDER BY conversation_id, seq LIMIT 1`,
);

export const moveFill = statement<never>(
  "move_search_fill",
  `UPDATE search_backfill SET conversation_id = $1, seq = $2`,
);

/**
 * How much may be added to the inverted indexes before it is put in its place, until the end of the
 * transaction. Searches look through it one by one; the more it is, the less each message costs.
 */
const gather = (name: string, pending: string, memory: string) =>
  statement<never>(
    name,
    `SELECT set_config('gin_pending_list_limit', '${pending}', true),
            set_config('work_mem', '${memory}', true)`,
  );

/** For messages that come one after the other. */
export const gatherLittle = gather("gather_little", "1MB", "16MB");
/** For all that was there before: while it is brought in, searches scan the rest of it anyway. */
export const gatherMuch = gather("gather_much", "32MB", "128MB");

/** Puts what was added to the inverted indexes last, and is looked through one by one, in its place. */
export const settleIndexes = statement<never>(
  "settle_search_indexes",
  `SELECT gin_clean_pending_list('message_search_grams'),
          gin_clean_pending_list('message_search_words')`,
);

/** How many messages this database has been given, ever: how busy it is, from one look to the next. */
export const getLastMessageId = statement<{ last: bigint }>(
  "get_last_message_id",
  `SELECT last_value AS last FROM conversation_messages_id_seq`,
);

// Waits for the batch of messages that is being indexed, and holds up the next one.
export const holdIndexer = statement<never>(
  "hold_search_indexer",
  `SELECT FROM change_readers WHERE name = 'search' FOR SHARE`,
);

export const deleteOfSession = statement<never>(
  "delete_search_of_session",
  `DELETE FROM message_search WHERE conversation_id = $1`,
);

export const deleteOfSessions = statement<never>(
  "delete_search_of_sessions",
  `DELETE FROM message_search WHERE conversation_id = ANY ($1::bigint[])`,
);

export const deleteOfMessages = statement<never>(
  "delete_search_of_messages",
  `DELETE FROM message_search WHERE conversation_id = $1 AND seq > $2 AND seq <= $3`,
);

export const deleteOfMessage = statement<never>(
  "delete_search_of_message",
  `DELETE FROM message_search WHERE conversation_id = $1 AND seq = $2`,
);
