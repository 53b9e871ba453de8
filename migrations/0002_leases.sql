-- Leases: who runs a session, by which fencing token, and until when. They live on the session's
-- row, which every append locks and reads anyway.

DO $$
DECLARE
  col text;
BEGIN
  FOR col IN
    SELECT attname FROM pg_attribute
     WHERE attrelid = 'conversations'::regclass AND NOT attisdropped
       AND attname IN ('lease_token', 'lease_holder', 'lease_expires_at')
  LOOP
    RAISE EXCEPTION 'the column conversations.% is in the place of AgentStore''s own column of that name', col
      USING HINT = format('Rename it and migrate again: ALTER TABLE conversations RENAME COLUMN %I TO %I;',
                          col, 'old_' || col);
  END LOOP;
END $$;

ALTER TABLE conversations
  -- The last token given out; it stays when the lease is released, and is never given again.
  ADD COLUMN lease_token bigint NOT NULL DEFAULT 0,
  -- NULL: nobody holds the lease.
  ADD COLUMN lease_holder text,
  ADD COLUMN lease_expires_at timestamptz;
