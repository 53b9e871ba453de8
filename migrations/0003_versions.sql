-- The life of a message after it was said: its versions, forks of its session, snapshots.
--
-- `conversation_messages` holds the current version of each message, `message_versions` those that
-- it had before. A snapshot is a revision: what was in force at revision R of a session is, for each
-- message, the highest version whose revision is at most R.

DO $$
DECLARE
  item record;
BEGIN
  FOR item IN
    SELECT c.oid::regclass AS tab, a.attname AS col, format_type(a.atttypid, a.atttypmod) AS type
      FROM (VALUES
        ('conversations', 'parent_conversation_id'),
        ('conversations', 'parent_seq'),
        ('conversations', 'snapshot_every_messages'),
        ('conversations', 'snapshot_every_minutes'),
        ('conversations', 'snapshot_seq'),
        ('conversations', 'snapshot_at'),
        ('conversation_messages', 'version'),
        ('conversation_messages', 'change'),
        ('conversation_messages', 'edited_at'),
        ('conversation_messages', 'deleted_at'),
        ('conversation_messages', 'changed_by'),
        ('conversation_messages', 'changed_at')
      ) AS own (tab, col)
      JOIN pg_class c ON c.oid = to_regclass(own.tab)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = own.col AND NOT a.attisdropped
  LOOP
    RAISE EXCEPTION 'the column %.% (%) cannot be adopted: it is in the place of AgentStore''s own column of that name',
      item.tab, item.col, item.type
      USING HINT = format('Rename it and migrate again: ALTER TABLE %s RENAME COLUMN %I TO %I;',
                          item.tab, item.col, 'old_' || item.col);
  END LOOP;
END $$;

ALTER TABLE conversations
  ADD COLUMN parent_conversation_id bigint,
  ADD COLUMN parent_seq bigint,
  ADD COLUMN snapshot_every_messages bigint,
  ADD COLUMN snapshot_every_minutes bigint,
  -- Where the last snapshot that counts for a policy was taken.
  ADD COLUMN snapshot_seq bigint NOT NULL DEFAULT 0,
  ADD COLUMN snapshot_at timestamptz;

-- Tells whether any session has a policy of its own.
CREATE INDEX conversations_with_snapshot_policy ON conversations (id)
  WHERE snapshot_every_messages IS NOT NULL;

-- Constants, so that no row is written anew.
ALTER TABLE conversation_messages
  ADD COLUMN version bigint NOT NULL DEFAULT 1,
  ADD COLUMN change text NOT NULL DEFAULT 'appended',
  ADD COLUMN edited_at timestamptz,
  ADD COLUMN deleted_at timestamptz,
  ADD COLUMN changed_by text NOT NULL DEFAULT '',
  ADD COLUMN changed_at timestamptz;

-- A session that has deleted messages is paged by counting these.
CREATE INDEX conversation_messages_deleted ON conversation_messages (conversation_id, seq)
  WHERE deleted_at IS NOT NULL;

-- The versions that a message had before its current one.
CREATE TABLE message_versions (
  id bigint NOT NULL,
  conversation_id bigint NOT NULL REFERENCES conversations (id),
  seq bigint NOT NULL,
  role text NOT NULL,
  content text NOT NULL,
  ts_ms bigint,
  name text,
  tool_calls json,
  tool_call_id text,
  payload text,
  payload_type text,
  metadata jsonb,
  input_tokens bigint,
  output_tokens bigint,
  cached_tokens bigint,
  reasoning_tokens bigint,
  cost_micros bigint,
  revision bigint NOT NULL,
  exact bytea,
  version bigint NOT NULL,
  change text NOT NULL,
  edited_at timestamptz,
  deleted_at timestamptz,
  changed_by text NOT NULL,
  changed_at timestamptz,
  PRIMARY KEY (conversation_id, seq, version)
);

CREATE TABLE session_snapshots (
  conversation_id bigint NOT NULL REFERENCES conversations (id),
  id bigserial NOT NULL,
  name text NOT NULL,
  by_policy boolean NOT NULL,
  revision bigint NOT NULL,
  last_seq bigint NOT NULL,
  message_count bigint NOT NULL,
  -- The session's state as JSON text; absent when it had none.
  state text,
  created_by text NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (conversation_id, id)
);
