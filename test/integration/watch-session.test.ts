// WatchSession: what is stored and what happens, without a gap and without anything twice.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentStoreError } from "../../client/errors.js";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { RestoreMode } from "../../gen/agentstore/v1/snapshots.js";
import * as sql from "../../server/watch/sql.js";
import { rowsLookedAt } from "../harness/plans.js";
import { withClient } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { assertTold, SessionWatcher } from "../harness/watching.js";

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

const watch = (id: bigint, after?: bigint) => new SessionWatcher(stubs.channel, id, after);

async function newSession(): Promise<bigint> {
  return (await stubs.call("createSession", { modelId: "m" })).session!.id;
}

async function append(id: bigint, count = 1): Promise<void> {
  const messages = Array.from({ length: count }, () => newMessage({ content: randomUUID() }));
  await stubs.call("addMessages", { conversationId: id, messages });
}

async function edit(id: bigint, seq: bigint): Promise<void> {
  await stubs.call("updateMessage", {
    message: { conversationId: id, seq, content: randomUUID() } as never,
    updateMask: ["content"],
  });
}

async function revisionOf(conversationId: bigint): Promise<bigint> {
  return (await stubs.call("getSession", { conversationId })).session!.revision;
}

/** A session in which everything has happened that can. */
async function eventfulSession(): Promise<bigint> {
  const id = await newSession();
  await append(id, 5);
  await edit(id, 2n);
  const { snapshot } = await stubs.call("createSnapshot", { conversationId: id });
  await stubs.call("deleteMessage", { conversationId: id, seq: 3n });
  await stubs.call("updateSession", {
    session: { id, title: "t" } as never,
    updateMask: ["title"],
  });
  await append(id, 2);
  await stubs.call("undeleteMessage", { conversationId: id, seq: 3n });
  await stubs.call("updateState", { conversationId: id, state: "{}" });
  await stubs.call("revertMessage", { conversationId: id, seq: 2n, version: 1n });
  await append(id, 3);
  await stubs.call("restoreSnapshot", {
    conversationId: id,
    snapshotId: snapshot!.id,
    mode: RestoreMode.ROLL_BACK,
  });
  await append(id);
  return id;
}

test("tells the whole history, from each revision on", async () => {
  const id = await eventfulSession();
  const last = await revisionOf(id);
  for (let after = 0n; after <= last; after++) {
    const watcher = watch(id, after);
    await watcher.untilKind("caughtUp");
    await assertTold(server.databaseUrl, id, watcher.told, after);
    expect(watcher.kinds.filter((kind) => kind === "caughtUp")).toHaveLength(1);
    expect(watcher.revision).toBe(last);
    watcher.cancel();
  }
});

test("tells as it happens what the history tells later", async () => {
  const id = await newSession();
  const watcher = watch(id);
  await watcher.untilKind("caughtUp");
  expect(watcher.told).toEqual([]);
  await append(id, 3);
  await edit(id, 2n);
  await stubs.call("updateSession", {
    session: { id, title: "t" } as never,
    updateMask: ["title"],
  });
  await stubs.call("deleteMessage", { conversationId: id, seq: 1n });
  await append(id);
  await watcher.until("all", (told) => told.at(-1)?.seq === 4n);
  await assertTold(server.databaseUrl, id, watcher.told, 1n);
  expect(watcher.told.map(({ kind }) => kind)).toContain("sessionChanged");
  const changed = watcher.events.find(({ event }) => event?.$case === "sessionChanged")!.event;
  expect(changed).toMatchObject({ value: { id, title: "t" } });
  watcher.cancel();
});

test("forks tell of messages that are there already, deleted ones too", async () => {
  const id = await eventfulSession();
  await stubs.call("deleteMessage", { conversationId: id, seq: 1n });
  const { session } = await stubs.call("forkSession", { conversationId: id });
  const fork = session!.id;
  await edit(fork, 2n);
  const watcher = watch(fork, 0n);
  await watcher.untilKind("caughtUp");
  await assertTold(server.databaseUrl, fork, watcher.told);
  expect(watcher.told.slice(0, 2).map(({ kind, version }) => [kind, version])).toEqual([
    ["sessionChanged", undefined],
    ["messageDeleted", 1n],
  ]);
  watcher.cancel();
});

test("goes from stored to live without a gap, under appends and edits", async () => {
  const id = await newSession();
  await append(id, 150);
  const watchers: { watcher: SessionWatcher; after: bigint }[] = [];
  let writing = true;
  const writers = [0, 1].map(async (n) => {
    while (writing) {
      if (n === 0) await append(id, 3);
      else await edit(id, BigInt(1 + Math.floor(Math.random() * 150)));
    }
  });
  for (let n = 0; n < 12; n++) {
    const after = BigInt(Math.floor(Math.random() * Number(await revisionOf(id))));
    watchers.push({ watcher: watch(id, after), after });
  }
  await Promise.all(watchers.map(({ watcher }) => watcher.untilKind("caughtUp")));
  await until("something has happened since", async () => (await revisionOf(id)) > 250n);
  writing = false;
  await Promise.all(writers);
  const last = await revisionOf(id);
  for (const { watcher, after } of watchers) {
    await watcher.until("all", (told) => told.at(-1)?.revision === last);
    await assertTold(server.databaseUrl, id, watcher.told, after);
    watcher.cancel();
  }
});

test("pages of a long history are bounded, and go on where they were cut off", async () => {
  const id = await newSession();
  for (let n = 0; n < 6; n++) {
    await stubs.call("addMessages", {
      conversationId: id,
      messages: Array.from({ length: 50 }, () => newMessage({ content: "x".repeat(20_000) })),
    });
  }
  const watcher = watch(id, 0n);
  await watcher.untilKind("caughtUp");
  await assertTold(server.databaseUrl, id, watcher.told);
  expect(watcher.responses).toBeGreaterThan(6);
  watcher.cancel();
});

describe("a session that is removed", () => {
  test("is told to all who watch it, whose streams end", async () => {
    const id = await newSession();
    const live = watch(id);
    const stored = watch(id, 0n);
    await Promise.all([live, stored].map((watcher) => watcher.untilKind("caughtUp")));
    await append(id);
    await stubs.call("deleteSession", { conversationId: id });
    for (const watcher of [live, stored]) {
      expect(await watcher.end()).toBeUndefined();
      expect(watcher.told.at(-1)).toMatchObject({ id, kind: "sessionDeleted", revision: 3n });
      expect(watcher.kinds.filter((kind) => kind === "sessionDeleted")).toHaveLength(1);
    }
    const late = watch(id, 0n);
    expect(await late.end()).toMatchObject({ reason: "SESSION_NOT_FOUND" });
  });
});

describe("refuses", () => {
  test.each([
    [0n, undefined],
    [-1n, undefined],
    [1n, -1n],
  ])("the session %s after %s", async (id, after) => {
    const failure = await watch(id, after).end();
    expect(failure).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
  });

  test("a session that is not there", async () => {
    expect(await watch(999_999_999n).end()).toMatchObject({
      code: "NOT_FOUND",
      reason: "SESSION_NOT_FOUND",
    });
  });

  test("a revision that the session has not come to, and names its own", async () => {
    const id = await newSession();
    await append(id, 2);
    const failure = await watch(id, 4n).end();
    expect(failure).toBeInstanceOf(AgentStoreError);
    expect(failure).toMatchObject({
      code: "OUT_OF_RANGE",
      reason: "REVISION_AHEAD",
      metadata: { conversation_id: String(id), after_revision: "4", revision: "3" },
    });
  });
});

test("of a change that the log tells of before the session shows it, nothing is lost", async () => {
  const id = await newSession();
  const watcher = watch(id);
  await watcher.untilKind("caughtUp");
  const record = (revision: number) =>
    withClient(server.databaseUrl, (client) =>
      client.query(
        `INSERT INTO session_changes
           (conversation_id, tenant_id, first_revision, last_revision, first_seq, last_seq, removed, at)
         VALUES ($1, 'default', $2, $2, 1, 1, false, now())`,
        [id, revision],
      ),
    );
  // As on Citus, where a shard commits after the coordinator. No wake-up either.
  await record(2);
  await withClient(server.databaseUrl, async (client) => {
    await client.query("BEGIN");
    await client.query(
      `INSERT INTO conversation_messages (conversation_id, seq, revision, role, content)
       VALUES ($1, 1, 2, 'user', 'late')`,
      [id],
    );
    await client.query(
      "UPDATE conversations SET revision = 2, last_seq = 1, message_count = 1 WHERE id = $1",
      [id],
    );
    await client.query("COMMIT");
  });
  await watcher.until("the message", (told) => told.at(-1)?.content === "late");
  watcher.cancel();
});

const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;

test("watches that are gone leave nothing behind", async () => {
  const ids = await Promise.all(Array.from({ length: 10 }, newSession));
  const timersAtFirst = timers();
  const watchers = ids.map((id) => watch(id, 0n));
  await Promise.all(watchers.map((watcher) => watcher.untilKind("caughtUp")));
  const connections = () =>
    withClient(server.databaseUrl, async (client) => {
      const { rows } = await client.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'agentstore changes'`,
      );
      return rows[0]!.count;
    });
  expect(await connections()).toBe(1);
  for (const watcher of watchers) watcher.cancel();
  await until("nobody listens", async () => (await connections()) === 0);
  // The server runs in this process: the log is not looked at any more.
  const reads = () =>
    withClient(server.databaseUrl, async (client) => {
      const { rows } = await client.query<{ at: string }>(
        `SELECT coalesce(max(query_start)::text, '') AS at FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'agentstore watch'`,
      );
      return rows[0]!.at;
    });
  const before = await reads();
  const timersBefore = timers();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(await reads()).toBe(before);
  expect(timers()).toBeLessThanOrEqual(timersBefore);
  // Fewer than one for each of the watches that are gone.
  expect(timers()).toBeLessThan(timersAtFirst + ids.length);
});

test("a page costs what it holds, however long a session and its history are", async () => {
  const id = await newSession();
  for (let n = 0; n < 20; n++) {
    const messages = Array.from({ length: 1_000 }, (_, index) =>
      newMessage({ content: `${index}` }),
    );
    await stubs.call("addMessages", { conversationId: id, messages });
  }
  for (let n = 1; n <= 60; n++) await edit(id, BigInt(n * 300));
  await append(id, 5);
  await withClient(server.databaseUrl, async (client) => {
    await client.query("ANALYZE conversations, conversation_messages, message_versions");
    // Sixty versions lie on one page, which would be read whole.
    await client.query("SET enable_seqscan = off");
    // Behind all but the last edits and appends; in the middle; and at the beginning.
    for (const [revision, seq, found] of [
      [20_051, 20_000, 15],
      [10_001, 10_000, 100],
      [0, 0, 100],
    ] as const) {
      const arrays = [[id], ["default"], [revision], [seq], [MOST]];
      const looked = await rowsLookedAt(client, sql.readEvents.text, [...arrays, 100, 1_000_000]);
      expect(looked, `from revision ${revision}`).toBeGreaterThanOrEqual(found);
      expect(looked, `from revision ${revision}`).toBeLessThan(500);
      expect(await rowsLookedAt(client, sql.findSeq.text, [id, revision])).toBeLessThan(100);
      const { rows } = await client.query<{ seq: string }>(sql.findSeq.text, [id, revision]);
      expect(Number(rows[0]!.seq)).toBe(seq);
    }
  });
});

const MOST = 2n ** 63n - 1n;

test("who reads slowly falls behind, holds up nobody, and misses nothing", async () => {
  const id = await newSession();
  const slow = watch(id);
  const quick = watch(id);
  await Promise.all([slow, quick].map((watcher) => watcher.untilKind("caughtUp")));
  slow.stream.pause();
  // More than the client and the server keep together.
  const count = 50;
  for (let n = 0; n < count; n++) {
    await stubs.call("addMessage", {
      conversationId: id,
      message: newMessage({ content: `${n}`.padEnd(1_000_000, "x") }),
    });
  }
  await quick.until("all", (told) => told.length === count);
  expect(quick.kinds).not.toContain("fellBehind");
  expect(slow.told.length).toBeLessThan(count);
  slow.stream.resume();
  await slow.until("all", (told) => told.length === count);
  await slow.untilKind("caughtUp", 2);
  expect(slow.kinds.filter((kind) => kind === "fellBehind")).toHaveLength(1);
  for (const watcher of [slow, quick]) {
    await assertTold(server.databaseUrl, id, watcher.told, 1n);
    watcher.cancel();
  }
});

test("messages keep what they hold", async () => {
  const id = await newSession();
  const watcher = watch(id);
  await watcher.untilKind("caughtUp");
  const message = newMessage({
    role: Role.ASSISTANT,
    content: "a\0b",
    name: "n",
    toolCalls: [{ id: "c", name: "f", arguments: '{"a": 1.0}' }],
    payload: '{ "x":1}',
    payloadType: "p",
    metadata: { a: [1, null] },
    usage: {
      inputTokens: 1n,
      outputTokens: 2n,
      cachedTokens: 0n,
      reasoningTokens: 0n,
      costMicros: 3n,
    },
  });
  const { message: stored } = await stubs.call("addMessage", { conversationId: id, message });
  await watcher.until("it", (told) => told.length === 1);
  expect(watcher.events.at(-1)!.event).toEqual({ $case: "messageAppended", value: stored });
  watcher.cancel();
});
