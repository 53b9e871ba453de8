CREATE SEQUENCE conversation_messages_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY conversation_messages.id;

CREATE SEQUENCE conversations_id_seq AS bigint START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 OWNED BY conversations.id;

CREATE TABLE agentstore_migrations (
  version integer NOT NULL,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT agentstore_migrations_pkey PRIMARY KEY (version)
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
  CONSTRAINT conversation_messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES conversations(id),
  CONSTRAINT conversation_messages_pkey PRIMARY KEY (conversation_id, seq),
  CONSTRAINT conversation_messages_role CHECK ((role = ANY (ARRAY['system'::text, 'user'::text, 'assistant'::text, 'tool'::text])))
);

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
  CONSTRAINT conversations_model_id_fkey FOREIGN KEY (model_id) REFERENCES models(id),
  CONSTRAINT conversations_pkey PRIMARY KEY (id)
);

CREATE INDEX conversations_by_activity ON public.conversations USING btree (tenant_id, model_id, COALESCE(last_message_ms, '-9223372036854775808'::bigint) DESC, id DESC);

CREATE TABLE models (
  id text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT models_pkey PRIMARY KEY (id)
);

CREATE TABLE tenant_requests (
  tenant_id text NOT NULL,
  request_id text NOT NULL,
  fingerprint bytea NOT NULL,
  answer bytea NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT tenant_requests_pkey PRIMARY KEY (tenant_id, request_id)
);
