CREATE SEQUENCE audit_inbox_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY audit_inbox.id;

CREATE SEQUENCE conversation_messages_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY conversation_messages.id;

CREATE SEQUENCE conversations_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY conversations.id;

CREATE SEQUENCE session_snapshots_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY session_snapshots.id;

CREATE TABLE agentstore_migrations (
  version integer NOT NULL,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT agentstore_migrations_pkey PRIMARY KEY (version)
);

CREATE TABLE audit_events (
  tenant_id text NOT NULL,
  position bigint NOT NULL,
  at timestamp with time zone NOT NULL,
  principal text NOT NULL,
  peer text NOT NULL,
  rpc text NOT NULL,
  conversation_id bigint,
  seq bigint,
  fields text[] NOT NULL,
  request_id text NOT NULL,
  hash bytea NOT NULL,
  sealed_at timestamp with time zone NOT NULL,
  chain bytea NOT NULL,
  CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, "position")
);

CREATE INDEX audit_events_by_conversation ON public.audit_events USING btree (tenant_id, conversation_id, "position") WHERE (conversation_id IS NOT NULL);

CREATE INDEX audit_events_by_principal ON public.audit_events USING btree (tenant_id, principal, "position");

CREATE INDEX audit_events_by_request ON public.audit_events USING btree (tenant_id, request_id, "position") WHERE (request_id <> ''::text);

CREATE INDEX audit_events_by_rpc ON public.audit_events USING btree (tenant_id, rpc, "position");

CREATE INDEX audit_events_by_sealed_at ON public.audit_events USING btree (tenant_id, sealed_at, "position");

CREATE TABLE audit_heads (
  tenant_id text NOT NULL,
  position bigint NOT NULL,
  sealed_at timestamp with time zone NOT NULL,
  chain bytea NOT NULL,
  CONSTRAINT audit_heads_pkey PRIMARY KEY (tenant_id)
);

CREATE TABLE audit_inbox (
  tenant_id text NOT NULL,
  id bigint NOT NULL DEFAULT nextval('audit_inbox_id_seq'::regclass),
  at timestamp with time zone NOT NULL,
  principal text NOT NULL,
  peer text NOT NULL,
  rpc text NOT NULL,
  conversation_id bigint,
  seq bigint,
  fields text[] NOT NULL,
  request_id text NOT NULL,
  hash bytea NOT NULL,
  CONSTRAINT audit_inbox_pkey PRIMARY KEY (tenant_id, id)
);

CREATE TABLE change_log (
  one boolean NOT NULL DEFAULT true,
  kept_from xid8 NOT NULL,
  CONSTRAINT change_log_one_check CHECK (one),
  CONSTRAINT change_log_pkey PRIMARY KEY (one)
);

CREATE TABLE change_readers (
  name text NOT NULL,
  position pg_snapshot NOT NULL,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT change_readers_pkey PRIMARY KEY (name)
);

CREATE TABLE conversation_messages (
  id bigint NOT NULL DEFAULT nextval('conversation_messages_id_seq'::regclass),
  conversation_id bigint NOT NULL,
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
  version bigint NOT NULL DEFAULT 1,
  change text NOT NULL DEFAULT 'appended'::text,
  edited_at timestamp with time zone,
  deleted_at timestamp with time zone,
  changed_by text NOT NULL DEFAULT ''::text,
  changed_at timestamp with time zone,
  CONSTRAINT conversation_messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT conversation_messages_pkey PRIMARY KEY (conversation_id, seq),
  CONSTRAINT conversation_messages_role CHECK ((role = ANY (ARRAY['system'::text, 'user'::text, 'assistant'::text, 'tool'::text])))
);

CREATE INDEX conversation_messages_deleted ON public.conversation_messages USING btree (conversation_id, seq) WHERE (deleted_at IS NOT NULL);

CREATE TABLE conversation_requests (
  conversation_id bigint NOT NULL,
  request_id text NOT NULL,
  tenant_id text NOT NULL,
  fingerprint bytea NOT NULL,
  first_seq bigint,
  last_seq bigint,
  answer bytea,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT conversation_requests_pkey PRIMARY KEY (conversation_id, request_id)
);

CREATE INDEX conversation_requests_by_age ON public.conversation_requests USING btree (created_at);

CREATE INDEX conversation_requests_with_answer ON public.conversation_requests USING btree (tenant_id) WHERE (answer IS NOT NULL);

CREATE TABLE conversations (
  id bigint NOT NULL DEFAULT nextval('conversations_id_seq'::regclass),
  model_id text NOT NULL,
  tenant_id text NOT NULL DEFAULT 'default'::text,
  title text NOT NULL DEFAULT ''::text,
  owner_id text NOT NULL DEFAULT ''::text,
  tags text[] NOT NULL DEFAULT '{}'::text[],
  metadata jsonb,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  updated_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone,
  last_seq bigint NOT NULL DEFAULT 0,
  revision bigint NOT NULL DEFAULT 1,
  message_count bigint NOT NULL DEFAULT 0,
  user_messages bigint NOT NULL DEFAULT 0,
  assistant_messages bigint NOT NULL DEFAULT 0,
  system_messages bigint NOT NULL DEFAULT 0,
  tool_messages bigint NOT NULL DEFAULT 0,
  total_characters bigint NOT NULL DEFAULT 0,
  input_tokens bigint NOT NULL DEFAULT 0,
  output_tokens bigint NOT NULL DEFAULT 0,
  cached_tokens bigint NOT NULL DEFAULT 0,
  reasoning_tokens bigint NOT NULL DEFAULT 0,
  cost_micros bigint NOT NULL DEFAULT 0,
  first_message_ms bigint,
  last_message_ms bigint,
  first_message text,
  lease_token bigint NOT NULL DEFAULT 0,
  lease_holder text,
  lease_expires_at timestamp with time zone,
  parent_conversation_id bigint,
  parent_seq bigint,
  snapshot_every_messages bigint,
  snapshot_every_minutes bigint,
  snapshot_seq bigint NOT NULL DEFAULT 0,
  snapshot_at timestamp with time zone,
  CONSTRAINT conversations_model_id_fkey FOREIGN KEY (model_id) REFERENCES models(id),
  CONSTRAINT conversations_pkey PRIMARY KEY (id)
);

CREATE INDEX conversations_by_activity ON public.conversations USING btree (tenant_id, model_id, COALESCE(last_message_ms, '-9223372036854775808'::bigint) DESC, id DESC);

CREATE INDEX conversations_with_snapshot_policy ON public.conversations USING btree (id) WHERE (snapshot_every_messages IS NOT NULL);

CREATE TABLE message_versions (
  id bigint NOT NULL,
  conversation_id bigint NOT NULL,
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
  edited_at timestamp with time zone,
  deleted_at timestamp with time zone,
  changed_by text NOT NULL,
  changed_at timestamp with time zone,
  CONSTRAINT message_versions_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT message_versions_pkey PRIMARY KEY (conversation_id, seq, version)
);

CREATE TABLE model_policies (
  tenant_id text NOT NULL,
  model_id text NOT NULL,
  retention_ms bigint,
  every_messages bigint,
  every_minutes bigint,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT model_policies_pkey PRIMARY KEY (tenant_id, model_id)
);

CREATE TABLE models (
  id text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT models_pkey PRIMARY KEY (id)
);

CREATE TABLE session_ancestors (
  conversation_id bigint NOT NULL,
  ancestor_id bigint NOT NULL,
  tenant_id text NOT NULL,
  after_seq bigint NOT NULL,
  seq bigint NOT NULL,
  inherited bytea[] NOT NULL,
  owner_id text NOT NULL DEFAULT ''::text,
  CONSTRAINT session_ancestors_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_ancestors_pkey PRIMARY KEY (conversation_id, ancestor_id)
);

CREATE INDEX session_ancestors_by_ancestor ON public.session_ancestors USING btree (ancestor_id);

CREATE INDEX session_ancestors_by_owner ON public.session_ancestors USING btree (tenant_id, owner_id) WHERE (owner_id <> ''::text);

CREATE TABLE session_changes (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  conversation_id bigint NOT NULL,
  tenant_id text NOT NULL,
  first_revision bigint NOT NULL,
  last_revision bigint NOT NULL,
  first_seq bigint,
  last_seq bigint,
  removed boolean NOT NULL,
  at timestamp with time zone NOT NULL,
  CONSTRAINT session_changes_pkey PRIMARY KEY (xid, conversation_id, first_revision)
);

CREATE TABLE session_imports (
  tenant_id text NOT NULL,
  import_id text NOT NULL,
  source_id bigint NOT NULL,
  conversation_id bigint NOT NULL,
  digest bytea NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT session_imports_pkey PRIMARY KEY (tenant_id, import_id, source_id)
);

CREATE INDEX session_imports_by_conversation ON public.session_imports USING btree (conversation_id);

CREATE TABLE session_labels (
  conversation_id bigint NOT NULL,
  tenant_id text NOT NULL,
  owner_id text NOT NULL,
  metadata jsonb,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone,
  CONSTRAINT session_labels_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_labels_pkey PRIMARY KEY (conversation_id)
);

CREATE INDEX session_labels_by_creation ON public.session_labels USING btree (tenant_id, created_at);

CREATE INDEX session_labels_by_expiry ON public.session_labels USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX session_labels_by_metadata ON public.session_labels USING gin (metadata jsonb_path_ops);

CREATE INDEX session_labels_by_owner ON public.session_labels USING btree (tenant_id, owner_id) WHERE (owner_id <> ''::text);

CREATE TABLE session_snapshots (
  conversation_id bigint NOT NULL,
  id bigint NOT NULL DEFAULT nextval('session_snapshots_id_seq'::regclass),
  name text NOT NULL,
  by_policy boolean NOT NULL,
  revision bigint NOT NULL,
  last_seq bigint NOT NULL,
  message_count bigint NOT NULL,
  state text,
  created_by text NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT session_snapshots_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_snapshots_pkey PRIMARY KEY (conversation_id, id)
);

CREATE TABLE session_states (
  conversation_id bigint NOT NULL,
  state text NOT NULL,
  revision bigint NOT NULL,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT session_states_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_states_pkey PRIMARY KEY (conversation_id)
);

CREATE TABLE session_tags (
  conversation_id bigint NOT NULL,
  tag text NOT NULL,
  tenant_id text NOT NULL,
  CONSTRAINT session_tags_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT session_tags_pkey PRIMARY KEY (conversation_id, tag)
);

CREATE INDEX session_tags_by_tag ON public.session_tags USING btree (tenant_id, tag, conversation_id);

CREATE TABLE tenant_requests (
  tenant_id text NOT NULL,
  request_id text NOT NULL,
  fingerprint bytea NOT NULL,
  answer bytea NOT NULL,
  created_at timestamp with time zone NOT NULL,
  conversation_id bigint,
  owner_id text NOT NULL DEFAULT ''::text,
  CONSTRAINT tenant_requests_pkey PRIMARY KEY (tenant_id, request_id)
);

CREATE INDEX tenant_requests_by_age ON public.tenant_requests USING btree (created_at);

CREATE INDEX tenant_requests_by_session ON public.tenant_requests USING btree (conversation_id) WHERE (conversation_id IS NOT NULL);
