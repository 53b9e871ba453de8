-- State, what lists filter by, policies, and where forks have their messages from.

-- The JSON document that an agent keeps with a session, as text, so that it comes back byte for
-- byte. `revision` is the session's at which it was written.
CREATE TABLE session_states (
  conversation_id bigint PRIMARY KEY REFERENCES conversations (id),
  state text NOT NULL,
  revision bigint NOT NULL,
  updated_at timestamptz NOT NULL
);

-- What sessions are found by. Each append writes the row in `conversations` anew, and with it an
-- entry of each of that table's indexes; these rows change only when the session itself does.
-- `metadata` is {tenant: the session's metadata}, which makes the index one of each tenant by itself.
CREATE TABLE session_labels (
  conversation_id bigint PRIMARY KEY REFERENCES conversations (id),
  tenant_id text NOT NULL,
  owner_id text NOT NULL,
  metadata jsonb,
  created_at timestamptz NOT NULL,
  expires_at timestamptz
);

-- The planner judges by these how rare a value is.
ALTER TABLE session_labels
  ALTER COLUMN owner_id SET STATISTICS 1000,
  ALTER COLUMN metadata SET STATISTICS 1000;

INSERT INTO session_labels (conversation_id, tenant_id, owner_id, metadata, created_at, expires_at)
SELECT id, tenant_id,
       -- Of an adopted table: an entry of the index has to fit on a page.
       CASE WHEN char_length(owner_id) <= 256 THEN owner_id ELSE '' END,
       CASE WHEN metadata IS NOT NULL THEN jsonb_build_object(tenant_id, metadata) END,
       created_at, expires_at
  FROM conversations;

CREATE INDEX session_labels_by_owner
  ON session_labels (tenant_id, owner_id) WHERE owner_id <> '';
CREATE INDEX session_labels_by_creation ON session_labels (tenant_id, created_at);
CREATE INDEX session_labels_by_expiry ON session_labels (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX session_labels_by_metadata ON session_labels USING gin (metadata jsonb_path_ops);

CREATE TABLE session_tags (
  conversation_id bigint NOT NULL REFERENCES conversations (id),
  tag text COLLATE "C" NOT NULL,
  tenant_id text NOT NULL,
  PRIMARY KEY (conversation_id, tag)
);

ALTER TABLE session_tags ALTER COLUMN tag SET STATISTICS 1000;

INSERT INTO session_tags (conversation_id, tag, tenant_id)
SELECT DISTINCT id, tag, tenant_id
  FROM conversations CROSS JOIN unnest(tags) AS tag
 WHERE char_length(tag) BETWEEN 1 AND 128;

CREATE INDEX session_tags_by_tag ON session_tags (tenant_id, tag, conversation_id);

-- Where the messages of a fork come from, directly or through other forks: those behind `after_seq`
-- up to `seq` were the ancestor's own. `inherited` has the SHA-256 of what else the fork began with
-- (title, tags, metadata, state), to tell what it still has of it. `owner_id` is filled in when the
-- ancestor is deleted: until then its own row knows.
CREATE TABLE session_ancestors (
  conversation_id bigint NOT NULL REFERENCES conversations (id),
  ancestor_id bigint NOT NULL,
  tenant_id text NOT NULL,
  after_seq bigint NOT NULL,
  seq bigint NOT NULL,
  inherited bytea[] NOT NULL,
  owner_id text NOT NULL DEFAULT '',
  PRIMARY KEY (conversation_id, ancestor_id)
);

CREATE INDEX session_ancestors_by_ancestor ON session_ancestors (ancestor_id);
CREATE INDEX session_ancestors_by_owner
  ON session_ancestors (tenant_id, owner_id) WHERE owner_id <> '';

-- What an operator has set for the sessions of a model.
CREATE TABLE model_policies (
  tenant_id text NOT NULL,
  model_id text NOT NULL,
  retention_ms bigint,
  every_messages bigint,
  every_minutes bigint,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, model_id)
);

-- Answers are forgotten when they are old.
CREATE INDEX conversation_requests_by_age ON conversation_requests (created_at);
CREATE INDEX tenant_requests_by_age ON tenant_requests (created_at);

-- Answers that hold a part of a session, so that they can be erased with it: which session it was,
-- and, once that is deleted, whose.
ALTER TABLE tenant_requests
  ADD COLUMN conversation_id bigint,
  ADD COLUMN owner_id text NOT NULL DEFAULT '';
CREATE INDEX tenant_requests_by_session ON tenant_requests (conversation_id)
  WHERE conversation_id IS NOT NULL;
CREATE INDEX conversation_requests_with_answer ON conversation_requests (tenant_id)
  WHERE answer IS NOT NULL;
