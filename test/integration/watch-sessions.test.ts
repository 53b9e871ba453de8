// WatchSessions: every change of a tenant's sessions once, whatever commits when, from any position on.
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { decodeProgress, encodeProgress } from "../../server/watch/progress.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { holdLock, until } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { assertTold, SessionsWatcher, type Told, toldOf } from "../harness/watching.js";

let database: TestDatabase;
let server: TestServer;
let stubs: Stubs;

beforeEach(async () => {
  database = await createDatabase();
  server = await startServer({ databaseUrl: database.url });
  stubs = new Stubs(server.address);
});

afterEach(async () => {
  stubs.close();
  await server.stop();
  await database.drop();
});

type Request = ConstructorParameters<typeof SessionsWatcher>[1];
const watch = (request?: Request) => new SessionsWatcher(stubs.channel, request);

async function newSession(fields: object = {}): Promise<bigint> {
  return (await stubs.call("createSession", { modelId: "m", ...fields })).session!.id;
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

const remove = (conversationId: bigint) => stubs.call("deleteSession", { conversationId });
const idsOf = (told: Told[]) => told.map(({ id }) => id);

/** Waits until a session that is made now has been told, and with it all that was before. */
async function untilNow(watcher: SessionsWatcher): Promise<bigint> {
  const id = await newSession();
  await watcher.until("what was before", (told) => idsOf(told).includes(id));
  return id;
}

const allSessions = () =>
  withClient(database.url, async (client) => {
    const { rows } = await client.query<{ id: string }>("SELECT id FROM conversations ORDER BY id");
    return rows.map(({ id }) => BigInt(id));
  });

test("from the beginning, each session's history, then what happens", async () => {
  const ids = await Promise.all(Array.from({ length: 5 }, () => newSession()));
  for (const id of ids) await append(id, 4);
  await edit(ids[1]!, 2n);
  const watcher = watch({ afterPosition: "" });
  await watcher.untilKind("caughtUp");
  for (const id of ids) await assertTold(database.url, id, watcher.told);
  await append(ids[0]!);
  await edit(ids[0]!, 1n);
  await untilNow(watcher);
  for (const id of await allSessions()) await assertTold(database.url, id, watcher.told);
  watcher.cancel();
});

test("from now on, only what happens", async () => {
  const before = await newSession();
  await append(before, 3);
  const watcher = watch();
  await watcher.untilKind("caughtUp");
  expect(watcher.told).toEqual([]);
  await append(before, 2);
  const fresh = await untilNow(watcher);
  await assertTold(database.url, before, watcher.told, 4n);
  await assertTold(database.url, fresh, watcher.told);
  watcher.cancel();
});

test("what commits late is told when it is there, holds up nobody, and is in no gap of a token", async () => {
  const [late, early] = [await newSession(), await newSession()];
  const watcher = watch();
  await watcher.untilKind("caughtUp");
  // A transaction that has got its number, and an append's rows, before the others begin.
  const held = await holdLock(
    database.url,
    `WITH message AS (
       INSERT INTO conversation_messages (conversation_id, seq, revision, role, content)
       VALUES ($1, 1, 2, 'user', 'late')
     ), session AS (
       UPDATE conversations SET revision = 2, last_seq = 1, message_count = 1 WHERE id = $1
     )
     INSERT INTO session_changes
       (conversation_id, tenant_id, first_revision, last_revision, first_seq, last_seq, removed, at)
     VALUES ($1, 'default', 2, 2, 1, 1, false, now())`,
    [late],
  );
  const positions: string[] = [];
  for (let n = 0; n < 3; n++) {
    await append(early);
    await watcher.until("an append", (told) => told.length === n + 1);
    positions.push(watcher.position);
  }
  const resumed = watch({ afterPosition: positions[1]! });
  await resumed.until("the last append", (told) => told.length === 1);
  await held.commit();
  for (const one of [watcher, resumed]) {
    await one.until("the late one", (told) => idsOf(told).includes(late));
  }
  const end = await untilNow(watcher);
  await resumed.until("the end", (told) => idsOf(told).includes(end));
  expect(resumed.told).toEqual(watcher.told.slice(2));
  expect(watcher.told.filter(({ id }) => id === late)).toHaveLength(1);
  // From each position on: what the watcher was told behind it, in whatever order sessions come.
  for (const [n, afterPosition] of positions.entries()) {
    const again = watch({ afterPosition });
    await again.until("the end", (told) => idsOf(told).includes(end));
    expect(new Set(again.told.map(keyOf))).toEqual(new Set(watcher.told.slice(n + 1).map(keyOf)));
    expect(again.told).toHaveLength(watcher.told.length - n - 1);
    again.cancel();
  }
  for (const one of [watcher, resumed]) one.cancel();
});

const keyOf = ({ id, revision, kind }: Told) => `${id} ${revision} ${kind}`;

test("cut off anywhere and resumed, under writes, all is told once", async () => {
  // More than a page of events, and more sessions than a batch of the walk.
  const ids = await Promise.all(Array.from({ length: 230 }, () => newSession()));
  await append(ids[3]!, 300);
  await append(ids[120]!, 250);
  await Promise.all(ids.slice(0, 60).map((id) => append(id, 3)));
  let writing = true;
  const writers = [0, 1, 2].map(async (n) => {
    while (writing) {
      const id = ids[Math.floor(Math.random() * 60)]!;
      if (n === 0) await edit(id, 1n);
      else if (n === 1) await append(id, 2);
      else await append(await newSession(), 2);
    }
  });
  const told: Told[] = [];
  let position = "";
  for (let cut = 0; cut < 25; cut++) {
    const watcher = watch({ afterPosition: position });
    const enough = 1 + Math.floor(Math.random() * 4);
    await until("some responses", () => watcher.positions.length >= enough);
    watcher.cancel();
    await watcher.end();
    // What came behind the last position that was taken is dropped, as a watcher's crash would.
    const { position: last, events } = watcher.positions[enough - 1]!;
    told.push(...watcher.events.slice(0, events).flatMap(toldOf));
    position = last;
  }
  writing = false;
  await Promise.all(writers);
  const watcher = watch({ afterPosition: position });
  await untilNow(watcher);
  told.push(...watcher.told);
  const made = await allSessions();
  for (const id of [...ids.slice(0, 30), ids[120]!, ...made.slice(-20)]) {
    await assertTold(database.url, id, told);
  }
  expect(new Set(idsOf(told))).toEqual(new Set(made));
  watcher.cancel();
});

test("an edit of an early message does not hide appends at the end that come with it", async () => {
  const id = await newSession();
  for (let n = 0; n < 3; n++) await append(id, 100);
  const watcher = watch();
  await watcher.untilKind("caughtUp");
  const { position } = watcher;
  await edit(id, 1n);
  await append(id, 2);
  await edit(id, 2n);
  await append(id, 150);
  const end = await untilNow(watcher);
  const resumed = watch({ afterPosition: position });
  await resumed.until("the end", (told) => idsOf(told).includes(end));
  for (const one of [watcher, resumed]) {
    await assertTold(database.url, id, one.told, 301n);
    one.cancel();
  }
});

test("who reads slowly falls behind, and misses nothing", async () => {
  const id = await newSession();
  const slow = watch();
  const quick = watch();
  await Promise.all([slow, quick].map((watcher) => watcher.untilKind("caughtUp")));
  slow.stream.pause();
  let count = 0;
  // More pages of changes than the client and the server keep together.
  for (; quick.responses < 330; count++) {
    await stubs.call("addMessage", {
      conversationId: id,
      message: newMessage({ content: `${count}`.padEnd(10_000, "x") }),
    });
  }
  await quick.until("all", (told) => told.length === count);
  slow.stream.resume();
  await slow.until("all", (told) => told.length === count);
  expect(slow.kinds).toContain("fellBehind");
  for (const watcher of [slow, quick]) {
    await assertTold(database.url, id, watcher.told, 1n);
    watcher.cancel();
  }
});

test("tells sessions by the labels that they have then", async () => {
  const [mine, other] = [
    await newSession({ ownerId: "me", tags: ["a", "b"] }),
    await newSession({ ownerId: "me", tags: ["a"] }),
  ];
  for (const id of [mine, other]) await append(id);
  const chosen = watch({ afterPosition: "", modelId: "m", ownerId: "me", tags: ["b", "a"] });
  await chosen.untilKind("caughtUp");
  expect(new Set(idsOf(chosen.told))).toEqual(new Set([mine]));
  await stubs.call("updateSession", {
    session: { id: other, tags: ["a", "b", "c"] } as never,
    updateMask: ["tags"],
  });
  await append(other);
  await stubs.call("updateSession", {
    session: { id: mine, ownerId: "you" } as never,
    updateMask: ["owner_id"],
  });
  await append(mine);
  await append(other);
  await chosen.until("the last one", (told) => told.at(-1)?.seq === 3n);
  expect(chosen.told.filter(({ id }) => id === mine)).toHaveLength(2);
  expect(chosen.told.filter(({ id }) => id === other).map(({ kind }) => kind)).toEqual([
    "sessionChanged",
    "messageAppended",
    "messageAppended",
  ]);
  // Nobody can tell which labels a session had that is gone.
  await remove(mine);
  await chosen.until("the removal", (told) => told.at(-1)?.kind === "sessionDeleted");
  chosen.cancel();
});

test("a removed session is told as such once, also to whoever resumes", async () => {
  const id = await newSession();
  await append(id, 2);
  const watcher = watch();
  await watcher.untilKind("caughtUp");
  const { position } = watcher;
  await append(id);
  await remove(id);
  const removal = { id, kind: "sessionDeleted", revision: 5n };
  await watcher.until("the removal", (told) => told.at(-1)?.kind === "sessionDeleted");
  expect(watcher.told.at(-1)).toEqual(removal);
  const resumed = watch({ afterPosition: position });
  const end = await untilNow(resumed);
  expect(resumed.told.filter((one) => one.id !== end)).toEqual([removal]);
  const after = watch({ afterPosition: watcher.position });
  await until("it is caught up", () => after.kinds.includes("caughtUp"));
  expect(after.told.filter((one) => one.id !== end)).toEqual([]);
  for (const one of [watcher, resumed, after]) one.cancel();
});

describe("positions", () => {
  const own = async () => {
    const watcher = watch({ modelId: "m" });
    await watcher.untilKind("caughtUp");
    watcher.cancel();
    return watcher.position;
  };
  const refused = async (request: Request) => (await watch(request).end()) as Error;
  const expired = { code: "OUT_OF_RANGE", reason: "POSITION_EXPIRED" };

  test("that were altered, or are another request's, are refused", async () => {
    const position = await own();
    for (const request of [
      { modelId: "m", afterPosition: "nonsense" },
      { modelId: "m", afterPosition: `${position}A` },
      { modelId: "n", afterPosition: position },
      { modelId: "m", ownerId: "o", afterPosition: position },
      { modelId: "m", tags: ["t"], afterPosition: position },
    ]) {
      expect(await refused(request)).toMatchObject({
        code: "INVALID_ARGUMENT",
        reason: "INVALID_PAGE_TOKEN",
      });
    }
  });

  test("that somebody has made up are refused, not given to Postgres", async () => {
    const query = ["WatchSessions", "default", "", ""];
    const { rows } = await withClient(database.url, (client) =>
      client.query<{ id: string }>("SELECT system_identifier::text AS id FROM pg_control_system()"),
    );
    const cluster = rows[0]!.id;
    for (const position of ["", "1", "5:4:", "4:5:5", "0:0:", "4:9:4,4", "4:9:5", "x:y:"]) {
      const afterPosition = encodeProgress({ position }, { cluster, query });
      expect(await refused({ afterPosition })).toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
    }
    const fine = encodeProgress({ position: "4:9:4,6" }, { cluster, query });
    expect(decodeProgress(fine, { cluster, query })).toMatchObject({ position: "4:9:4,6" });
  });

  test("of another cluster, or that this one has not come to, have expired", async () => {
    const query = ["WatchSessions", "default", "", ""];
    const elsewhere = encodeProgress({ position: "4:4:" }, { cluster: "1234", query });
    expect(await refused({ afterPosition: elsewhere })).toMatchObject(expired);
    const { rows } = await withClient(database.url, (client) =>
      client.query<{ id: string }>("SELECT system_identifier::text AS id FROM pg_control_system()"),
    );
    const ahead = encodeProgress(
      { position: "900000000000:900000000000:" },
      { cluster: rows[0]!.id, query },
    );
    expect(await refused({ afterPosition: ahead })).toMatchObject(expired);
  });

  test("that are older than what is kept have expired", async () => {
    const position = await own();
    await newSession();
    await withClient(database.url, async (client) => {
      await client.query("DELETE FROM session_changes");
      await client.query(
        "UPDATE change_log SET kept_from = pg_snapshot_xmax(pg_current_snapshot())",
      );
    });
    expect(await refused({ modelId: "m", afterPosition: position })).toMatchObject(expired);
  });

  test("have limits, as all fields have", async () => {
    for (const request of [
      { afterPosition: "x".repeat(70_000) },
      { modelId: "m".repeat(257) },
      { ownerId: "o".repeat(257) },
      { tags: Array.from({ length: 17 }, (_, n) => `${n}`) },
      { tags: [""] },
    ]) {
      expect(await refused(request)).toMatchObject({ reason: "INVALID_FIELD" });
    }
  });
});

describe("a server of several", () => {
  let second: TestServer;
  let others: Stubs;

  beforeEach(async () => {
    second = await startServer({ databaseUrl: database.url });
    others = new Stubs(second.address);
  });

  afterEach(async () => {
    others.close();
    await second.stop();
  });

  const listeners = () =>
    withClient(database.url, async (client) => {
      const { rows } = await client.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'agentstore changes'`,
      );
      return rows.map(({ pid }) => pid);
    });

  test("tells what another one has written, also when its listening connection is cut again and again", async () => {
    const id = await newSession();
    const watcher = new SessionsWatcher(others.channel);
    await watcher.untilKind("caughtUp");
    for (let n = 1; n <= 6; n++) {
      const [pid] = await until("it listens", async () => {
        const pids = await listeners();
        return pids.length > 0 && pids;
      });
      if (n % 2 === 0) {
        await withClient(database.url, (client) =>
          client.query("SELECT pg_terminate_backend($1)", [pid]),
        );
      }
      await append(id);
      await watcher.until("the append", (told) => told.length === n);
    }
    await assertTold(database.url, id, watcher.told, 1n);
    watcher.cancel();
  });

  test("tells what nobody has woken it for", async () => {
    const id = await newSession();
    const watcher = new SessionsWatcher(others.channel);
    await watcher.untilKind("caughtUp");
    // As an append does, but without a word.
    await withClient(database.url, (client) =>
      client.query(
        `WITH message AS (
           INSERT INTO conversation_messages (conversation_id, seq, revision, role, content)
           VALUES ($1, 1, 2, 'user', 'silent')
         ), session AS (
           UPDATE conversations SET revision = 2, last_seq = 1, message_count = 1 WHERE id = $1
         )
         INSERT INTO session_changes
           (conversation_id, tenant_id, first_revision, last_revision, first_seq, last_seq, removed, at)
         VALUES ($1, 'default', 2, 2, 1, 1, false, now())`,
        [id],
      ),
    );
    await watcher.until("the silent one", (told) => told.at(-1)?.content === "silent");
    watcher.cancel();
  });

  test("goes on from the position of another one", async () => {
    const id = await newSession();
    const watcher = watch();
    await watcher.untilKind("caughtUp");
    let servers: Stubs[] = [others, stubs];
    let count = 0;
    let { position } = watcher;
    watcher.cancel();
    for (let round = 0; round < 10; round++) {
      const next = new SessionsWatcher(servers[0]!.channel, { afterPosition: position });
      servers = [servers[1]!, servers[0]!];
      await append(id);
      count++;
      await next.until("the append", (told) => told.length === 1);
      expect(next.told.at(-1)).toMatchObject({ id, revision: BigInt(count + 1) });
      ({ position } = next);
      next.cancel();
    }
  });
});
