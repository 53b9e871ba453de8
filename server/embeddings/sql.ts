// The statements on embeddings and the queue of messages that wait for theirs.
//
// Rows of the queue are locked in the order of their key, or passed over where another transaction
// has them, and rows of messages are passed over, too: nothing here waits in a circle.
import { statement } from "../db/database.js";

/** A model that the servers embed with. */
export interface ModelRow {
  dimensions: number | null;
  complete: boolean;
  error: string | null;
}

export const getModel = statement<ModelRow>(
  "get_embedding_model",
  `SELECT dimensions, complete, error FROM embedding_models WHERE model = $1`,
);

/** Says that nobody reads the change log for embeddings any more, unless someone has since $2. */
export const forgetReader = statement<never>(
  "forget_embeddings_reader",
  `DELETE FROM change_readers WHERE name = $1 AND updated_at < $2`,
);

export const findReader = statement<{ name: string }>(
  "find_embeddings_reader",
  `SELECT name FROM change_readers WHERE name = $1`,
);

/** Makes the row of a model whose vectors are asked to have $2 numbers; NULL for any. */
export const insertModel = statement<never>(
  "insert_embedding_model",
  `INSERT INTO embedding_models (model, dimensions) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
);

/** Begins with all messages again. $2 how many numbers its vectors have; NULL for what is known. */
export const startOver = statement<never>(
  "start_embeddings_over",
  `UPDATE embedding_models
      SET dimensions = coalesce($2, dimensions), after_conversation_id = 0, after_seq = 0,
          complete = false
    WHERE model = $1`,
);

/** Learns how many numbers a model's vectors have, from the first one. */
export const learnDimensions = statement<{ dimensions: number }>(
  "learn_embedding_dimensions",
  `UPDATE embedding_models SET dimensions = coalesce(dimensions, $2) WHERE model = $1
   RETURNING dimensions`,
);

export const noteError = statement<never>(
  "note_embedding_error",
  `UPDATE embedding_models SET error = $2 WHERE model = $1 AND error IS DISTINCT FROM $2`,
);

// A message that says something and has no vector of the model yet.
const LACKS = (model: string) => `m.deleted_at IS NULL AND m.content ~ '\\S'
  AND NOT EXISTS (
    SELECT FROM message_embeddings AS e JOIN embedding_models AS k USING (model)
     WHERE e.conversation_id = m.conversation_id AND e.seq = m.seq AND e.model = ${model}
       AND e.dimensions = coalesce(k.dimensions, e.dimensions))`;

// $1 sessions, $2 their tenants, $3 and $4 the ranges that have changed, $5 now, $6 the model. What is
// queued and not taken up in vain yet can stay as it is.
export const queueRanges = statement<never>(
  "queue_embeddings_of_ranges",
  `WITH changed AS (
     SELECT DISTINCT m.conversation_id, m.seq, d.tenant_id
       FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
              AS d (conversation_id, tenant_id, first_seq, last_seq)
       JOIN conversation_messages AS m
         ON m.conversation_id = d.conversation_id AND m.seq BETWEEN d.first_seq AND d.last_seq
      WHERE ${LACKS("$6")}
   ), queued AS (
     INSERT INTO embedding_queue (conversation_id, seq, tenant_id, queued_at, due_at)
     SELECT conversation_id, seq, tenant_id, $5::timestamptz, $5 FROM changed
      ORDER BY conversation_id, seq
     ON CONFLICT DO NOTHING
   )
   UPDATE embedding_queue AS q
      SET due_at = $5, failures = 0, error = NULL, failed_at = NULL
     FROM (
       SELECT conversation_id, seq
         FROM embedding_queue JOIN changed USING (conversation_id, seq)
        WHERE failures > 0
        ORDER BY conversation_id, seq
          FOR UPDATE OF embedding_queue SKIP LOCKED
     ) AS again
    WHERE q.conversation_id = again.conversation_id AND q.seq = again.seq`,
);

/** Takes messages of the same ranges ($1, $2, $3) off the queue that are not there any more. */
export const dequeueGone = statement<never>(
  "dequeue_embeddings_of_gone",
  `DELETE FROM embedding_queue
    WHERE (conversation_id, seq) IN (
      SELECT q.conversation_id, q.seq
        FROM embedding_queue AS q
        JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[])
               AS d (conversation_id, first_seq, last_seq)
          ON d.conversation_id = q.conversation_id AND q.seq BETWEEN d.first_seq AND d.last_seq
       WHERE NOT EXISTS (
         SELECT FROM conversation_messages AS m
          WHERE m.conversation_id = q.conversation_id AND m.seq = q.seq AND m.deleted_at IS NULL)
         FOR UPDATE OF q SKIP LOCKED)`,
);

/** Takes the turn of looking through the messages that were there before the model. */
export const lockBackfill = statement<{ after_conversation_id: bigint; after_seq: bigint }>(
  "lock_embedding_backfill",
  `SELECT after_conversation_id, after_seq FROM embedding_models
    WHERE model = $1 AND NOT complete
      FOR UPDATE SKIP LOCKED`,
);

export const countWaiting = statement<{ waiting: bigint }>(
  "count_waiting_embeddings",
  `SELECT count(*) AS waiting
     FROM (SELECT FROM embedding_queue WHERE failed_at IS NULL LIMIT $1) AS counted`,
);

/** The next $3 messages behind a key, and where they end. */
export const nextStretch = statement<{ conversation_id: bigint; seq: bigint; found: bigint }>(
  "next_stretch_to_embed",
  `SELECT conversation_id, seq, found
     FROM (
       SELECT conversation_id, seq, count(*) OVER () AS found
         FROM (
           SELECT conversation_id, seq FROM conversation_messages
            WHERE (conversation_id, seq) > ($1, $2)
            ORDER BY conversation_id, seq
            LIMIT $3
         ) AS stretch
     ) AS counted
    ORDER BY conversation_id DESC, seq DESC
    LIMIT 1`,
);

/** Queues what lacks a vector behind ($1, $2), up to ($3, $4). $5 now, $6 the model. */
export const queueStretch = statement<never>(
  "queue_embeddings_of_stretch",
  `INSERT INTO embedding_queue (conversation_id, seq, tenant_id, queued_at, due_at)
   SELECT m.conversation_id, m.seq, c.tenant_id, $5::timestamptz, $5
     FROM conversation_messages AS m JOIN conversations AS c ON c.id = m.conversation_id
    WHERE (m.conversation_id, m.seq) > ($1, $2) AND (m.conversation_id, m.seq) <= ($3, $4)
      AND ${LACKS("$6")}
    ORDER BY 1, 2
   ON CONFLICT DO NOTHING`,
);

export const moveBackfill = statement<never>(
  "move_embedding_backfill",
  `UPDATE embedding_models SET after_conversation_id = $2, after_seq = $3, complete = $4
    WHERE model = $1`,
);

/** A message that a worker has taken up. */
export interface ClaimRow {
  conversation_id: bigint;
  seq: bigint;
  tenant_id: string;
  failures: number;
}

/** Takes up to $1 messages that are due at $2, and puts them off until $3 for everyone else. */
export const claim = statement<ClaimRow>(
  "claim_embeddings",
  `UPDATE embedding_queue AS q
      SET due_at = $3
     FROM (
       SELECT conversation_id, seq FROM embedding_queue
        WHERE failed_at IS NULL AND due_at <= $2
        ORDER BY due_at
        LIMIT $1
          FOR UPDATE SKIP LOCKED
     ) AS due
    WHERE q.conversation_id = due.conversation_id AND q.seq = due.seq
   RETURNING q.conversation_id, q.seq, q.tenant_id, q.failures`,
);

/** What a claimed message says; no row for one that needs no vector any more. */
export interface TextRow {
  conversation_id: bigint;
  seq: bigint;
  revision: bigint;
  text: string;
}

/** Of the messages $1, $2 those that lack a vector of the model $3, $4 characters of each. */
export const textsOf = (name: string, lacks: string) =>
  statement<TextRow>(
    name,
    `SELECT m.conversation_id, m.seq, m.revision, left(m.content, $4) AS text
       FROM unnest($1::bigint[], $2::bigint[]) AS d (conversation_id, seq)
       JOIN conversation_messages AS m USING (conversation_id, seq)
      WHERE ${lacks}`,
  );

export const readTexts = textsOf("read_texts_to_embed", LACKS("$3"));

/** Of the messages $2 of the session $1, those that nobody is changing, until the transaction ends. */
export const holdMessages = statement<{ seq: bigint; revision: bigint }>(
  "hold_messages_to_embed",
  `SELECT seq, revision FROM conversation_messages
    WHERE conversation_id = $1 AND seq = ANY ($2::bigint[]) AND deleted_at IS NULL
    ORDER BY seq
      FOR SHARE SKIP LOCKED`,
);

const VECTOR = "conversation_id, seq, model, tenant_id, dimensions, embedding, code, scale";

// $1 session, $2 seq, $3 model, $4 tenant, and of the vector $5 the numbers, $6 the code, $7 the scale.
const INSERT = `INSERT INTO message_embeddings (${VECTOR})
   VALUES ($1, $2, $3, $4, cardinality($5::real[]), $5, $6, $7)`;

export const putEmbedding = statement<never>(
  "put_embedding",
  `${INSERT}
   ON CONFLICT (conversation_id, seq, model) DO UPDATE
      SET dimensions = excluded.dimensions, embedding = excluded.embedding,
          code = excluded.code, scale = excluded.scale`,
);

/** As putEmbedding, with a message that is new. */
export const insertGiven = statement<never>("insert_given_embedding", INSERT);

const KEYS = `unnest($1::bigint[], $2::bigint[]) AS d (conversation_id, seq)`;

/** Takes messages off the queue. */
export const dequeue = statement<never>(
  "dequeue_embeddings",
  `DELETE FROM embedding_queue
    WHERE (conversation_id, seq) IN (
      SELECT conversation_id, seq FROM embedding_queue JOIN ${KEYS} USING (conversation_id, seq)
         FOR UPDATE OF embedding_queue SKIP LOCKED)`,
);

/** Gives claimed messages back, to be taken up at $3. */
export const putOff = statement<never>(
  "put_embeddings_off",
  `UPDATE embedding_queue AS q SET due_at = $3 FROM ${KEYS}
    WHERE q.conversation_id = d.conversation_id AND q.seq = d.seq`,
);

/** Counts a failure of claimed messages. $3 when to try again, $4 why, $5 since when never again. */
export const countFailure = statement<never>(
  "count_embedding_failure",
  `UPDATE embedding_queue AS q
      SET failures = failures + 1, due_at = $3, error = $4, failed_at = $5
     FROM ${KEYS}
    WHERE q.conversation_id = d.conversation_id AND q.seq = d.seq`,
);

/** What changed a message's content, since the session's revision $4, removes its vectors. */
export const forgetChanged = statement<never>(
  "forget_embeddings_of_changed",
  `DELETE FROM message_embeddings AS e
    USING conversation_messages AS m
    WHERE e.conversation_id = $1 AND e.seq BETWEEN $2 AND $3
      AND m.conversation_id = $1 AND m.seq = e.seq AND m.revision > $4
      AND (m.deleted_at IS NOT NULL OR NOT EXISTS (
        SELECT FROM message_versions AS v
         WHERE v.conversation_id = $1 AND v.seq = m.seq AND v.version = m.version - 1
           AND v.content = m.content AND v.deleted_at IS NULL))`,
);

export const forgetAll = statement<never>(
  "forget_embeddings",
  `DELETE FROM message_embeddings WHERE conversation_id = $1`,
);

export const dequeueAll = statement<never>(
  "dequeue_embeddings_of_session",
  `DELETE FROM embedding_queue
    WHERE (conversation_id, seq) IN (
      SELECT conversation_id, seq FROM embedding_queue WHERE conversation_id = $1
       ORDER BY seq FOR UPDATE)`,
);

/** A fork's messages mean what those mean that it has taken over as they are now. See copy_messages. */
export const copyToFork = statement<never>(
  "copy_embeddings",
  `INSERT INTO message_embeddings (${VECTOR})
   SELECT $4::bigint, e.seq, e.model, e.tenant_id, e.dimensions, e.embedding, e.code, e.scale
     FROM message_embeddings AS e
     JOIN conversation_messages AS m ON m.conversation_id = e.conversation_id AND m.seq = e.seq
    WHERE e.conversation_id = $1 AND m.conversation_id = $1 AND e.seq <= $2 AND m.revision <= $3`,
);

/** pgvector where it can be had, from the release on that goes on searching behind a filter. */
export const findPgvector = statement<{ installed: boolean }>(
  "find_pgvector",
  `SELECT installed_version IS NOT NULL AS installed
     FROM pg_available_extensions
    WHERE name = 'vector'
      AND string_to_array(coalesce(installed_version, default_version), '.')::int[] >= '{0,8}'`,
);

export const installPgvector = statement<never>(
  "install_pgvector",
  `CREATE EXTENSION IF NOT EXISTS vector`,
);

export const findIndex = statement<{ valid: boolean }>(
  "find_index_of_embeddings",
  `SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass($1)`,
);

/** The statement that makes the index $1 of the vectors with $2 numbers that the model $3 made. */
export const describeIndex = statement<{ text: string }>(
  "describe_index_of_embeddings",
  `SELECT format(
     'CREATE INDEX CONCURRENTLY IF NOT EXISTS %I ON message_embeddings
       USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops) WHERE model = %L AND dimensions = %s',
     $1::text, $2::integer, $3::text, $2) AS text`,
);

/** What waits for its embedding in a tenant, and what was given up. */
export const getQueueStatus = statement<{
  pending: bigint;
  oldest: Date | null;
  failed: bigint;
}>(
  "get_embedding_queue_status",
  `SELECT (SELECT count(*) FROM embedding_queue WHERE tenant_id = $1 AND failed_at IS NULL) AS pending,
          (SELECT min(queued_at) FROM embedding_queue WHERE tenant_id = $1 AND failed_at IS NULL)
            AS oldest,
          (SELECT count(*) FROM embedding_queue WHERE tenant_id = $1 AND failed_at IS NOT NULL)
            AS failed`,
);

/** A message that was given up. */
export interface FailureRow {
  conversation_id: bigint;
  seq: bigint;
  failures: number;
  error: string | null;
  failed_at: Date;
}

const FAILED = `tenant_id = $1 AND failed_at IS NOT NULL AND ($2 = 0 OR conversation_id = $2)`;

/** $1 tenant, $2 session or 0, behind the key ($3, $4), $5 how many. */
export const listFailures = statement<FailureRow>(
  "list_embedding_failures",
  `SELECT conversation_id, seq, failures, error, failed_at
     FROM embedding_queue
    WHERE ${FAILED} AND (conversation_id, seq) > ($3, $4)
    ORDER BY conversation_id, seq
    LIMIT $5`,
);

/** $1 tenant, $2 session or 0, $3 now. */
export const retryFailures = statement<{ seq: bigint }>(
  "retry_embeddings",
  `UPDATE embedding_queue AS q
      SET failures = 0, error = NULL, failed_at = NULL, due_at = $3, queued_at = $3
     FROM (
       SELECT conversation_id, seq FROM embedding_queue
        WHERE ${FAILED}
        ORDER BY conversation_id, seq
          FOR UPDATE
     ) AS failed
    WHERE q.conversation_id = failed.conversation_id AND q.seq = failed.seq
   RETURNING q.seq`,
);
