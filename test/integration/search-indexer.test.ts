// The indexer of search: it indexes what was there before it, survives kill -9, works with others, and
// leaves nothing of what is removed.
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SearchMode } from "../../gen/agentstore/v1/search.js";
import { limits } from "../../server/config.js";
import { Database } from "../../server/db/database.js";
import { makeLogger } from "../../server/log.js";
import { SearchIndexer } from "../../server/search/indexer.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { findInDump } from "../harness/remains.js";
import { stopIndexer, untilIndexed } from "../harness/search.js";
import {
  type SpawnedServer,
  spawnServer,
  startServer,
  type TestServer,
} from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

let database: TestDatabase;
const opened: { stop(): Promise<unknown> }[] = [];

beforeEach(async () => {
  database = await createDatabase();
});

afterEach(async () => {
  for (const one of opened.splice(0).toReversed()) await one.stop();
  await database.drop();
});

async function start(): Promise<{ server: TestServer; stubs: Stubs }> {
  const server = await startServer({ databaseUrl: database.url });
  opened.push(server);
  return { server, stubs: connect(server.address) };
}

function connect(address: string): Stubs {
  const stubs = new Stubs(address);
  opened.push({ stop: async () => stubs.close() });
  return stubs;
}

async function count(sql: string): Promise<number> {
  return await withClient(database.url, async (client) => {
    const { rows } = await client.query<{ n: string }>(`SELECT count(*) AS n FROM ${sql}`);
    return Number(rows[0]?.n);
  });
}

/** Messages that the index lacks or has otherwise than they are, and entries of none. */
async function assertIndexIsWhole(): Promise<void> {
  expect(
    await count(`conversation_messages AS m
      FULL JOIN message_search AS s USING (conversation_id, seq)
      WHERE (m.deleted_at IS NULL AND m.content <> '' AND m.revision IS DISTINCT FROM s.revision)
         OR (s.seq IS NOT NULL AND (m.seq IS NULL OR m.deleted_at IS NOT NULL))
         OR lower(m.content) <> s.body`),
  ).toBe(0);
}

async function add(stubs: Stubs, messages: number, modelId = "m"): Promise<bigint> {
  const { session } = await stubs.call("createSession", { modelId });
  for (let from = 0; from < messages; from += 1_000) {
    await stubs.call("addMessages", {
      conversationId: session!.id,
      messages: Array.from({ length: Math.min(1_000, messages - from) }, (_, n) =>
        newMessage({ content: `needle ${from + n}` }),
      ),
    });
  }
  return session!.id;
}

const substring = async (stubs: Stubs, query: string) =>
  (await stubs.call("searchMessages", { query, limit: 1_000 })).results.length;

test("what was there before the index is found while it is being indexed, and afterwards", async () => {
  const { stubs } = await start();
  await add(stubs, 700);
  await untilIndexed(stubs);
  // As a database looks that has just been migrated.
  await withClient(database.url, async (client) => {
    await client.query(
      `BEGIN; SELECT FROM change_readers FOR UPDATE; DELETE FROM message_search;
       UPDATE search_backfill SET conversation_id = (SELECT max(id) + 1 FROM conversations); COMMIT`,
    );
  });
  expect(await substring(stubs, "needle")).toBe(700);
  expect(await substring(stubs, "needle 699")).toBe(1);
  await untilIndexed(stubs);
  await assertIndexIsWhole();
  expect(await substring(stubs, "needle")).toBe(700);
});

test("an append is found at once by any mode, with the indexer stopped", async () => {
  const { stubs } = await start();
  const lock = await stopIndexer(database.url);
  await add(stubs, 3);
  for (const mode of [SearchMode.SUBSTRING, SearchMode.FULL_TEXT]) {
    const answer = await stubs.call("searchMessages", { query: "needle", mode });
    expect(answer.results).toHaveLength(3);
    expect(answer.unindexedMessages).toBe(3n);
  }
  expect(await count("message_search")).toBe(0);
  await lock.release();
  await untilIndexed(stubs);
  expect(await count("message_search")).toBe(3);
});

test("kill -9 in the middle loses nothing, and another server goes on", async () => {
  let victim: SpawnedServer | undefined = await spawnServer(["--database-url", database.url]);
  opened.push({ stop: async () => victim?.end("SIGKILL") });
  const stubs = connect(victim.address);
  await add(stubs, 3_000);
  await until("some are indexed", async () => (await count("message_search")) > 0);
  await victim.end("SIGKILL");
  victim = undefined;
  const indexed = await count("message_search");
  expect(indexed).toBeLessThan(3_000);
  const { stubs: heir } = await start();
  expect(await substring(heir, "needle 2999")).toBe(1);
  await untilIndexed(heir);
  await assertIndexIsWhole();
  expect(await count("message_search")).toBe(3_000);
});

test("two servers index what both of them are given, each message once", async () => {
  const [one, two] = [await start(), await start()];
  await Promise.all([add(one.stubs, 500), add(two.stubs, 500), add(one.stubs, 500)]);
  expect(await substring(two.stubs, "needle 499")).toBe(3);
  await untilIndexed(two.stubs);
  await assertIndexIsWhole();
});

test("edits, deletions, roll-backs and forks are followed", async () => {
  const { stubs } = await start();
  const conversationId = await add(stubs, 20);
  const { snapshot } = await stubs.call("createSnapshot", { conversationId, name: "s" });
  await untilIndexed(stubs);
  const message = { conversationId, seq: 3n, content: "other" } as never;
  await stubs.call("updateMessage", { message, updateMask: ["content"] });
  await stubs.call("deleteMessage", { conversationId, seq: 4n });
  // In the same transaction.
  expect(await count("message_search WHERE seq = 4")).toBe(0);
  expect(await substring(stubs, "needle")).toBe(18);
  await untilIndexed(stubs);
  await assertIndexIsWhole();
  await stubs.call("restoreSnapshot", { conversationId, snapshotId: snapshot!.id, mode: 2 });
  expect(await substring(stubs, "needle")).toBe(20);
  await stubs.call("forkSession", { conversationId });
  expect(await substring(stubs, "needle")).toBe(40);
  await untilIndexed(stubs);
  await assertIndexIsWhole();
  expect(await substring(stubs, "needle")).toBe(40);
});

test("nothing is left of a session that is deleted while it is being indexed", async () => {
  const { stubs } = await start();
  const secret = randomUUID();
  for (let round = 0; round < 5; round++) {
    const { session } = await stubs.call("createSession", { modelId: "m" });
    const conversationId = session!.id;
    const messages = Array.from({ length: 300 }, () => newMessage({ content: secret }));
    await stubs.call("addMessages", { conversationId, messages });
    if (round > 0)
      await until("it is being indexed", async () => (await count("message_search")) > 0);
    await stubs.call("deleteSession", { conversationId });
    expect(await withClient(database.url, (client) => findInDump(client, secret))).toEqual([]);
  }
  await untilIndexed(stubs);
  expect(await count("message_search")).toBe(0);
});

test("messages that are too long for the indexes are found all the same", async () => {
  const { stubs } = await start();
  const { session } = await stubs.call("createSession", { modelId: "m" });
  // More different characters side by side than a tsvector holds.
  const long = Array.from({ length: 400_000 }, (_, n) =>
    String.fromCodePoint(0x4e00 + ((n * 7_919) % 20_000)),
  ).join("");
  await stubs.call("addMessages", {
    conversationId: session!.id,
    messages: [newMessage({ content: `${long} Ende` }), newMessage({ content: "x".repeat(3e6) })],
  });
  await untilIndexed(stubs);
  expect(await substring(stubs, "ENDE")).toBe(1);
  expect(await substring(stubs, "x".repeat(10_000))).toBe(1);
  await assertIndexIsWhole();
});

test("the indexes can be built where no schema is in sight, as when a dump is restored", async () => {
  const { stubs } = await start();
  await add(stubs, 5);
  await untilIndexed(stubs);
  await withClient(database.url, (client) =>
    client.query(`SET search_path = ''; REINDEX TABLE public.message_search`),
  );
});

test("the indexer lets changes gather when it has caught up, and not before", async () => {
  const db = new Database(database.url, { poolSize: 1 });
  opened.push({ stop: () => db.close() });
  const indexer = new SearchIndexer(db, makeLogger("silent"));
  const { signal } = new AbortController();
  const change = (count: number) =>
    withClient(database.url, (client) =>
      client.query(
        `INSERT INTO session_changes
           (conversation_id, tenant_id, first_revision, last_revision, removed, at)
         SELECT 1, 'default', n, n, false, now() FROM generate_series(1, $1) AS n`,
        [count],
      ),
    );
  expect(await indexer.turn(signal)).toBe(limits.indexIdleMs);
  await change(1);
  expect(await indexer.turn(signal)).toBe(limits.indexRestMs);
  await change(limits.indexChanges);
  expect(await indexer.turn(signal)).toBe(0);
  expect(await indexer.turn(signal)).toBe(limits.indexIdleMs);
});
