// Deadlines and cancellation reach Postgres, except that a commit under way is never abandoned.
import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentStoreError } from "../../../client/errors.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { withClient } from "../../harness/postgres.js";
import {
  holdLock,
  holdSession,
  makeCommitsWait,
  poolActivity,
  until,
  untilBlocked,
  untilQuiet,
} from "../../harness/postgres-watch.js";
import { proxyToServer } from "../../harness/proxy.js";
import { startServer, type TestServer } from "../../harness/server.js";
import { failureOf, newMessage, type StubOptions, Stubs } from "../../harness/stubs.js";

const POOL = 4;

let server: TestServer;
let stubs: Stubs;
let conversationId: bigint;

beforeEach(async () => {
  server = await startServer({ poolSize: POOL });
  stubs = new Stubs(server.address);
  conversationId = (await stubs.call("createSession", { modelId: "gpt-4" })).session!.id;
  const messages = Array.from({ length: 5 }, (_, n) => newMessage({ content: `${n + 1}` }));
  await stubs.call("addMessages", { conversationId, messages });
});

afterEach(async () => {
  stubs.close();
  await server.stop();
});

const LOCKS = {
  sessions: "LOCK TABLE conversations IN ACCESS EXCLUSIVE MODE",
  messages: "LOCK TABLE conversation_messages IN ACCESS EXCLUSIVE MODE",
};

type Caller = (stubs: Stubs, id: bigint, options: StubOptions) => Promise<unknown>;

const message = newMessage({ content: "never written" });

const CALLS: [string, keyof typeof LOCKS, Caller][] = [
  ["CreateSession", "sessions", (to, _, o) => to.call("createSession", { modelId: "m" }, o)],
  ["GetSession", "sessions", (to, id, o) => to.call("getSession", { conversationId: id }, o)],
  [
    "UpdateSession",
    "sessions",
    (to, id, o) => {
      const session = { id, title: "t", ownerId: "", tags: [] } as never;
      return to.call("updateSession", { session, updateMask: ["title"] }, o);
    },
  ],
  ["ListSessions", "sessions", (to, _, o) => to.call("listSessions", {}, o)],
  ["DeleteSession", "messages", (to, id, o) => to.call("deleteSession", { conversationId: id }, o)],
  [
    "AddMessage",
    "messages",
    (to, id, o) => to.call("addMessage", { conversationId: id, message }, o),
  ],
  [
    "AddMessages",
    "messages",
    (to, id, o) => to.call("addMessages", { conversationId: id, messages: [message, message] }, o),
  ],
  [
    "GetMessage",
    "messages",
    (to, id, o) => to.call("getMessage", { conversationId: id, seq: 1n }, o),
  ],
  ["GetMessages", "messages", (to, id, o) => to.call("getMessages", { conversationId: id }, o)],
  ["StreamMessages", "messages", (to, id, o) => to.readStream({ conversationId: id }, o)],
  ["SearchMessages", "messages", (to, _, o) => to.call("searchMessages", { query: "x" }, o)],
  [
    "GetSessionStats",
    "sessions",
    (to, id, o) => to.call("getSessionStats", { conversationId: id }, o),
  ],
  [
    "AcquireLease",
    "sessions",
    (to, id, o) => to.call("acquireLease", { conversationId: id, holder: "w" }, o),
  ],
  [
    "RenewLease",
    "sessions",
    (to, id, o) => to.call("renewLease", { conversationId: id, fencingToken: 1n }, o),
  ],
  [
    "ReleaseLease",
    "sessions",
    (to, id, o) => to.call("releaseLease", { conversationId: id, fencingToken: 1n }, o),
  ],
  ["LoadContext", "messages", (to, id, o) => to.call("loadContext", { conversationId: id }, o)],
  ["RepairSession", "messages", (to, id, o) => to.call("repairSession", { conversationId: id }, o)],
];

test.each(CALLS)(
  "a cancelled %s ends in Postgres, and has written nothing",
  async (_, table, call) => {
    const lock = await holdLock(server.databaseUrl, LOCKS[table]);
    try {
      const abort = new AbortController();
      const failure = failureOf(call(stubs, conversationId, { signal: abort.signal }));
      await untilBlocked(server.databaseUrl);
      abort.abort();
      expect((await failure).code).toBe("CANCELLED");
      // The lock is still held: it is not because of that that the query ends.
      await untilQuiet(server.databaseUrl);
    } finally {
      await lock.release();
    }
    await expectUntouched();
  },
);

test.each(CALLS)("past its deadline, %s ends in Postgres", async (_, table, call) => {
  const lock = await holdLock(server.databaseUrl, LOCKS[table]);
  try {
    const failure = failureOf(call(stubs, conversationId, { deadlineMs: 300 }));
    await untilBlocked(server.databaseUrl);
    expect((await failure).code).toBe("DEADLINE_EXCEEDED");
    await untilQuiet(server.databaseUrl);
  } finally {
    await lock.release();
  }
  await expectUntouched();
});

test("a caller whose connection breaks is a caller that cancels", async () => {
  const proxy = await proxyToServer(server.address);
  const far = new Stubs(proxy.address);
  const lock = await holdLock(server.databaseUrl, LOCKS.messages);
  try {
    const failures = [
      failureOf(far.call("addMessage", { conversationId, message })),
      failureOf(far.readStream({ conversationId })),
    ];
    await untilBlocked(server.databaseUrl, 2);
    proxy.cut();
    await Promise.all(failures);
    await untilQuiet(server.databaseUrl);
  } finally {
    await lock.release();
    far.close();
    await proxy.close();
  }
  await expectUntouched();
});

test("a stream that is cancelled in its middle ends in Postgres", async () => {
  const content = "x".repeat(100_000);
  for (let n = 0; n < 20; n++) {
    const messages = Array.from({ length: 10 }, () => newMessage({ content }));
    await stubs.call("addMessages", { conversationId, messages });
  }
  const stream = stubs.stream({ conversationId, pageSize: 1 });
  // 20 MB do not fit into what a connection buffers: the server is in the middle of reading.
  await new Promise((resolve) => stream.once("data", resolve));
  stream.pause();
  const lock = await holdLock(server.databaseUrl, LOCKS.messages);
  try {
    stream.resume();
    await untilBlocked(server.databaseUrl);
    stream.cancel();
    await untilQuiet(server.databaseUrl);
  } finally {
    await lock.release();
  }
});

test("a caller who gives up while it waits for a connection leaves nothing behind", async () => {
  const { session } = await stubs.call("getSession", { conversationId });
  const lock = await holdSession(server.databaseUrl, conversationId);
  const update = (options: StubOptions) =>
    stubs.call("updateSession", { session: session!, updateMask: ["title"] }, options);
  const holders = Array.from({ length: POOL }, () => update({ deadlineMs: 60_000 }));
  await untilBlocked(server.databaseUrl, POOL);
  const hasty = Array.from({ length: 20 }, () => failureOf(update({ deadlineMs: 100 })));
  for (const failure of await Promise.all(hasty)) expect(failure.code).toBe("DEADLINE_EXCEEDED");
  await lock.release();
  await Promise.all(holders);
  const { session: after } = await stubs.call("getSession", { conversationId });
  expect(after?.revision).toBe(session!.revision + BigInt(POOL));
});

test("a storm of cancellations poisons no connection", async () => {
  const sessions = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
      return session!.id;
    }),
  );
  const acknowledged = new Map<string, bigint>();
  const storm = async (caller: number) => {
    for (let round = 0; round < 40; round++) {
      const id = sessions[randomInt(sessions.length)]!;
      const requestId = `${caller}.${round}`;
      const abort = new AbortController();
      const call = stubs.call(
        "addMessages",
        { conversationId: id, messages: [newMessage({ content: requestId })], requestId },
        { signal: abort.signal },
      );
      // Every third caller waits for its answer.
      const timer = setTimeout(() => abort.abort(), round % 3 === 0 ? 60_000 : randomInt(40));
      await call.then(
        () => acknowledged.set(requestId, id),
        (error: AgentStoreError) => expect(error.code).toBe("CANCELLED"),
      );
      clearTimeout(timer);
    }
  };
  await Promise.all(Array.from({ length: 12 }, (_, caller) => storm(caller)));
  expect(acknowledged.size).toBeGreaterThanOrEqual(12 * 14);
  expect(acknowledged.size).toBeLessThan(480);

  await untilQuiet(server.databaseUrl);
  expect((await poolActivity(server.databaseUrl)).length).toBeLessThanOrEqual(POOL);
  // No connection is in the middle of something, or answers somebody else's question.
  const checks = Array.from({ length: 200 }, async (_, n) => {
    const id = sessions[n % 3]!;
    const { session } = await stubs.call("getSession", { conversationId: id });
    expect(session?.id).toBe(id);
    const { message } = await stubs.call("addMessage", {
      conversationId: id,
      message: newMessage({ content: `after ${n}` }),
    });
    expect(message?.content).toBe(`after ${n}`);
  });
  await Promise.all(checks);
  const stored = await contents();
  for (const [requestId, id] of acknowledged) {
    expect(stored.filter((row) => row.content === requestId)).toEqual([
      { id: String(id), content: requestId },
    ]);
  }
  expect(new Set(stored.map(({ content }) => content)).size).toBe(stored.length);
  await assertCountersAgree(server.databaseUrl);
}, 60_000);

test.each([
  ["cancelled", { cancel: true }],
  ["past its deadline", { cancel: false }],
])("a commit under way is carried out though its call is %s", async (_, { cancel }) => {
  // A session that has changed otherwise is asked for first, so that the commit is a statement.
  const session = { id: conversationId, title: "t", ownerId: "", tags: [] } as never;
  await stubs.call("updateSession", { session, updateMask: ["title"] });
  await makeCommitsWait(server.databaseUrl);
  const lock = await holdLock(server.databaseUrl, "SELECT pg_advisory_xact_lock(42)");
  const request = { conversationId, message: newMessage({ content: "told" }), requestId: "r" };
  const abort = new AbortController();
  const failure = failureOf(
    stubs.call("addMessage", request, {
      signal: abort.signal,
      ...(cancel ? {} : { deadlineMs: 500 }),
    }),
  );
  try {
    const [waiting] = await untilBlocked(server.databaseUrl);
    expect(waiting?.query).toBe("COMMIT");
    if (cancel) abort.abort();
    expect((await failure).code).toBe(cancel ? "CANCELLED" : "DEADLINE_EXCEEDED");
    // Behind these answers on the same connection, the server has heard of the end of the call.
    for (let n = 0; n < 20; n++) await stubs.call("getSession", { conversationId });
    await sleep(100);
    expect(await untilBlocked(server.databaseUrl)).toMatchObject([{ pid: waiting!.pid }]);
  } finally {
    await lock.release();
  }
  const { replayed, message } = await stubs.call("addMessage", request);
  expect({ replayed, seq: message?.seq }).toEqual({ replayed: true, seq: 6n });
  await until("the commit has come through", async () => (await contents()).length === 6);
});

test("a commit that travels with its statements is undone in whole, or carried out", async () => {
  await makeCommitsWait(server.databaseUrl);
  const lock = await holdLock(server.databaseUrl, "SELECT pg_advisory_xact_lock(42)");
  const request = { conversationId, message: newMessage({ content: "told" }), requestId: "r" };
  try {
    const failure = failureOf(stubs.call("addMessage", request, { deadlineMs: 500 }));
    const [waiting] = await untilBlocked(server.databaseUrl);
    expect(waiting?.query).toContain("INSERT INTO conversation_requests");
    expect((await failure).code).toBe("DEADLINE_EXCEEDED");
    await untilQuiet(server.databaseUrl);
    await expectUntouched();
  } finally {
    await lock.release();
  }
  const { replayed, message } = await stubs.call("addMessage", request);
  expect({ replayed, seq: message?.seq }).toEqual({ replayed: false, seq: 6n });
  expect(await contents()).toHaveLength(6);
  await assertCountersAgree(server.databaseUrl);
});

async function contents(): Promise<{ id: string; content: string }[]> {
  return await withClient(server.databaseUrl, async (client) => {
    const query = "SELECT conversation_id::text AS id, content FROM conversation_messages";
    return (await client.query<{ id: string; content: string }>(query)).rows;
  });
}

async function expectUntouched(): Promise<void> {
  const { sessions } = await stubs.call("listSessions", {});
  expect(sessions).toMatchObject([
    { messageCount: 5n, session: { id: conversationId, title: "", lastSeq: 5n, revision: 6n } },
  ]);
  const { messages } = await stubs.call("getMessages", { conversationId });
  expect(messages.map(({ content }) => content)).toEqual(["1", "2", "3", "4", "5"]);
  await assertCountersAgree(server.databaseUrl);
}
