// The statements that change messages and read their history.
import { limits } from "../../config.js";
import { statement } from "../../db/database.js";
import { MESSAGE_BYTES, MESSAGE_COLUMNS, type MessageRow } from "../sql.js";

/** What made a version, as the tables hold it. */
export type ChangeName = "appended" | "updated" | "deleted" | "undeleted" | "reverted" | "forked";

/** A version of a message: its current one, or one that it had before. */
export interface VersionRow extends MessageRow {
  change: ChangeName;
  changed_by: string;
  changed_at: Date | null;
}

/** What a version consists of, in both tables. */
export const VERSION_COLUMNS = [...MESSAGE_COLUMNS, "change", "changed_by", "changed_at"];

/** What a version says: all but what tells which one it is. */
export const CONTENT_COLUMNS = [
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
  "exact",
];

const VERSION = VERSION_COLUMNS.join(", ");

/** A session whose messages are about to change. */
export interface ChangingSessionRow {
  last_seq: bigint;
  revision: bigint;
}

/** The session's turn: what changes its messages waits for its appends, and they for it. */
export const lockSession = statement<ChangingSessionRow>(
  "lock_session_of_messages",
  `SELECT last_seq, revision FROM conversations WHERE id = $1 AND tenant_id = $2 FOR UPDATE`,
);

export const getCurrent = statement<VersionRow>(
  "get_current_version",
  `SELECT ${VERSION} FROM conversation_messages WHERE conversation_id = $1 AND seq = $2`,
);

export const getVersion = statement<VersionRow>(
  "get_version",
  `SELECT ${VERSION} FROM conversation_messages
    WHERE conversation_id = $1 AND seq = $2 AND version = $3
    UNION ALL
   SELECT ${VERSION} FROM message_versions
    WHERE conversation_id = $1 AND seq = $2 AND version = $3`,
);

/** Puts the current version of a message into its history, before it is superseded. */
export const keepVersion = statement<never>(
  "keep_version",
  `INSERT INTO message_versions (${VERSION})
   SELECT ${VERSION} FROM conversation_messages WHERE conversation_id = $1 AND seq = $2`,
);

// $3 revision, $4 who, $5 when.
const change = (name: ChangeName) =>
  `version = m.version + 1, revision = $3, change = '${name}', changed_by = $4, changed_at = $5`;

const RETURNING = `RETURNING ${VERSION_COLUMNS.map((column) => `m.${column}`).join(", ")}`;

// What the mask ($6) does not name stays as it is in its column.
export const updateMessage = statement<VersionRow>(
  "update_message",
  `UPDATE conversation_messages AS m
      SET ${change("updated")}, edited_at = $5,
          role = CASE WHEN 'role' = ANY ($6::text[]) THEN $7 ELSE role END,
          content = CASE WHEN 'content' = ANY ($6) THEN $8 ELSE content END,
          ts_ms = CASE WHEN 'timestamp_ms' = ANY ($6) THEN $9 ELSE ts_ms END,
          name = CASE WHEN 'name' = ANY ($6) THEN $10 ELSE name END,
          tool_calls = CASE WHEN 'tool_calls' = ANY ($6) THEN $11::json ELSE tool_calls END,
          tool_call_id = CASE WHEN 'tool_call_id' = ANY ($6) THEN $12 ELSE tool_call_id END,
          payload = CASE WHEN 'payload' = ANY ($6) THEN $13 ELSE payload END,
          payload_type = CASE WHEN 'payload_type' = ANY ($6) THEN $14 ELSE payload_type END,
          metadata = CASE WHEN 'metadata' = ANY ($6) THEN $15::jsonb ELSE metadata END,
          input_tokens = CASE WHEN 'usage' = ANY ($6) THEN $16 ELSE input_tokens END,
          output_tokens = CASE WHEN 'usage' = ANY ($6) THEN $17 ELSE output_tokens END,
          cached_tokens = CASE WHEN 'usage' = ANY ($6) THEN $18 ELSE cached_tokens END,
          reasoning_tokens = CASE WHEN 'usage' = ANY ($6) THEN $19 ELSE reasoning_tokens END,
          cost_micros = CASE WHEN 'usage' = ANY ($6) THEN $20 ELSE cost_micros END,
          exact = $21
    WHERE conversation_id = $1 AND seq = $2
   ${RETURNING}`,
);

export const deleteMessage = statement<VersionRow>(
  "delete_message",
  `UPDATE conversation_messages AS m
      SET ${change("deleted")}, deleted_at = $5
    WHERE conversation_id = $1 AND seq = $2
   ${RETURNING}`,
);

export const undeleteMessage = statement<VersionRow>(
  "undelete_message",
  `UPDATE conversation_messages AS m
      SET ${change("undeleted")}, deleted_at = NULL
    WHERE conversation_id = $1 AND seq = $2
   ${RETURNING}`,
);

/** What a version says becomes current again. */
const TAKEN_OVER = CONTENT_COLUMNS.map((column) => `${column} = v.${column}`).join(", ");

// The current version is in the history by now, so that it can be gone back to as well.
export const revertMessage = statement<VersionRow>(
  "revert_message",
  `UPDATE conversation_messages AS m
      SET ${change("reverted")}, edited_at = $5,
          deleted_at = CASE WHEN v.deleted_at IS NOT NULL THEN $5::timestamptz END,
          ${TAKEN_OVER}
     FROM message_versions AS v
    WHERE m.conversation_id = $1 AND m.seq = $2
      AND v.conversation_id = $1 AND v.seq = $2 AND v.version = $6
   ${RETURNING}`,
);

// What the messages $2 to $3 count for, before and after what has changed since the revision $4. Of
// the history, a look-up for each message that has one: a join could become one with all of it.
const COUNTED = `
  SELECT 1 AS sign, role, content, ts_ms, input_tokens, output_tokens, cached_tokens,
         reasoning_tokens, cost_micros
    FROM conversation_messages
   WHERE conversation_id = $1 AND seq BETWEEN $2 AND $3 AND revision > $4 AND deleted_at IS NULL
   UNION ALL
  SELECT -1, v.role, v.content, v.ts_ms, v.input_tokens, v.output_tokens, v.cached_tokens,
         v.reasoning_tokens, v.cost_micros
    FROM conversation_messages AS m
   CROSS JOIN LATERAL (
     SELECT * FROM message_versions
      WHERE conversation_id = $1 AND seq = m.seq AND version = m.version - 1
      LIMIT 1
   ) AS v
   WHERE m.conversation_id = $1 AND m.seq BETWEEN $2 AND $3 AND m.revision > $4 AND m.version > 1
     AND v.deleted_at IS NULL`;

const SHOWN = "conversation_id = $1 AND deleted_at IS NULL";

/**
 * Brings a session's row up to the changes of its messages $2 to $3 since its revision $4, each of
 * them changed once at the most. The session's messages are looked through for the first or last
 * time only where the message that had it has changed.
 */
export const countChanges = statement<{ revision: bigint; last_seq: bigint }>(
  "count_changes",
  `UPDATE conversations AS c
      SET revision = $5,
          message_count = c.message_count + d.messages,
          user_messages = c.user_messages + d.users,
          assistant_messages = c.assistant_messages + d.assistants,
          system_messages = c.system_messages + d.systems,
          tool_messages = c.tool_messages + d.tools,
          total_characters = c.total_characters + d.characters,
          input_tokens = c.input_tokens + d.input_tokens,
          output_tokens = c.output_tokens + d.output_tokens,
          cached_tokens = c.cached_tokens + d.cached_tokens,
          reasoning_tokens = c.reasoning_tokens + d.reasoning_tokens,
          cost_micros = c.cost_micros + d.cost_micros,
          first_message_ms = CASE WHEN d.first_before <= c.first_message_ms
            THEN (SELECT min(ts_ms) FROM conversation_messages WHERE ${SHOWN})
            ELSE least(c.first_message_ms, d.first_after) END,
          last_message_ms = CASE WHEN d.last_before >= c.last_message_ms
            THEN (SELECT max(ts_ms) FROM conversation_messages WHERE ${SHOWN})
            ELSE greatest(c.last_message_ms, d.last_after) END,
          first_message = (
            SELECT left(content, ${limits.firstMessageCharacters}) FROM conversation_messages
             WHERE ${SHOWN} ORDER BY seq LIMIT 1),
          updated_at = greatest(c.updated_at, $6)
     FROM (
       SELECT coalesce(sum(sign), 0) AS messages,
              coalesce(sum(sign) FILTER (WHERE role = 'user'), 0) AS users,
              coalesce(sum(sign) FILTER (WHERE role = 'assistant'), 0) AS assistants,
              coalesce(sum(sign) FILTER (WHERE role = 'system'), 0) AS systems,
              coalesce(sum(sign) FILTER (WHERE role = 'tool'), 0) AS tools,
              coalesce(sum(sign * char_length(content)), 0) AS characters,
              coalesce(sum(sign * input_tokens), 0) AS input_tokens,
              coalesce(sum(sign * output_tokens), 0) AS output_tokens,
              coalesce(sum(sign * cached_tokens), 0) AS cached_tokens,
              coalesce(sum(sign * reasoning_tokens), 0) AS reasoning_tokens,
              coalesce(sum(sign * cost_micros), 0) AS cost_micros,
              min(ts_ms) FILTER (WHERE sign = -1) AS first_before,
              max(ts_ms) FILTER (WHERE sign = -1) AS last_before,
              min(ts_ms) FILTER (WHERE sign = 1) AS first_after,
              max(ts_ms) FILTER (WHERE sign = 1) AS last_after
         FROM (${COUNTED}) AS counted
     ) AS d
    WHERE c.id = $1
   RETURNING c.revision, c.last_seq`,
);

/** Versions of a message below one, newest first, so many and so many bytes at the most. */
export const listVersions = statement<VersionRow & { found: bigint }>(
  "list_versions",
  `SELECT ${VERSION}, found
     FROM (
       SELECT *, count(*) OVER () AS found,
              sum(bytes) OVER (ORDER BY version DESC ROWS UNBOUNDED PRECEDING) - bytes
                AS bytes_before
         FROM (
           (SELECT ${VERSION}, ${MESSAGE_BYTES} AS bytes
              FROM conversation_messages
             WHERE conversation_id = $1 AND seq = $2 AND version < $3)
            UNION ALL
           (SELECT ${VERSION}, ${MESSAGE_BYTES} AS bytes
              FROM message_versions
             WHERE conversation_id = $1 AND seq = $2 AND version < $3
             ORDER BY version DESC
             LIMIT $4)
            ORDER BY version DESC
            LIMIT $4
         ) AS sized
     ) AS page
    WHERE bytes_before < $5
    ORDER BY version DESC`,
);

export const deleteAllVersions = statement<never>(
  "delete_all_versions",
  `DELETE FROM message_versions WHERE conversation_id = $1`,
);
