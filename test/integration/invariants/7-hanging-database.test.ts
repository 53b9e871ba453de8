// A database that neither answers nor goes away: calls end by their deadlines, and so does the server.
import { afterEach, beforeEach, expect, test } from "vitest";
import { Database, statement } from "../../../server/db/database.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { createDatabase, type TestDatabase } from "../../harness/postgres.js";
import { poolActivity, until } from "../../harness/postgres-watch.js";
import { type Proxy, proxyToPostgres } from "../../harness/proxy.js";
import { startServer, type TestServer } from "../../harness/server.js";
import { failureOf, newMessage, Stubs } from "../../harness/stubs.js";

let database: TestDatabase;
let proxy: Proxy;
let server: TestServer;
let stubs: Stubs;
let conversationId: bigint;

beforeEach(async () => {
  database = await createDatabase();
  proxy = await proxyToPostgres(database.url);
  server = await startServer({ databaseUrl: proxy.address, poolSize: 2, graceMs: 200 });
  stubs = new Stubs(server.address);
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  conversationId = session!.id;
});

afterEach(async () => {
  stubs.close();
  await server.stop();
  await proxy.close();
  await database.drop();
});

async function fillPool(): Promise<void> {
  await Promise.all(Array.from({ length: 2 }, () => stubs.call("getSession", { conversationId })));
}

test("connections that went silent are given up with the calls that used them", async () => {
  await fillPool();
  // A peer that is gone without a word: what was sent to it is never answered. New connections work.
  proxy.stall();
  const calls = Array.from({ length: 4 }, (_, n) => {
    const request = { conversationId, message: newMessage({ content: `${n}` }), requestId: `${n}` };
    return failureOf(stubs.call("addMessage", request, { deadlineMs: 1_000 }));
  });
  for (const failure of await Promise.all(calls)) {
    expect(["DEADLINE_EXCEEDED", "UNAVAILABLE"]).toContain(failure.code);
  }
  // The pool has two places: they are free again, or nobody would be served.
  await until("the pool has recovered", () =>
    stubs.call("getSession", { conversationId }, { deadlineMs: 2_000 }).catch(() => false),
  );
  for (let n = 0; n < 4; n++) {
    const request = { conversationId, message: newMessage({ content: `${n}` }), requestId: `${n}` };
    await stubs.call("addMessage", request);
  }
  expect(await assertCountersAgree(database.url)).toBe(1);
  const { messages } = await stubs.call("getMessages", { conversationId });
  expect(messages.map(({ content }) => content).sort()).toEqual(["0", "1", "2", "3"]);
});

test("a server can be stopped while its database hangs", async () => {
  await fillPool();
  proxy.stall();
  const calls = Array.from({ length: 3 }, () =>
    failureOf(stubs.call("addMessage", { conversationId, message: newMessage() })),
  );
  await until("the calls are under way", () =>
    stubs.call("getSession", { conversationId }, { deadlineMs: 300 }).catch(() => true),
  );
  await server.stop();
  for (const failure of await Promise.all(calls)) {
    expect(["UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"]).toContain(failure.code);
  }
  server = await startServer({ databaseUrl: proxy.address, poolSize: 2, graceMs: 200 });
});

test("the locks of a server that is gone without a word do not stay for ever", async () => {
  const own = new Database(database.url, { poolSize: 1 });
  const show = statement<object>("show", "SHOW idle_in_transaction_session_timeout");
  const rows = await own.query(show, [], new AbortController().signal);
  expect(rows).toEqual([{ idle_in_transaction_session_timeout: "1min" }]);
  await own.close();
});

test("who has stood still in a transaction hears that it is lost, and gets another connection", async () => {
  const own = new Database(database.url, { poolSize: 1 });
  const hurry = statement<{ pid: number }>(
    "hurry",
    `SELECT pg_backend_pid() AS pid, set_config('idle_in_transaction_session_timeout', '1', true)`,
  );
  const { signal } = new AbortController();
  const lost = own.transaction(async (transaction) => {
    const [row] = await transaction.query(hurry, []);
    await until("Postgres has ended the transaction", async () => {
      const running = await poolActivity(database.url);
      return running.every(({ pid }) => pid !== row!.pid);
    });
    await transaction.query(hurry, []);
  }, signal);
  await expect(lost).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  expect(await own.query(hurry, [], signal)).toHaveLength(1);
  await own.close();
});
