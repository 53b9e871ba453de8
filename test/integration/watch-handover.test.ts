// What a process has appended itself is told to those who watch it without being read, and neither
// twice nor out of order where something is read at the same time.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { withClient } from "../harness/postgres.js";
import { type HeldLock, holdLock, until } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { assertTold, SessionWatcher } from "../harness/watching.js";

let server: TestServer;
let stubs: Stubs;
let id: bigint;
let watcher: SessionWatcher;
let lock: HeldLock | undefined;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
});

beforeEach(async () => {
  id = (await stubs.call("createSession", { modelId: "m" })).session!.id;
  watcher = new SessionWatcher(stubs.channel, id);
  await watcher.untilKind("caughtUp");
});

afterEach(async () => {
  watcher.cancel();
  await lock?.release();
  lock = undefined;
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

/** Has all reads of events wait; appends go on. */
async function holdReads(): Promise<void> {
  lock = await holdLock(server.databaseUrl, "LOCK TABLE message_versions");
}

/** Waits for a read that is held up. */
async function untilReading(): Promise<void> {
  await until("a read waits", () =>
    withClient(server.databaseUrl, async (client) => {
      const { rowCount } = await client.query(
        `SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'agentstore watch'
            AND wait_event_type = 'Lock'`,
      );
      return rowCount === 1;
    }),
  );
}

async function release(): Promise<void> {
  await lock?.release();
  lock = undefined;
}

const append = (...contents: string[]) =>
  stubs.call("addMessages", {
    conversationId: id,
    messages: contents.map((content) => newMessage({ content })),
  });

test("appends are told without a read, as they are read later", async () => {
  await holdReads();
  await append("one", "two");
  await stubs.call("addMessage", {
    conversationId: id,
    message: newMessage({
      role: Role.ASSISTANT,
      content: "a\0b",
      name: "n",
      toolCalls: [{ id: "c", name: "f", arguments: '{"a": 1.0}' }],
      payload: '{ "x":1}',
      payloadType: "p",
      metadata: { b: 1e21, a: [0.1, null, "é"] },
      timestampMs: 5n,
      usage: {
        inputTokens: 1n,
        outputTokens: 0n,
        cachedTokens: 0n,
        reasoningTokens: 0n,
        costMicros: 3n,
      },
    }),
  });
  await watcher.until("all three", (told) => told.length === 3);
  await release();
  const later = new SessionWatcher(stubs.channel, id, 1n);
  await later.untilKind("caughtUp");
  expect(watcher.events.slice(1)).toEqual(later.events.slice(0, -1));
  later.cancel();
});

test("what was appended while a read is under way is told once, also to who is slow", async () => {
  const slow = new SessionWatcher(stubs.channel, id);
  await slow.untilKind("caughtUp");
  slow.stream.pause();
  // More than the client and the server keep together for a reader that has stopped.
  const before = 30;
  for (let n = 0; n < before; n++) await append("large".padEnd(200_000, "x"));
  await watcher.until("the large ones", (told) => told.length === before);
  await holdReads();
  // The log tells of a revision that the session has not come to, so it is read.
  await withClient(server.databaseUrl, (client) =>
    client.query(
      `INSERT INTO session_changes
         (conversation_id, tenant_id, first_revision, last_revision, first_seq, last_seq, removed, at)
       VALUES ($1, 'default', $2, $2, $3, $3, false, now())`,
      [id, before + 2, before + 1],
    ),
  );
  await untilReading();
  await append("one");
  await watcher.until("the message", (told) => told.length === before + 1);
  await release();
  await append("two");
  await watcher.until("the next one", (told) => told.at(-1)?.content === "two");
  await append("three");
  await watcher.until("the last one", (told) => told.at(-1)?.content === "three");
  slow.stream.resume();
  for (const each of [watcher, slow]) {
    await each.until("the last one", (told) => told.at(-1)?.content === "three");
    const others = each.told.slice(before).map(({ content }) => content);
    expect(others).toEqual(["one", "two", "three"]);
  }
  slow.cancel();
});

test("behind a change that has to be read, appends are told after it", async () => {
  await holdReads();
  await stubs.call("updateSession", {
    session: { id, title: "t" } as never,
    updateMask: ["title"],
  });
  await append("one");
  await untilReading();
  await append("two");
  expect(watcher.told).toEqual([]);
  await release();
  await watcher.until("all", (told) => told.at(-1)?.content === "two");
  await assertTold(server.databaseUrl, id, watcher.told, 1n);
  expect(watcher.told.map(({ kind }) => kind)).toEqual([
    "sessionChanged",
    "messageAppended",
    "messageAppended",
  ]);
});

test("an append that is larger than what is kept is read, and nobody falls behind", async () => {
  // Each message is a page.
  await append(...Array.from({ length: 18 }, (_, n) => `${n}`.padEnd(1024 * 1024, "x")));
  await append("last");
  await watcher.until("all", (told) => told.at(-1)?.content === "last");
  await assertTold(server.databaseUrl, id, watcher.told, 1n);
  expect(watcher.kinds).not.toContain("fellBehind");
});
