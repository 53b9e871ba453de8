// Groups of appends and watches on Citus, without Citus: a stand-in of its catalog says that the sessions
// are distributed, and Postgres which hash it uses. citus-real.test.ts runs on a Citus.
import { afterEach, beforeEach, expect, test } from "vitest";
import { hashInt8, ShardMap } from "../../server/db/shards.js";
import { assertCountersAgree } from "../harness/counters.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { holdSession } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { STAND_IN } from "../harness/stand-in-citus.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { assertTold, SessionsWatcher, SessionWatcher } from "../harness/watching.js";

const SESSIONS = 24;

let database: TestDatabase;
let server: TestServer | undefined;
let stubs: Stubs | undefined;

beforeEach(async () => {
  database = await createDatabase();
});

afterEach(async () => {
  stubs?.close();
  await server?.stop();
  await database.drop();
});

// Sessions by the transaction that wrote to them, with the node that Postgres' own hash gives.
const GROUPS = `
  SELECT m.xmin::text AS transaction, count(DISTINCT conversation_id)::int AS sessions,
         count(DISTINCT groupid)::int AS nodes
    FROM conversation_messages AS m
    JOIN pg_dist_shard
      ON hashint8(conversation_id) BETWEEN shardminvalue::int AND shardmaxvalue::int
    JOIN pg_dist_placement USING (shardid)
   GROUP BY 1`;

async function appendEverywhere(): Promise<bigint[]> {
  server = await startServer({ databaseUrl: database.url });
  stubs = new Stubs(server.address);
  const created = Array.from({ length: SESSIONS }, () =>
    stubs!.call("createSession", { modelId: "m" }),
  );
  const ids = (await Promise.all(created)).map(({ session }) => session!.id);
  const appends = Array.from({ length: 10 * SESSIONS }, (_, n) =>
    stubs!.call("addMessage", {
      conversationId: ids[n % SESSIONS]!,
      message: newMessage({ content: `${n}` }),
      requestId: `${n}`,
    }),
  );
  await Promise.all(appends);
  return ids;
}

interface Group {
  sessions: number;
  nodes: number;
}

async function groups(): Promise<Group[]> {
  return await withClient(database.url, async (client) => (await client.query<Group>(GROUPS)).rows);
}

test("the hash is that of Postgres", async () => {
  await withClient(database.url, async (client) => {
    const { rows } = await client.query<{ id: string; hash: number }>(
      `SELECT id::text, hashint8(id) AS hash
         FROM (SELECT generate_series(-100, 5000)::bigint AS id
               UNION SELECT (random() * 9e18)::bigint * (CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END)
                 FROM generate_series(1, 5000) AS n
               UNION VALUES (9223372036854775807), (-9223372036854775808), (4294967296),
                 (4294967295), (2147483648), (-2147483649)) AS ids`,
    );
    expect(rows.length).toBeGreaterThan(10_000);
    const wrong = rows.filter(({ id, hash }) => hashInt8(BigInt(id)) !== hash);
    expect(wrong).toEqual([]);
  });
});

test("a node is found by the bounds of its range, both included", () => {
  const ids = [1n, 2n, 3n];
  const [low, middle, high] = ids.map(hashInt8).toSorted((a, b) => a - b) as [
    number,
    number,
    number,
  ];
  const map = new ShardMap([
    { node: 1, from: low, to: middle - 1 },
    { node: 2, from: middle, to: high - 1 },
  ]);
  const found = new Map(ids.map((id) => [hashInt8(id), map.nodeOf(id)]));
  expect([found.get(low), found.get(middle), found.get(high)]).toEqual([1, 2, undefined]);
});

test("a group of appends is of one node, and of several sessions", async () => {
  await withClient(database.url, (client) => client.query(STAND_IN));
  await appendEverywhere();
  const found = await groups();
  expect(found.filter(({ nodes }) => nodes > 1)).toEqual([]);
  expect(found.some(({ sessions }) => sessions > 1)).toBe(true);
  expect(await assertCountersAgree(database.url)).toBe(SESSIONS);
});

test("a session that is held holds up no other of its node", async () => {
  await withClient(database.url, (client) => client.query(STAND_IN));
  const ids = await appendEverywhere();
  const lock = await holdSession(database.url, ids[0]!);
  const append = (conversationId: bigint) =>
    stubs!.call("addMessage", { conversationId, message: newMessage() });
  const [held, ...others] = ids.map(append);
  await Promise.all(others);
  await lock.release();
  expect((await held)?.message?.seq).toBe(11n);
  expect(await assertCountersAgree(database.url)).toBe(SESSIONS);
});

test.each([
  ["no Citus", ""],
  ["another table is distributed", "UPDATE pg_dist_partition SET logicalrelid = 'models'"],
  ["a table on the coordinator", "UPDATE pg_dist_partition SET partmethod = 'n'"],
])("%s: groups know no shards", async (_, change) => {
  // The ranges stay, to ask of them afterwards.
  const setUp = change ? `${STAND_IN}; ${change}` : STAND_IN;
  await withClient(database.url, (client) => client.query(setUp));
  if (!change)
    await withClient(database.url, (client) => client.query("DROP TABLE pg_dist_partition"));
  await appendEverywhere();
  expect((await groups()).some(({ nodes }) => nodes > 1)).toBe(true);
});

test("watches read each session by itself, and tell what there is and what happens", async () => {
  await withClient(database.url, (client) => client.query(STAND_IN));
  const ids = await appendEverywhere();
  const one = new SessionWatcher(stubs!.channel, ids[0]!, 0n);
  const all = new SessionsWatcher(stubs!.channel, { afterPosition: "" });
  await Promise.all([one, all].map((watcher) => watcher.untilKind("caughtUp")));
  for (const conversationId of ids) {
    await stubs!.call("addMessage", { conversationId, message: newMessage({ content: "end" }) });
  }
  await one.until("the end", (told) => told.at(-1)?.content === "end");
  const isEnd = ({ content }: { content?: string }) => content === "end";
  await all.until("all ends", (told) => told.filter(isEnd).length === ids.length);
  await assertTold(database.url, ids[0]!, one.told);
  for (const id of ids) await assertTold(database.url, id, all.told);
  for (const watcher of [one, all]) watcher.cancel();
});
