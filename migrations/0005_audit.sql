-- The audit log: who changed what, in a chain of hashes for each tenant; and what was imported.
-- The decision record of the audit chain (docs/decisions) says how it works and why.

-- Where a change leaves its event, in its own transaction. Writers only insert here and never wait
-- for each other; the sealer moves what is committed on to audit_events.
CREATE TABLE audit_inbox (
  tenant_id text NOT NULL,
  id bigserial NOT NULL,
  at timestamptz NOT NULL,
  principal text NOT NULL,
  peer text NOT NULL,
  rpc text NOT NULL,
  conversation_id bigint,
  seq bigint,
  fields text[] NOT NULL,
  request_id text NOT NULL,
  -- SHA-256 of the columns above but id.
  hash bytea NOT NULL,
  PRIMARY KEY (tenant_id, id)
);

-- The log itself. Rows are inserted and never changed, so a role may be granted no more than that.
CREATE TABLE audit_events (
  tenant_id text NOT NULL,
  -- 1, 2, 3 … in each tenant, without gaps.
  position bigint NOT NULL,
  at timestamptz NOT NULL,
  principal text NOT NULL,
  peer text NOT NULL,
  rpc text NOT NULL,
  conversation_id bigint,
  seq bigint,
  fields text[] NOT NULL,
  request_id text NOT NULL,
  hash bytea NOT NULL,
  sealed_at timestamptz NOT NULL,
  -- SHA-256 of the chain of the position before, position, sealed_at and hash.
  chain bytea NOT NULL,
  PRIMARY KEY (tenant_id, position)
);

CREATE INDEX audit_events_by_conversation ON audit_events (tenant_id, conversation_id, position)
  WHERE conversation_id IS NOT NULL;
CREATE INDEX audit_events_by_principal ON audit_events (tenant_id, principal, position);
CREATE INDEX audit_events_by_rpc ON audit_events (tenant_id, rpc, position);
CREATE INDEX audit_events_by_request ON audit_events (tenant_id, request_id, position)
  WHERE request_id <> '';
CREATE INDEX audit_events_by_sealed_at ON audit_events (tenant_id, sealed_at, position);

-- Where each tenant's chain ends. The row's lock is the sealer's turn.
CREATE TABLE audit_heads (
  tenant_id text PRIMARY KEY,
  position bigint NOT NULL,
  sealed_at timestamptz NOT NULL,
  chain bytea NOT NULL
);

-- The sessions that imports have made, so that an import that is sent again makes none of them twice.
CREATE TABLE session_imports (
  tenant_id text NOT NULL,
  import_id text NOT NULL,
  -- The session's id where it was exported.
  source_id bigint NOT NULL,
  conversation_id bigint NOT NULL,
  -- SHA-256 of the session's lines.
  digest bytea NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, import_id, source_id)
);

CREATE INDEX session_imports_by_conversation ON session_imports (conversation_id);
