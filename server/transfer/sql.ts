// The statements of export and import.
import { limits } from "../config.js";
import { statement } from "../db/database.js";
import { MESSAGE_BYTES } from "../messages/sql.js";
import { VERSION_COLUMNS, type VersionRow } from "../messages/versions/sql.js";

const COLUMNS = VERSION_COLUMNS.join(", ");

/** Those of some sessions that are a tenant's. */
export const findSessions = statement<{ id: bigint }>(
  "find_sessions_to_export",
  `SELECT id FROM conversations WHERE tenant_id = $1 AND id = ANY ($2::bigint[])`,
);

// So many messages behind a seq, and none that begins after so many bytes. $1 session, $2 seq, $3 how
// many, $4 bytes.
const messagesAfter = (name: string, shown: string) =>
  statement<VersionRow>(
    name,
    `SELECT ${COLUMNS}
       FROM (
         SELECT *, sum(bytes) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
           FROM (
             SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes
               FROM conversation_messages
              WHERE conversation_id = $1 AND seq > $2 ${shown}
              ORDER BY seq
              LIMIT $3
           ) AS sized
       ) AS page
      WHERE bytes_before < $4
      ORDER BY seq`,
  );

export const exportAll = messagesAfter("export_all_messages", "");
export const exportShown = messagesAfter("export_shown_messages", "AND deleted_at IS NULL");

/** As those, for earlier versions behind ($2 seq, $5 version). */
export const exportVersions = statement<VersionRow>(
  "export_versions",
  `SELECT ${COLUMNS}
     FROM (
       SELECT *, sum(bytes) OVER (ORDER BY seq, version ROWS UNBOUNDED PRECEDING) - bytes
                   AS bytes_before
         FROM (
           SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes
             FROM message_versions
            WHERE conversation_id = $1 AND (seq, version) > ($2, $5)
            ORDER BY seq, version
            LIMIT $3
         ) AS sized
     ) AS page
    WHERE bytes_before < $4
    ORDER BY seq, version`,
);

/** A snapshot as it is stored. */
export interface SnapshotRow {
  id: bigint;
  name: string;
  by_policy: boolean;
  revision: bigint;
  last_seq: bigint;
  message_count: bigint;
  state: string | null;
  created_by: string;
  created_at: Date;
}

// One at a time, as each may have a state of megabytes.
export const exportSnapshot = statement<SnapshotRow>(
  "export_snapshot",
  `SELECT id, name, by_policy, revision, last_seq, message_count, state, created_by, created_at
     FROM session_snapshots
    WHERE conversation_id = $1 AND (revision, id) > ($2, $3)
    ORDER BY revision, id
    LIMIT 1`,
);

/** What an import has made of a session before. */
export interface ImportRow {
  conversation_id: bigint;
  digest: Buffer;
}

export const findImport = statement<ImportRow>(
  "find_import",
  `SELECT conversation_id, digest
     FROM session_imports
    WHERE tenant_id = $1 AND import_id = $2 AND source_id = $3`,
);

// ON CONFLICT waits for a transaction that is importing the same session.
export const insertImport = statement<{ inserted: boolean }>(
  "insert_import",
  `INSERT INTO session_imports
     (tenant_id, import_id, source_id, conversation_id, digest, created_at)
   VALUES ($1, $2, $3, $4, $5, $6)
   ON CONFLICT DO NOTHING
   RETURNING true AS inserted`,
);

export const deleteImports = statement<never>(
  "delete_imports",
  `DELETE FROM session_imports WHERE conversation_id = $1`,
);

export const importSession = statement<{ id: bigint }>(
  "import_session",
  `INSERT INTO conversations
     (tenant_id, model_id, title, owner_id, tags, metadata, created_at, updated_at, expires_at,
      last_seq, revision, parent_conversation_id, parent_seq, snapshot_every_messages,
      snapshot_every_minutes)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
   RETURNING id`,
);

/** The columns that an import fills of a message and of its versions, with their types. */
export const IMPORTED = [
  ["seq", "bigint"],
  ["revision", "bigint"],
  ["role", "text"],
  ["content", "text"],
  ["ts_ms", "bigint"],
  ["name", "text"],
  ["tool_calls", "json"],
  ["tool_call_id", "text"],
  ["payload", "text"],
  ["payload_type", "text"],
  ["metadata", "jsonb"],
  ["input_tokens", "bigint"],
  ["output_tokens", "bigint"],
  ["cached_tokens", "bigint"],
  ["reasoning_tokens", "bigint"],
  ["cost_micros", "bigint"],
  ["exact", "bytea"],
  ["version", "bigint"],
  ["change", "text"],
  ["edited_at", "timestamptz"],
  ["deleted_at", "timestamptz"],
  ["changed_by", "text"],
  ["changed_at", "timestamptz"],
] as const;

const NAMES = IMPORTED.map(([name]) => name).join(", ");
// $1 is the session.
const ROWS = `unnest(${IMPORTED.map(([, type], index) => `$${index + 2}::${type}[]`).join(", ")})
  AS v (${NAMES})`;

export const importMessages = statement<never>(
  "import_messages",
  `INSERT INTO conversation_messages (conversation_id, ${NAMES}) SELECT $1::bigint, * FROM ${ROWS}`,
);

// A version has the id of its message.
export const importVersions = statement<never>(
  "import_versions",
  `INSERT INTO message_versions (id, conversation_id, ${NAMES})
   SELECT m.id, $1::bigint, v.*
     FROM ${ROWS}
     JOIN conversation_messages AS m ON m.conversation_id = $1 AND m.seq = v.seq`,
);

export const importSnapshot = statement<never>(
  "import_snapshot",
  `INSERT INTO session_snapshots
     (conversation_id, name, by_policy, revision, last_seq, message_count, state, created_by,
      created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
);

/** Makes the counters of a session that is complete agree with its messages. */
export const countImported = statement<never>(
  "count_imported",
  `UPDATE conversations AS c
      SET message_count = m.messages,
          user_messages = m.users,
          assistant_messages = m.assistants,
          system_messages = m.systems,
          tool_messages = m.tools,
          total_characters = m.characters,
          input_tokens = m.input_tokens,
          output_tokens = m.output_tokens,
          cached_tokens = m.cached_tokens,
          reasoning_tokens = m.reasoning_tokens,
          cost_micros = m.cost_micros,
          first_message_ms = m.first_ms,
          last_message_ms = m.last_ms,
          first_message = (
            SELECT left(content, ${limits.firstMessageCharacters})
              FROM conversation_messages
             WHERE conversation_id = $1 AND deleted_at IS NULL
             ORDER BY seq
             LIMIT 1),
          snapshot_seq = coalesce(s.last_seq, 0),
          snapshot_at = s.created_at
     FROM (
       SELECT count(*) AS messages,
              count(*) FILTER (WHERE role = 'user') AS users,
              count(*) FILTER (WHERE role = 'assistant') AS assistants,
              count(*) FILTER (WHERE role = 'system') AS systems,
              count(*) FILTER (WHERE role = 'tool') AS tools,
              coalesce(sum(char_length(content)), 0) AS characters,
              coalesce(sum(input_tokens), 0) AS input_tokens,
              coalesce(sum(output_tokens), 0) AS output_tokens,
              coalesce(sum(cached_tokens), 0) AS cached_tokens,
              coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens,
              coalesce(sum(cost_micros), 0) AS cost_micros,
              min(ts_ms) AS first_ms,
              max(ts_ms) AS last_ms
         FROM conversation_messages
        WHERE conversation_id = $1 AND deleted_at IS NULL
     ) AS m
     LEFT JOIN (
       SELECT last_seq, created_at FROM session_snapshots
        WHERE conversation_id = $1 AND by_policy
        ORDER BY revision DESC, id DESC
        LIMIT 1
     ) AS s ON true
    WHERE c.id = $1`,
);
