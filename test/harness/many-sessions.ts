// Fills a database with very many sessions, straight into its tables, so that lists have to choose.
import type pg from "pg";

/** One filter value for each kind: what many sessions have, and what few have. */
export const MANY = {
  model: "big",
  commonTag: "common",
  otherCommonTag: "half",
  rareTag: "rare",
  absentTag: "absent",
  commonOwner: "everybody",
  rareOwner: "owner-7",
  commonMetadata: { env: "prod" },
  rareMetadata: { customer: { id: 77 } },
  /** When the first session was created; one more every minute. */
  start: new Date("2025-01-01T00:00:00Z"),
} as const;

/**
 * Adds so many sessions with labels and tags, without messages but with an activity: a tenth of them
 * to another tenant, two thirds to the model `big`.
 */
export async function addManySessions(client: pg.Client, count: number): Promise<void> {
  await client.query("BEGIN");
  await client.query(
    `INSERT INTO models (id) SELECT unnest(ARRAY['big', 'small-1', 'small-2', 'small-3'])
     ON CONFLICT DO NOTHING`,
  );
  await client.query(
    `INSERT INTO conversations (model_id, tenant_id, title, owner_id, tags, metadata, created_at,
       updated_at, expires_at, last_seq, revision, message_count, user_messages, total_characters,
       first_message_ms, last_message_ms, first_message)
     SELECT CASE WHEN i % 3 < 2 THEN 'big' ELSE 'small-' || (1 + i / 3 % 3) END,
            CASE WHEN i % 10 = 9 THEN 'other' ELSE 'default' END,
            'session ' || i,
            CASE WHEN i % 5 = 1 THEN 'everybody' WHEN i % 5 = 2 THEN '' ELSE 'owner-' || i % 4999 END,
            array_remove(ARRAY[
              CASE WHEN i % 2 = 0 THEN 'common' END,
              CASE WHEN i / 2 % 2 = 0 THEN 'half' END,
              CASE WHEN i % 2003 = 0 THEN 'rare' END,
              'tag-' || i % 997], NULL),
            jsonb_build_object('env', CASE WHEN i % 4 < 3 THEN 'prod' ELSE 'test' END,
              'customer', jsonb_build_object('id', i % 4001, 'plan', 'p' || i % 3)),
            at, at + interval '1 hour',
            CASE WHEN i % 500 = 3 THEN at + interval '2 hours' WHEN i % 7 = 0 THEN '2999-01-01' END,
            1, 2, 1, 1, 7,
            ms, CASE WHEN i % 50 <> 11 THEN ms END, 'message'
       FROM generate_series(1, $1) AS i
      CROSS JOIN LATERAL (SELECT $2::timestamptz + i * interval '1 minute' AS at) AS made
      -- The order of activity is not that of creation.
      CROSS JOIN LATERAL (
        SELECT (extract(epoch FROM at) * 1000)::bigint + (i::bigint * 7919 % 1000003) * 60 AS ms
      ) AS talked`,
    [count, MANY.start],
  );
  await client.query(
    `INSERT INTO session_labels (conversation_id, tenant_id, owner_id, metadata, created_at, expires_at)
     SELECT id, tenant_id, owner_id, jsonb_build_object(tenant_id, metadata), created_at, expires_at
       FROM conversations`,
  );
  await client.query(
    `INSERT INTO session_tags (conversation_id, tag, tenant_id)
     SELECT id, unnest(tags), tenant_id FROM conversations`,
  );
  await client.query("COMMIT");
  await client.query("VACUUM ANALYZE");
}
