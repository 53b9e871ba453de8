-- What messages mean, as vectors, and the queue of messages whose vectors are to be made. The decision
-- record of embeddings (docs/decisions) says why it is so.

-- A message has a vector of each model that embedded it as it is now: what changes its content removes
-- its vectors in the same transaction. No reference to the session, whose row appends lock: storing a
-- vector must not hold them up.
CREATE TABLE message_embeddings (
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  model text NOT NULL,
  tenant_id text NOT NULL,
  dimensions integer NOT NULL,
  -- Of length 1. An array can be had without pgvector, and pgvector can index it.
  embedding real[] NOT NULL,
  -- The same in one byte for each number, signed, in units of scale: what a search without an index
  -- reads of all vectors, before it looks at the best of them closely.
  code bytea NOT NULL,
  scale real NOT NULL,
  PRIMARY KEY (conversation_id, seq, model)
);

-- Not compressed: that costs time and saves next to nothing. The codes stay in the row.
ALTER TABLE message_embeddings
  ALTER COLUMN embedding SET STORAGE EXTERNAL,
  ALTER COLUMN code SET STORAGE PLAIN;

-- The vectors that can be compared with each other.
CREATE INDEX message_embeddings_space ON message_embeddings (tenant_id, model, dimensions);

-- Messages that wait for their vector, and those that the endpoint would not embed.
CREATE TABLE embedding_queue (
  conversation_id bigint NOT NULL,
  seq bigint NOT NULL,
  tenant_id text NOT NULL,
  queued_at timestamptz NOT NULL,
  -- When it is to be taken up: later than now while a worker has it, and after a failure.
  due_at timestamptz NOT NULL,
  failures integer NOT NULL DEFAULT 0,
  -- Why it failed the last time; nothing of the message.
  error text,
  -- Since when it is not tried any more, until someone asks for it or the message changes.
  failed_at timestamptz,
  PRIMARY KEY (conversation_id, seq)
);

CREATE INDEX embedding_queue_due ON embedding_queue (due_at) WHERE failed_at IS NULL;
CREATE INDEX embedding_queue_waiting ON embedding_queue (tenant_id, queued_at) WHERE failed_at IS NULL;
CREATE INDEX embedding_queue_failed ON embedding_queue (tenant_id, conversation_id, seq)
  WHERE failed_at IS NOT NULL;

-- The models that the servers embed with, and how far each has come with the messages that were there
-- before it.
CREATE TABLE embedding_models (
  model text PRIMARY KEY,
  -- How many numbers its vectors have; absent until the first one has come.
  dimensions integer,
  after_conversation_id bigint NOT NULL DEFAULT 0,
  after_seq bigint NOT NULL DEFAULT 0,
  complete boolean NOT NULL DEFAULT false,
  -- Why the endpoint does not answer; absent while it does.
  error text
);
