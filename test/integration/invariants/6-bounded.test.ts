// Everything is bounded: over a limit the caller is told the limit, and a full server stays up.
import { randomBytes } from "node:crypto";
import { afterEach, expect, inject, test } from "vitest";
import type { AgentStoreError } from "../../../client/errors.js";
import { NewMessage } from "../../../gen/agentstore/v1/messages.js";
import { limits } from "../../../server/config.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { createDatabase, withClient } from "../../harness/postgres.js";
import { holdSession, untilBlocked, untilQuiet } from "../../harness/postgres-watch.js";
import { startServer, type TestServer } from "../../harness/server.js";
import { failureOf, newMessage, Stubs } from "../../harness/stubs.js";

let server: TestServer | undefined;
let channels: Stubs[] = [];

async function serve(options: Parameters<typeof startServer>[0] = {}): Promise<Stubs> {
  server = await startServer(options);
  return connect();
}

function connect(): Stubs {
  const stubs = new Stubs(server!.address);
  channels.push(stubs);
  return stubs;
}

async function stop(): Promise<void> {
  for (const stubs of channels) stubs.close();
  channels = [];
  await server?.stop();
  server = undefined;
}

afterEach(stop);

async function createSession(stubs: Stubs): Promise<bigint> {
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  return session!.id;
}

test("a full pool: callers are told to come back, and what they come back to works", async () => {
  const stubs = await serve({ poolSize: 1 });
  const conversationId = await createSession(stubs);
  const lock = await holdSession(server!.databaseUrl, conversationId);
  const append = (n: number, deadlineMs: number) =>
    stubs.call(
      "addMessage",
      { conversationId, message: newMessage({ content: `${n}` }), requestId: `${n}` },
      { deadlineMs },
    );
  // The first one has the only connection, and waits for the lock with it.
  const { session } = await stubs.call("getSession", { conversationId });
  const change = { session: session!, updateMask: ["title"] };
  const holder = stubs.call("updateSession", change, { deadlineMs: 60_000 });
  await untilBlocked(server!.databaseUrl);
  const patient = Array.from({ length: 40 }, (_, n) => failureOf(append(n + 1, 30_000)));
  const hasty = Array.from({ length: 10 }, (_, n) => failureOf(append(n + 41, 300)));
  for (const failure of await Promise.all(hasty)) {
    expect(failure.code).toBe("DEADLINE_EXCEEDED");
  }
  for (const failure of await Promise.all(patient)) {
    expect(failure).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
    expect(failure.retryDelayMs).toBeGreaterThan(0);
  }
  await lock.release();
  expect((await holder).session?.revision).toBe(2n);
  // Once more with the same request_ids: none of them had been written.
  const retried = await Promise.all(Array.from({ length: 50 }, (_, n) => append(n + 1, 30_000)));
  expect(retried.some(({ replayed }) => replayed)).toBe(false);
  await assertCountersAgree(server!.databaseUrl);
});

test("more callers than may wait: the rest is told the limit at once", async () => {
  const stubs = await serve({ poolSize: 1 });
  const conversationId = await createSession(stubs);
  const lock = await holdSession(server!.databaseUrl, conversationId);
  const holder = stubs.call("addMessage", { conversationId, message: newMessage() });
  await untilBlocked(server!.databaseUrl);
  // Each connection may have so many calls at once; together they have more than may wait.
  const crowd = [stubs, connect(), connect()].flatMap((channel) =>
    Array.from({ length: 400 }, () => failureOf(channel.call("getSession", { conversationId }))),
  );
  const failures = await Promise.all(crowd);
  const refused = failures.filter(({ metadata }) => "limit" in metadata);
  expect(failures.every(({ reason }) => reason === "OVERLOADED")).toBe(true);
  expect(refused).toHaveLength(1_200 - limits.waitingCalls);
  expect(new Set(refused.map(({ metadata }) => metadata.limit))).toEqual(
    new Set([String(limits.waitingCalls)]),
  );
  await lock.release();
  await holder;
  expect((await stubs.call("getSession", { conversationId })).session?.lastSeq).toBe(1n);
});

test("callers who have gone keep nobody out", async () => {
  const stubs = await serve({ poolSize: 1 });
  const conversationId = await createSession(stubs);
  const { session } = await stubs.call("getSession", { conversationId });
  const lock = await holdSession(server!.databaseUrl, conversationId);
  const holder = stubs.call("updateSession", { session, updateMask: ["title"] });
  await untilBlocked(server!.databaseUrl);
  const gone = [stubs, connect(), connect()].flatMap((channel) =>
    Array.from({ length: 400 }, () =>
      failureOf(channel.call("getSession", { conversationId }, { deadlineMs: 1_000 })),
    ),
  );
  const failures = await Promise.all(gone);
  expect(failures.some(({ code }) => code === "DEADLINE_EXCEEDED")).toBe(true);
  const waiting = stubs.call("getSession", { conversationId });
  // Behind this answer on the same connection, the server has heard of the call.
  await stubs.call("addMessage", { conversationId }).catch(() => {});
  await lock.release();
  expect((await waiting).session?.id).toBe(conversationId);
  await holder;
});

test("more connections than Postgres gives: told to come back", async () => {
  const database = await createDatabase();
  const role = `few_${randomBytes(6).toString("hex")}`;
  try {
    await withClient(database.url, async (client) => {
      // Three are the server's own: for health and for what it does by itself.
      await client.query(`CREATE ROLE ${role} LOGIN CONNECTION LIMIT 4`);
      await client.query(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`);
      await client.query(`GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ${role}`);
    });
    const url = new URL(database.url);
    url.username = role;
    const stubs = await serve({ databaseUrl: url.href, poolSize: 8 });
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, () =>
        stubs.call("createSession", { modelId: "m" }).then(
          () => null,
          (error: AgentStoreError) => error,
        ),
      ),
    );
    const failures = outcomes.filter((outcome) => outcome !== null);
    expect(failures.length).toBeGreaterThan(0);
    for (const failure of failures) {
      expect(failure).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
      expect(failure.retryDelayMs).toBeGreaterThan(0);
    }
    await createSession(stubs);
  } finally {
    await stop();
    await database.drop();
    await withClient(inject("postgresUrl"), (client) => client.query(`DROP ROLE ${role}`));
  }
});

test("a page of large messages ends early, and following the pages yields all of them", async () => {
  const stubs = await serve();
  const conversationId = await createSession(stubs);
  // 300 KiB each: some pages' worth, in a field that is not the content too.
  const large = "x".repeat(150 * 1024);
  for (let n = 0; n < 12; n++) {
    const message = newMessage({ content: large, payload: large, payloadType: "text" });
    await stubs.call("addMessage", { conversationId, message });
  }
  await stubs.call("addMessage", {
    conversationId,
    message: newMessage({ content: "y".repeat(3 * 1024 * 1024) }),
  });
  await stubs.call("addMessage", { conversationId, message: newMessage({ content: "last" }) });

  const seqs: bigint[] = [];
  const sizes: number[] = [];
  let pageToken = "";
  do {
    const page = await stubs.call("getMessages", { conversationId, pageSize: 1_000, pageToken });
    seqs.push(...page.messages.map(({ seq }) => seq));
    sizes.push(
      page.messages.reduce((sum, message) => sum + NewMessage.encode(message).finish().length, 0),
    );
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(seqs).toEqual(Array.from({ length: 14 }, (_, n) => BigInt(n + 1)));
  // A page ends with the message that passes the limit: the largest is the 3 MiB one on top of it.
  expect(sizes.length).toBeGreaterThanOrEqual(4);
  expect(Math.max(...sizes)).toBeLessThan(limits.pageBytes + 3.1 * 1024 * 1024);
  expect(sizes[0]).toBeLessThan(limits.pageBytes + 310 * 1024);

  const streamed = await stubs.readStream({ conversationId, pageSize: 1_000 });
  expect(streamed.flatMap(({ messages }) => messages.map(({ seq }) => seq))).toEqual(seqs);
  expect(streamed.map(({ messages }) => messages.length)).toEqual([4, 4, 4, 1, 1]);
});

test("the largest message is the operator's choice, exact to the byte, and told", async () => {
  const most = 10_000;
  const stubs = await serve({ maxMessageBytes: most });
  const conversationId = await createSession(stubs);
  const ofSize = (bytes: number) => {
    const empty = NewMessage.encode(newMessage({ content: "x".repeat(1_000) })).finish().length;
    return newMessage({ content: "x".repeat(1_000 + bytes - empty) });
  };
  expect(NewMessage.encode(ofSize(most)).finish()).toHaveLength(most);
  await stubs.call("addMessage", { conversationId, message: ofSize(most) });
  const messages = [ofSize(most), ofSize(most + 1)];
  const refused = await failureOf(stubs.call("addMessages", { conversationId, messages }));
  expect(refused).toMatchObject({
    code: "INVALID_ARGUMENT",
    reason: "MESSAGE_TOO_LARGE",
    metadata: { field: "messages[1]", limit_bytes: String(most) },
  });
  const { session } = await stubs.call("getSession", { conversationId });
  expect(session?.lastSeq).toBe(1n);
});

test("batches and pages have limits that are told", async () => {
  const stubs = await serve();
  const conversationId = await createSession(stubs);
  const messages = Array.from({ length: 1_001 }, () => newMessage());
  for (const [call, field] of [
    [stubs.call("addMessages", { conversationId, messages }), "messages"],
    [stubs.call("getMessages", { conversationId, pageSize: 1_001 }), "page_size"],
    [stubs.call("listSessions", { pageSize: 1_001 }), "page_size"],
    [stubs.call("searchMessages", { query: "x", limit: 1_001 }), "limit"],
    [stubs.readStream({ conversationId, pageSize: 1_001 }), "page_size"],
  ] as const) {
    const refused = await failureOf(call);
    expect(refused).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
    expect(refused.violations).toEqual([
      { field, description: expect.stringContaining(String(limits.pageSizeMost)) },
    ]);
  }
  await stubs.call("addMessages", { conversationId, messages: messages.slice(1) });
  await untilQuiet(server!.databaseUrl);
  await assertCountersAgree(server!.databaseUrl);
});

test("an answer to a search ends early as a page does", async () => {
  const stubs = await serve();
  const conversationId = await createSession(stubs);
  const content = "z".repeat(400 * 1024);
  for (let n = 0; n < 8; n++) {
    await stubs.call("addMessage", { conversationId, message: newMessage({ content }) });
  }
  const { results } = await stubs.call("searchMessages", { query: "zzz", limit: 1_000 });
  expect(results).toHaveLength(3);
});
