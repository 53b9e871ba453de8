// The statements that find and empty what is a person's; they reach across the slices' tables.
import { statement } from "../db/database.js";
import { VERSION_COLUMNS } from "../messages/versions/sql.js";

/** $1 tenant, $2 owner, $3 how many. */
export const findSessions = statement<{ id: bigint }>(
  "find_sessions_of_owner",
  `SELECT conversation_id AS id
     FROM session_labels
    WHERE tenant_id = $1 AND owner_id = $2 AND owner_id <> ''
    ORDER BY conversation_id
    LIMIT $3`,
);

/** Locks a session if it is still the owner's. */
export const lockSession = statement<{ id: bigint }>(
  "lock_session_of_owner",
  `SELECT id FROM conversations WHERE id = $1 AND tenant_id = $2 AND owner_id = $3 FOR UPDATE`,
);

/** What belongs to a session, counted. */
export interface BelongingsRow {
  messages: bigint;
  message_versions: bigint;
  snapshots: bigint;
  states: bigint;
  kept_answers: bigint;
}

export const countBelongings = statement<BelongingsRow>(
  "count_belongings",
  `SELECT (SELECT count(*) FROM conversation_messages WHERE conversation_id = $1) AS messages,
          (SELECT count(*) FROM message_versions WHERE conversation_id = $1) AS message_versions,
          (SELECT count(*) FROM session_snapshots WHERE conversation_id = $1) AS snapshots,
          (SELECT count(*) FROM session_states WHERE conversation_id = $1) AS states,
          (SELECT count(*) FROM conversation_requests WHERE conversation_id = $1)
            + (SELECT count(*) FROM tenant_requests WHERE conversation_id = $1) AS kept_answers`,
);

export const forgetCreation = statement<never>(
  "forget_creation",
  `DELETE FROM tenant_requests WHERE conversation_id = $1`,
);

/** A fork, and which of its messages came from a session. */
export interface ShareRow {
  fork: bigint;
  ancestor: bigint;
  after_seq: bigint;
  seq: bigint;
  inherited: Buffer[];
}

const SHARE = `a.conversation_id AS fork, a.ancestor_id AS ancestor, a.after_seq, a.seq, a.inherited`;

/** What other people's forks have of a session. $1 session, $2 its owner. */
export const findSharesOfSession = statement<ShareRow>(
  "find_shares_of_session",
  `SELECT ${SHARE}
     FROM session_ancestors AS a JOIN conversations AS f ON f.id = a.conversation_id
    WHERE a.ancestor_id = $1 AND f.owner_id <> $2
    ORDER BY a.conversation_id`,
);

/** What forks have of sessions that were deleted before. $1 tenant, $2 owner, $3 how many. */
export const findSharesOfDeleted = statement<ShareRow>(
  "find_shares_of_deleted",
  `SELECT ${SHARE}
     FROM session_ancestors AS a
    WHERE a.tenant_id = $1 AND a.owner_id = $2 AND a.owner_id <> ''
    ORDER BY a.conversation_id, a.ancestor_id
    LIMIT $3`,
);

/** A fork whose turn the transaction has. */
export const lockFork = statement<{ tenant_id: string; revision: bigint }>(
  "lock_fork_of_owner",
  `SELECT tenant_id, revision FROM conversations WHERE id = $1 FOR UPDATE`,
);

/** Puts the current versions into the history, from where the counters follow. */
export const keepVersions = statement<never>(
  "keep_versions_to_empty",
  `INSERT INTO message_versions (${VERSION_COLUMNS.join(", ")})
   SELECT ${VERSION_COLUMNS.join(", ")} FROM conversation_messages
    WHERE conversation_id = $1 AND seq > $2 AND seq <= $3`,
);

// Not a word is left, nor what it cost or when it was said; seq, role and who made the version are.
const EMPTY = `content = '', ts_ms = NULL, name = NULL, tool_calls = NULL, tool_call_id = NULL,
  payload = NULL, payload_type = NULL, metadata = NULL, input_tokens = NULL, output_tokens = NULL,
  cached_tokens = NULL, reasoning_tokens = NULL, cost_micros = NULL, exact = NULL`;

/** $4 the session's revision before, $5 who, $6 when. */
export const emptyMessages = statement<{ seq: bigint }>(
  "empty_messages",
  `UPDATE conversation_messages
      SET ${EMPTY}, version = version + 1, revision = $4::bigint + seq - $2::bigint,
          change = 'deleted', deleted_at = coalesce(deleted_at, $6), changed_by = $5,
          changed_at = $6
    WHERE conversation_id = $1 AND seq > $2 AND seq <= $3
    RETURNING seq`,
);

// Deleted as well, so that no snapshot brings them back.
export const emptyVersions = statement<{ seq: bigint }>(
  "empty_versions",
  `UPDATE message_versions
      SET ${EMPTY}, deleted_at = coalesce(deleted_at, $4)
    WHERE conversation_id = $1 AND seq > $2 AND seq <= $3
    RETURNING seq`,
);

// $2: the SHA-256 of what the fork began with.
export const clearInherited = statement<never>(
  "clear_inherited",
  `UPDATE conversations
      SET title = CASE WHEN sha256(convert_to(title, 'UTF8')) = ANY ($2::bytea[])
                  THEN '' ELSE title END,
          tags = CASE WHEN sha256(convert_to(tags::text, 'UTF8')) = ANY ($2)
                 THEN '{}' ELSE tags END,
          metadata = CASE WHEN sha256(convert_to(metadata::text, 'UTF8')) = ANY ($2)
                     THEN NULL ELSE metadata END
    WHERE id = $1`,
);

export const deleteInheritedState = statement<{ gone: boolean }>(
  "delete_inherited_state",
  `DELETE FROM session_states
    WHERE conversation_id = $1 AND sha256(convert_to(state, 'UTF8')) = ANY ($2::bytea[])
    RETURNING true AS gone`,
);

export const deleteInheritedSnapshots = statement<{ gone: boolean }>(
  "delete_inherited_snapshots",
  `DELETE FROM session_snapshots
    WHERE conversation_id = $1 AND sha256(convert_to(state, 'UTF8')) = ANY ($2::bytea[])
    RETURNING true AS gone`,
);

// Answers that show the session as it was. Those of appends hold no content.
export const forgetAnswersOfFork = statement<{ gone: boolean }>(
  "forget_answers_of_fork",
  `DELETE FROM conversation_requests
    WHERE conversation_id = $1 AND answer IS NOT NULL AND first_seq IS NULL
    RETURNING true AS gone`,
);

export const deleteShare = statement<never>(
  "delete_share",
  `DELETE FROM session_ancestors WHERE conversation_id = $1 AND ancestor_id = $2`,
);

// $3 is how an answer's bytes name the owner.
export const forgetTenantAnswers = statement<{ gone: boolean }>(
  "forget_tenant_answers_of_owner",
  `DELETE FROM tenant_requests
    WHERE tenant_id = $1 AND (owner_id = $2 OR position($3::bytea IN answer) > 0)
    RETURNING true AS gone`,
);

export const forgetAnswersThatName = statement<{ gone: boolean }>(
  "forget_answers_that_name_owner",
  `DELETE FROM conversation_requests
    WHERE tenant_id = $1 AND answer IS NOT NULL AND position($2::bytea IN answer) > 0
    RETURNING true AS gone`,
);
