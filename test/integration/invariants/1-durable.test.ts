// An acknowledged write is in Postgres, on disk. What crashes do to it, test/chaos shows.
import { expect, test } from "vitest";
import { withClient } from "../../harness/postgres.js";
import { holdLock, makeCommitsWait, untilBlocked } from "../../harness/postgres-watch.js";
import { startServerPair } from "../../harness/server-pair.js";
import { newMessage } from "../../harness/stubs.js";

test("commits wait for the disk, even where the database's default is not to", async () => {
  const pair = await startServerPair();
  try {
    await withClient(pair.databaseUrl, async (client) => {
      // The tests' own cluster has it off, for speed.
      const { rows } = await client.query("SHOW synchronous_commit");
      expect(rows).toEqual([{ synchronous_commit: "off" }]);
      await client.query(`
        CREATE TABLE commits (setting text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN
            INSERT INTO commits VALUES (current_setting('synchronous_commit'));
            RETURN NULL;
          END $$;
        CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON conversations
          FOR EACH ROW EXECUTE FUNCTION note();`);
    });
    const ids = await Promise.all(Array.from({ length: 20 }, () => pair.createSession(1)));
    await pair.two.call("deleteSession", { conversationId: ids[0]! });
    await withClient(pair.databaseUrl, async (client) => {
      const { rows } = await client.query("SELECT setting, count(*)::int FROM commits GROUP BY 1");
      expect(rows).toEqual([{ setting: "on", count: 41 }]);
    });
  } finally {
    await pair.stop();
  }
});

test("no write is acknowledged before its commit has come through", async () => {
  const pair = await startServerPair();
  try {
    const conversationId = await pair.createSession(1);
    const { session } = await pair.one.call("getSession", { conversationId });
    // Commits wait for this lock, as they would for a slow disk.
    await makeCommitsWait(pair.databaseUrl);
    const lock = await holdLock(pair.databaseUrl, "SELECT pg_advisory_xact_lock(42)");
    const acknowledged: string[] = [];
    const writes = [
      pair.one.call("createSession", { modelId: "gpt-4" }).then(() => "create"),
      pair.one
        .call("addMessage", { conversationId, message: newMessage(), requestId: "r" })
        .then(() => "append"),
      pair.one.call("updateSession", { session, updateMask: ["title"] }).then(() => "update"),
    ].map((write) => write.then((name) => acknowledged.push(name)));
    // The update waits for the append, whose commit is not through.
    await untilBlocked(pair.databaseUrl, 3);
    for (let n = 0; n < 20; n++) await pair.one.call("getSession", { conversationId });
    expect(acknowledged).toEqual([]);
    expect((await pair.two.call("getSession", { conversationId })).session).toEqual(session);
    await lock.release();
    await Promise.all(writes);
    expect(acknowledged.sort()).toEqual(["append", "create", "update"]);
  } finally {
    await pair.stop();
  }
});

test("what was acknowledged is there for everybody, at once", async () => {
  const pair = await startServerPair();
  try {
    const conversationId = await pair.createSession();
    await withClient(pair.databaseUrl, async (client) => {
      for (let seq = 1n; seq <= 50n; seq++) {
        const message = newMessage({ content: `${seq}` });
        await pair.one.call("addMessage", { conversationId, message });
        const read = await pair.two.call("getMessage", { conversationId, seq });
        const { rows } = await client.query(
          "SELECT content FROM conversation_messages WHERE conversation_id = $1 AND seq = $2",
          [conversationId, seq],
        );
        expect([read.message?.content, rows]).toEqual([`${seq}`, [{ content: `${seq}` }]]);
      }
    });
  } finally {
    await pair.stop();
  }
});
