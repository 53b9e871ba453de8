// The statements on the two tables of answers.
import { statement } from "../db/database.js";
import { unnested } from "../db/unnested.js";

/** What a write to a session answered. */
export interface ConversationRequestRow {
  fingerprint: Buffer;
  first_seq: bigint | null;
  last_seq: bigint | null;
  answer: Buffer | null;
}

export const findConversationRequest = statement<ConversationRequestRow>(
  "find_conversation_request",
  `SELECT fingerprint, first_seq, last_seq, answer
     FROM conversation_requests
    WHERE conversation_id = $1 AND request_id = $2 AND tenant_id = $3`,
);

/** An answer, and which request it belongs to. */
export interface KeptRequestRow extends ConversationRequestRow {
  conversation_id: bigint;
  request_id: string;
  tenant_id: string;
}

const KEPT = `conversation_id, request_id, tenant_id, fingerprint, first_seq, last_seq, answer`;

/** The answers to several requests; the i-th conversation_id goes with the i-th request_id. */
export const findConversationRequests = statement<KeptRequestRow>(
  "find_conversation_requests",
  `SELECT ${KEPT}
     FROM unnest($1::bigint[], $2::text[]) AS asked (conversation_id, request_id)
     JOIN conversation_requests USING (conversation_id, request_id)`,
);

/** As findConversationRequests, for requests to one session. */
export const findRequestsInShard = statement<KeptRequestRow>(
  "find_requests_in_shard",
  `SELECT ${KEPT} FROM conversation_requests
    WHERE conversation_id = $1 AND request_id = ANY ($2::text[])`,
);

const REQUEST_COLUMNS = {
  conversation_id: "bigint",
  request_id: "text",
  tenant_id: "text",
  fingerprint: "bytea",
  first_seq: "bigint",
  last_seq: "bigint",
  answer: "bytea",
};

export const insertConversationRequests = statement<never>(
  "insert_conversation_requests",
  `INSERT INTO conversation_requests (${Object.keys(REQUEST_COLUMNS).join(", ")}, created_at)
   SELECT ${unnested(REQUEST_COLUMNS)}, $8::timestamptz`,
);

/** As insertConversationRequests, for one of the session $1; the other columns are arrays of one. */
export const insertRequestInShard = statement<never>(
  "insert_request_in_shard",
  `INSERT INTO conversation_requests
     (conversation_id, request_id, tenant_id, fingerprint, first_seq, last_seq, answer, created_at)
   VALUES ($1::bigint, ($2::text[])[1], ($3::text[])[1], ($4::bytea[])[1], ($5::bigint[])[1],
     ($6::bigint[])[1], ($7::bytea[])[1], $8::timestamptz)`,
);

// ON CONFLICT waits for a transaction that is writing the same request_id.
export const insertConversationRequest = statement<{ inserted: boolean }>(
  "insert_conversation_request",
  `INSERT INTO conversation_requests
     (conversation_id, request_id, tenant_id, fingerprint, first_seq, last_seq, answer, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
   ON CONFLICT DO NOTHING
   RETURNING true AS inserted`,
);

export const deleteConversationRequests = statement<never>(
  "delete_conversation_requests",
  `DELETE FROM conversation_requests WHERE conversation_id = $1`,
);

/** What a CreateSession answered. */
export interface TenantRequestRow {
  fingerprint: Buffer;
  answer: Buffer;
}

export const findTenantRequest = statement<TenantRequestRow>(
  "find_tenant_request",
  `SELECT fingerprint, answer FROM tenant_requests WHERE tenant_id = $1 AND request_id = $2`,
);

export const insertTenantRequest = statement<{ inserted: boolean }>(
  "insert_tenant_request",
  `INSERT INTO tenant_requests
     (tenant_id, request_id, fingerprint, answer, created_at, conversation_id)
   VALUES ($1, $2, $3, $4, $5, $6)
   ON CONFLICT DO NOTHING
   RETURNING true AS inserted`,
);

// Whose session a kept answer tells of, once the session's own row cannot say it any more.
export const leaveOwnerToAnswers = statement<never>(
  "leave_owner_to_answers",
  `UPDATE tenant_requests AS r
      SET owner_id = c.owner_id
     FROM conversations AS c
    WHERE c.id = $1 AND r.conversation_id = $1`,
);

// $1 the time, $2 how many. Those that another sweep is deleting are its own.
const deleteOld = (table: string, key: string, lock = "FOR UPDATE SKIP LOCKED"): string =>
  `WITH gone AS (
     DELETE FROM ${table}
      WHERE (${key}) IN (
        SELECT ${key} FROM ${table}
         WHERE created_at < $1
         ORDER BY created_at
         LIMIT $2
           ${lock})
     RETURNING 1
   )
   SELECT count(*) AS gone FROM gone`;

export const deleteOldConversationRequests = statement<{ gone: bigint }>(
  "delete_old_conversation_requests",
  deleteOld("conversation_requests", "conversation_id, request_id"),
);

/** As deleteOldConversationRequests, on Citus, which locks no rows of several shards ahead. */
export const deleteOldRequestsOfShards = statement<{ gone: bigint }>(
  "delete_old_requests_of_shards",
  deleteOld("conversation_requests", "conversation_id, request_id", ""),
);

export const deleteOldTenantRequests = statement<{ gone: bigint }>(
  "delete_old_tenant_requests",
  deleteOld("tenant_requests", "tenant_id, request_id"),
);
