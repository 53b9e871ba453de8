// The statements on sessions.
import { statement } from "../db/database.js";

/** What a session's row holds of an AgentSession. */
export interface SessionRow {
  id: bigint;
  model_id: string;
  created_at: Date;
  title: string;
  owner_id: string;
  tags: string[];
  metadata: Record<string, unknown> | null;
  revision: bigint;
  last_seq: bigint;
  updated_at: Date;
  expires_at: Date | null;
  parent_conversation_id: bigint | null;
  parent_seq: bigint | null;
  snapshot_every_messages: bigint | null;
  snapshot_every_minutes: bigint | null;
}

const SESSION = `id, model_id, created_at, title, owner_id, tags, metadata, revision, last_seq,
  updated_at, expires_at, parent_conversation_id, parent_seq, snapshot_every_messages,
  snapshot_every_minutes`;

// NOT EXISTS first: a models table with NOT NULL columns of its own refuses the
// row before ON CONFLICT sees that the model is there.
export const registerModel = statement<never>(
  "register_model",
  `INSERT INTO models (id)
   SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM models WHERE id = $1)
   ON CONFLICT DO NOTHING`,
);

export const requiredModelColumns = statement<{ name: string }>(
  "required_model_columns",
  `SELECT attname AS name
     FROM pg_attribute
    WHERE attrelid = 'models'::regclass AND attnum > 0 AND NOT attisdropped
      AND attnotnull AND NOT atthasdef AND attidentity = ''
    ORDER BY attnum`,
);

export const insertSession = statement<SessionRow>(
  "insert_session",
  `INSERT INTO conversations
     (tenant_id, model_id, title, owner_id, tags, metadata, expires_at, created_at, updated_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
   RETURNING ${SESSION}`,
);

export const getSession = statement<SessionRow & { message_count: bigint }>(
  "get_session",
  `SELECT ${SESSION}, message_count FROM conversations WHERE id = $1 AND tenant_id = $2`,
);

export const updateSession = statement<SessionRow>(
  "update_session",
  `UPDATE conversations
      SET title = CASE WHEN 'title' = ANY ($3::text[]) THEN $4 ELSE title END,
          owner_id = CASE WHEN 'owner_id' = ANY ($3) THEN $5 ELSE owner_id END,
          tags = CASE WHEN 'tags' = ANY ($3) THEN $6 ELSE tags END,
          metadata = CASE WHEN 'metadata' = ANY ($3) THEN $7 ELSE metadata END,
          expires_at = CASE WHEN 'expires_at' = ANY ($3) THEN $8 ELSE expires_at END,
          snapshot_every_messages = CASE WHEN 'snapshot_policy' = ANY ($3) THEN $10
                                         ELSE snapshot_every_messages END,
          snapshot_every_minutes = CASE WHEN 'snapshot_policy' = ANY ($3) THEN $11
                                        ELSE snapshot_every_minutes END,
          revision = revision + 1,
          updated_at = greatest(updated_at, $9)
    WHERE id = $1 AND tenant_id = $2
    RETURNING ${SESSION}`,
);

// Waits for appends in flight; those that come later find no session.
export const lockSession = statement<{ id: bigint }>(
  "lock_session",
  `SELECT id FROM conversations WHERE id = $1 AND tenant_id = $2 FOR UPDATE`,
);

export const deleteSession = statement<{ tenant_id: string; revision: bigint }>(
  "delete_session",
  `DELETE FROM conversations WHERE id = $1 RETURNING tenant_id, revision`,
);

/** A session as lists show it. */
export interface SummaryRow extends SessionRow {
  message_count: bigint;
  last_message_ms: bigint | null;
  first_message: string | null;
  /** Where the session stands in the list. */
  activity: bigint;
  /** How many rows the page had before it was cut by bytes, one more than asked for included. */
  found: bigint;
}

/**
 * The order of lists: sessions without messages sort last. Written as the index
 * conversations_by_activity has it, so that a page is one range of that index.
 */
export const ACTIVITY = "coalesce(last_message_ms, -9223372036854775808)";

// What a summary may weigh apart from its metadata: titles, tags and the preview.
const SUMMARY_BYTES = 4_000;

/** The columns of a SummaryRow but its last two. */
export const SUMMARY = `${SESSION}, message_count, last_message_ms, first_message`;

/**
 * A page of sessions from a source of its rows in order. $1 tenant, $2 activity and $3 id of the last
 * session seen, $4 how many, $5 bytes.
 */
export const pageOf = (source: string): string =>
  `SELECT * FROM (
     SELECT *,
            count(*) OVER () AS found,
            sum(coalesce(octet_length(metadata::text), 0) + ${SUMMARY_BYTES})
              OVER (ORDER BY activity DESC, id DESC ROWS UNBOUNDED PRECEDING)
              - coalesce(octet_length(metadata::text), 0) - ${SUMMARY_BYTES} AS bytes_before
       FROM (${source}) AS listed
   ) AS page
   WHERE bytes_before < $5
   ORDER BY activity DESC, id DESC`;

export const listSessionsOfModel = statement<SummaryRow>(
  "list_sessions_of_model",
  pageOf(
    `SELECT ${SUMMARY}, ${ACTIVITY} AS activity
       FROM conversations
      WHERE tenant_id = $1 AND model_id = $6 AND (${ACTIVITY}, id) < ($2, $3)
      ORDER BY ${ACTIVITY} DESC, id DESC
      LIMIT $4`,
  ),
);

// One range of the index for each model, merged: models are few.
export const listSessions = statement<SummaryRow>(
  "list_sessions",
  pageOf(
    `SELECT one.*
       FROM models
      CROSS JOIN LATERAL (
        SELECT ${SUMMARY}, ${ACTIVITY} AS activity
          FROM conversations
         WHERE tenant_id = $1 AND model_id = models.id AND (${ACTIVITY}, id) < ($2, $3)
         ORDER BY ${ACTIVITY} DESC, id DESC
         LIMIT $4
      ) AS one
      ORDER BY one.activity DESC, one.id DESC
      LIMIT $4`,
  ),
);

/** As listSessions, on Citus, which takes no LATERAL with a limit of its own over shards. */
export const listSessionsOfShards = statement<SummaryRow>(
  "list_sessions_of_shards",
  pageOf(
    `SELECT ${SUMMARY}, ${ACTIVITY} AS activity
       FROM conversations
      WHERE tenant_id = $1 AND (${ACTIVITY}, id) < ($2, $3)
      ORDER BY ${ACTIVITY} DESC, id DESC
      LIMIT $4`,
  ),
);

/** What a session's row holds of its SessionStats. */
export interface StatsRow {
  message_count: bigint;
  user_messages: bigint;
  assistant_messages: bigint;
  system_messages: bigint;
  tool_messages: bigint;
  total_characters: bigint;
  first_message_ms: bigint | null;
  last_message_ms: bigint | null;
  input_tokens: bigint;
  output_tokens: bigint;
  cached_tokens: bigint;
  reasoning_tokens: bigint;
  cost_micros: bigint;
}

export const getSessionStats = statement<StatsRow>(
  "get_session_stats",
  `SELECT message_count, user_messages, assistant_messages, system_messages, tool_messages,
          total_characters, first_message_ms, last_message_ms,
          input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_micros
     FROM conversations
    WHERE id = $1 AND tenant_id = $2`,
);
