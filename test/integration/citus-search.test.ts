// Search on Citus, without Citus: a stand-in of its catalog has the server ask as it does there, and what
// it finds is held against what is there. citus-real.test.ts holds the same on a Citus.
import { afterAll, beforeAll, expect, test } from "vitest";
import { EmbeddingsServer } from "../harness/embeddings-server.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { holdLock, until } from "../harness/postgres-watch.js";
import { stopIndexer, untilIndexed } from "../harness/search.js";
import { assertSearchesAgree } from "../harness/searched-life.js";
import { startServer } from "../harness/server.js";
import { STAND_IN } from "../harness/stand-in-citus.js";
import { newMessage, Stubs } from "../harness/stubs.js";

let database: TestDatabase;
let endpoint: EmbeddingsServer;

beforeAll(async () => {
  database = await createDatabase();
  await withClient(database.url, (client) => client.query(STAND_IN));
  endpoint = await EmbeddingsServer.start();
});

afterAll(async () => {
  await endpoint.stop();
  await database.drop();
});

test("searches of all modes find what is there, indexed or not", async () => {
  await assertSearchesAgree(database.url, {
    endpoint,
    stopIndexer: () => stopIndexer(database.url),
  });
}, 120_000);

async function untilIndexerWaits(): Promise<void> {
  await until("the indexer waits for a lock", () =>
    withClient(database.url, async (client) => {
      const { rowCount } = await client.query(
        `SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'agentstore background'
            AND wait_event_type = 'Lock' AND query LIKE '%FROM unnest%'`,
      );
      return rowCount === 1;
    }),
  );
}

test("what the log tells before the session shows it is indexed once it is there", async () => {
  const server = await startServer({ databaseUrl: database.url });
  const stubs = new Stubs(server.address);
  const stopped = await stopIndexer(database.url);
  const { session } = await stubs.call("createSession", { modelId: "behind" });
  const conversationId = session!.id;
  await stubs.call("addMessage", { conversationId, message: newMessage({ content: "quagga" }) });
  // As a transaction of two nodes leaves it, of which one has not committed yet.
  const move = (by: number) =>
    withClient(database.url, (client) =>
      client.query("UPDATE conversations SET revision = revision + $2 WHERE id = $1", [
        conversationId,
        by,
      ]),
    );
  await move(-1);
  const lookAtSessions = async () => {
    const lock = await holdLock(database.url, "LOCK TABLE conversations");
    return { lock, looks: untilIndexerWaits() };
  };
  const first = await lookAtSessions();
  await stopped.release();
  await first.looks;
  await first.lock.release();
  // It looks again, so it has not gone on.
  const again = await lookAtSessions();
  await again.looks;
  await again.lock.release();
  await move(1);
  await untilIndexed(stubs);
  const request = { query: "quagga", modelId: "behind" };
  expect((await stubs.call("searchMessages", request)).results).toHaveLength(1);
  stubs.close();
  await server.stop();
});

test("what was indexed of a session while it was being removed does not stay", async () => {
  const server = await startServer({ databaseUrl: database.url });
  const id = 1_000_000_000_000n;
  const remaining = () =>
    withClient(database.url, async (client) => {
      const found = "SELECT FROM message_search WHERE conversation_id = $1";
      return (await client.query(found, [id])).rowCount;
    });
  await withClient(database.url, (client) =>
    client.query(
      `WITH late AS (
         INSERT INTO message_search (conversation_id, seq, id, revision, tenant_id, model_id, role,
                                     ts_ms, body, long, language, words, size)
         VALUES ($1, 1, $1, 1, 'default', 'm', 'user', 0, 'quagga', false, 'english', 'quagga', 1)
       )
       INSERT INTO session_changes
         (conversation_id, tenant_id, first_revision, last_revision, removed, at)
       VALUES ($1, 'default', 2, 2, true, now())`,
      [id],
    ),
  );
  await until("the entry is gone", async () => (await remaining()) === 0);
  await server.stop();
});
