// The index of search: stopping it, and waiting for it.

import { withClient } from "./postgres.js";
import { type HeldLock, holdLock, until } from "./postgres-watch.js";
import type { Stubs } from "./stubs.js";

/** Stops all indexers of a database until the lock is released. */
export async function stopIndexer(databaseUrl: string): Promise<HeldLock> {
  return await holdLock(databaseUrl, "SELECT FROM change_readers WHERE name = 'search' FOR UPDATE");
}

/** Waits until all messages are indexed. */
export async function untilIndexed(stubs: Stubs): Promise<void> {
  await until("all messages are indexed", async () => {
    const { unindexedMessages } = await stubs.call("searchMessages", { query: "x", limit: 1 });
    return unindexedMessages === 0n;
  });
}

/** The messages that a plain scan finds, in the order of a search: [conversation_id, seq]. */
export async function scan(
  databaseUrl: string,
  { modelId, query }: { modelId: string; query: string },
): Promise<string[]> {
  const pattern = `%${query.replace(/[\\%_]/g, "\\$&")}%`;
  return await withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ conversation_id: string; seq: string }>(
      `SELECT m.conversation_id, m.seq
         FROM conversation_messages AS m JOIN conversations AS c ON c.id = m.conversation_id
        WHERE ($1 = '' OR c.model_id = $1) AND m.content ILIKE $2 AND m.deleted_at IS NULL
        ORDER BY m.ts_ms DESC NULLS LAST, m.id DESC`,
      [modelId, pattern],
    );
    return rows.map((row) => `${row.conversation_id}/${row.seq}`);
  });
}
