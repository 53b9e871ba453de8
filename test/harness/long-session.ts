// A long session, loaded by SQL, as a hundred thousand appends would take a minute.
import { withClient } from "./postgres.js";

/**
 * Fills an empty database with one session, 1, whose counters are right. Each content ends with its
 * seq, behind as many x as there is room for.
 */
export async function fillLongSession(
  databaseUrl: string,
  { messages, characters }: { messages: number; characters: number },
): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    await client.query("INSERT INTO models (id) VALUES ('gpt-4')");
    await client.query(
      `INSERT INTO conversations (model_id, last_seq, revision, message_count, user_messages,
         total_characters, first_message_ms, last_message_ms, first_message)
       VALUES ('gpt-4', $1::int, 1 + $1::int, $1::int, $1::int, $1::bigint * $2::int,
         1, $1::int, left(lpad('1', $2::int, 'x'), 200))`,
      [messages, characters],
    );
    // Kept as it is: to compress it would take longer than all the rest.
    await client.query("ALTER TABLE conversation_messages ALTER content SET STORAGE PLAIN");
    await client.query(
      `INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
       SELECT 1, n, 1 + n, 'user', lpad(n::text, $2::int, 'x'), n
         FROM generate_series(1, $1::int) AS n`,
      [messages, characters],
    );
  });
}
