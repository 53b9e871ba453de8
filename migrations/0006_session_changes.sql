-- The change log: what every transaction has changed of which sessions, for watchers, search and
-- whoever else follows the store. The decision record of the change log (docs/decisions) says how
-- it is read and why no change is ever passed over.

-- Written in the transaction of the change. Revisions order the changes of a session; transactions
-- are ordered by nothing, so a reader's position is the snapshot that it has seen.
CREATE TABLE session_changes (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  conversation_id bigint NOT NULL,
  tenant_id text NOT NULL,
  -- The revisions that the session got: 1..n when it was made, and one more when it was removed.
  first_revision bigint NOT NULL,
  last_revision bigint NOT NULL,
  -- The range in which all messages lie that were appended or changed; absent when none was.
  first_seq bigint,
  last_seq bigint,
  removed boolean NOT NULL,
  at timestamptz NOT NULL,
  -- What has changed the session before has a lower xid than this, though maybe a higher one than
  -- the row's own: numbers are given before sessions are locked.
  reached xid8 NOT NULL DEFAULT pg_snapshot_xmax(pg_current_snapshot()),
  PRIMARY KEY (xid, conversation_id, first_revision)
);

-- How far readers in the background have come. What they have not seen is kept for them.
CREATE TABLE change_readers (
  name text PRIMARY KEY,
  position pg_snapshot NOT NULL,
  updated_at timestamptz NOT NULL
);

-- One row: rows of session_changes with a lower xid may have been removed.
CREATE TABLE change_log (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  kept_from xid8 NOT NULL
);

INSERT INTO change_log (kept_from) VALUES (pg_current_xact_id());

-- What watchers find the changes of messages by. A message's first version is found by its seq, as
-- first revisions rise with the seqs, so appends have no part in these.
CREATE INDEX conversation_messages_changed ON conversation_messages (conversation_id, revision)
  WHERE version > 1;
CREATE INDEX message_versions_by_revision ON message_versions (conversation_id, revision);
