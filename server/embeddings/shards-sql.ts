// On Citus, in place of those statements of sql.ts that join the queue with messages: the queue and the
// models are on the coordinator, messages and vectors on all nodes. What messages need is asked first,
// and what follows from that is done to the queue afterwards.
import { statement } from "../db/database.js";
import type { Key } from "./keys.js";
import { textsOf } from "./sql.js";

/** A message that is to be queued. */
export interface LackingRow extends Key {
  tenant_id: string;
}

const LACKS = (model: string) => `m.deleted_at IS NULL AND m.content ~ '\\S'
  AND NOT EXISTS (
    SELECT FROM message_embeddings AS e
     WHERE e.conversation_id = m.conversation_id AND e.seq = m.seq AND e.model = ${model}
       AND e.dimensions = coalesce(
         (SELECT dimensions FROM embedding_models WHERE model = ${model}), e.dimensions))`;

/** What lacks a vector in the ranges $3 and $4 of the sessions $1, whose tenants are $2. $5 the model. */
export const findLackingInRanges = statement<LackingRow>(
  "find_lacking_embeddings_in_ranges",
  `SELECT DISTINCT m.conversation_id, m.seq, d.tenant_id
     FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
            AS d (conversation_id, tenant_id, first_seq, last_seq)
     JOIN conversation_messages AS m
       ON m.conversation_id = d.conversation_id AND m.seq BETWEEN d.first_seq AND d.last_seq
    WHERE ${LACKS("$5")}`,
);

/** What lacks a vector behind ($1, $2), up to ($3, $4). $5 the model. */
export const findLackingInStretch = statement<LackingRow>(
  "find_lacking_embeddings_in_stretch",
  `SELECT m.conversation_id, m.seq, c.tenant_id
     FROM conversation_messages AS m JOIN conversations AS c ON c.id = m.conversation_id
    WHERE (m.conversation_id, m.seq) > ($1, $2) AND (m.conversation_id, m.seq) <= ($3, $4)
      AND ${LACKS("$5")}`,
);

const KEYS = `unnest($1::bigint[], $2::bigint[], $3::text[]) AS k (conversation_id, seq, tenant_id)`;

/** Queues messages ($1, $2) of tenants ($3). $4 now. */
export const queueKeys = statement<never>(
  "queue_embeddings_of_keys",
  `INSERT INTO embedding_queue (conversation_id, seq, tenant_id, queued_at, due_at)
   SELECT conversation_id, seq, tenant_id, $4::timestamptz, $4 FROM ${KEYS}
    ORDER BY conversation_id, seq
   ON CONFLICT DO NOTHING`,
);

/** Has those of the same messages tried anew that were tried in vain. */
export const tryKeysAgain = statement<never>(
  "try_embeddings_of_keys_again",
  `UPDATE embedding_queue
      SET due_at = $4, failures = 0, error = NULL, failed_at = NULL
    WHERE (conversation_id, seq) IN (
      SELECT q.conversation_id, q.seq
        FROM embedding_queue AS q JOIN ${KEYS} USING (conversation_id, seq)
       WHERE q.failures > 0
       ORDER BY q.conversation_id, q.seq
         FOR UPDATE OF q SKIP LOCKED)`,
);

/** What waits in the ranges $2 and $3 of the sessions $1. */
export const findWaitingInRanges = statement<Key>(
  "find_waiting_embeddings_in_ranges",
  `SELECT DISTINCT q.conversation_id, q.seq
     FROM embedding_queue AS q
     JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[])
            AS d (conversation_id, first_seq, last_seq)
       ON d.conversation_id = q.conversation_id AND q.seq BETWEEN d.first_seq AND d.last_seq`,
);

/** Those of the messages $1, $2 that are there. */
export const findThere = statement<Key>(
  "find_messages_to_embed",
  `SELECT m.conversation_id, m.seq
     FROM unnest($1::bigint[], $2::bigint[]) AS k (conversation_id, seq)
     JOIN conversation_messages AS m USING (conversation_id, seq)
    WHERE m.deleted_at IS NULL`,
);

/** As readTexts. */
export const readTextsOfShards = textsOf("read_texts_to_embed_of_shards", LACKS("$3"));
