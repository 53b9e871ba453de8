// The change log: readers miss nothing, whatever order transactions commit in, and wait for none.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { removeOldChanges, renumberForeignChanges } from "../../server/changes/keep.js";
import {
  type ChangesPage,
  endOfChanges,
  lockReader,
  moveReader,
  readChanges,
  registerReader,
} from "../../server/changes/read.js";
import * as sql from "../../server/changes/sql.js";
import { Database } from "../../server/db/database.js";
import { assertChangesTile } from "../harness/changes.js";
import { rowsLookedAt } from "../harness/plans.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { holdLock, until } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

let database: TestDatabase;
let db: Database;
let signal: AbortSignal;

beforeEach(async () => {
  database = await createDatabase();
  // These tests have readers of their own, and wait for no other.
  await withClient(database.url, (client) => client.query("DELETE FROM change_readers"));
  db = new Database(database.url, { poolSize: 4 });
  signal = AbortSignal.timeout(60_000);
});

afterEach(async () => {
  await db.close();
  await database.drop();
});

const end = () => endOfChanges(db.queries(signal));
/** The end when nothing runs that began before it: other databases have transactions, too. */
const quietEnd = () =>
  until("all that began before has ended", async () => {
    const position = await end();
    const [oldest, next] = position.split(":");
    return oldest === next && position;
  });
type Row = Record<string, string>;
const run = (text: string, values: unknown[] = []) =>
  withClient(database.url, async (client) => (await client.query<Row>(text, values)).rows);

async function read(position: string, most = 1_000): Promise<ChangesPage> {
  const page = await readChanges(db.queries(signal), position, most);
  if (!page) throw new Error(`the position ${position} is not one of this log`);
  return page;
}

const INSERT = `INSERT INTO session_changes
  (conversation_id, tenant_id, first_revision, last_revision, removed, at)
  SELECT $1, 'default', n, n, false, now() FROM generate_series($2::bigint, $3::bigint) AS n`;
const change = (id: number, first = 1, last = first) => run(INSERT, [id, first, last]);

/** A transaction that has recorded a change of a session, and is still running. */
const openChange = (id: number) => holdLock(database.url, INSERT, [id, 1, 1]);

const idsOf = ({ changes }: ChangesPage) => changes.map(({ conversation_id }) => conversation_id);

test("what commits late is read once, when it is there, and nothing waits for it", async () => {
  let position = await end();
  await change(1);
  const late = await openChange(2);
  await change(3);
  const first = await read(position);
  expect(idsOf(first)).toEqual([1n, 3n]);
  ({ position } = first);
  await change(4);
  const second = await read(position);
  expect(idsOf(second)).toEqual([4n]);
  // The position of before the second page is still good for what comes now.
  await late.commit();
  expect(idsOf(await read(position))).toEqual([2n, 4n]);
  const third = await read(second.position);
  expect(idsOf(third)).toEqual([2n]);
  const none = await read(third.position);
  expect(none).toMatchObject({ changes: [], position: third.position, more: false });
});

test("a reader that begins in the middle of a transaction sees it", async () => {
  const open = await openChange(1);
  await change(2);
  const position = await end();
  await open.commit();
  expect(idsOf(await read(position))).toEqual([1n]);
});

test("a position names no transaction that Postgres might give a second time after a crash", async () => {
  await change(1);
  const position = await end();
  // Transactions without a trace in the log.
  for (let n = 0; n < 5; n++) await run("SELECT pg_current_xact_id()");
  expect(await end()).toBe(position);
  expect((await read(position)).position).toBe(position);
});

test("pages part no transaction, and add up to what there is", async () => {
  const start = await end();
  for (let id = 1; id <= 20; id++) await change(id, 1, 7);
  const late = await openChange(100);
  for (let id = 21; id <= 40; id++) await change(id, 1, 7);
  const seen: bigint[] = [];
  let page: ChangesPage;
  let position = start;
  do {
    page = await read(position, 10);
    seen.push(...idsOf(page));
    ({ position } = page);
    const ids = new Set(idsOf(page));
    for (const id of ids) expect(idsOf(page).filter((one) => one === id)).toHaveLength(7);
  } while (page.more);
  expect(seen).toEqual(Array.from({ length: 40 * 7 }, (_, n) => BigInt(Math.floor(n / 7) + 1)));
  await late.commit();
  expect(idsOf(await read(position, 10))).toEqual([100n]);
});

test("a page does not end between two changes of a session that have their numbers the wrong way round", async () => {
  const start = await end();
  await withClient(database.url, async (early) => {
    await early.query("BEGIN");
    await early.query("SELECT pg_current_xact_id()");
    // It has a higher number, and changes the session first.
    await change(1, 1);
    await early.query(INSERT, [1, 2, 2]);
    await early.query("COMMIT");
  });
  await change(2);
  const page = await read(start, 1);
  expect(new Set(page.changes.map((one) => one.first_revision))).toEqual(new Set([1n, 2n]));
  expect(idsOf(page)).toEqual([1n, 1n]);
  expect(idsOf(await read(page.position))).toEqual([2n]);
});

test("a page is a range of the key, however long a transaction runs", async () => {
  const open = await openChange(1);
  const start = await end();
  await change(2, 1, 50_000);
  const { position } = await read(start, 1);
  await change(3);
  await run("ANALYZE session_changes");
  const looked = await withClient(database.url, (client) =>
    rowsLookedAt(client, sql.readChanges.text, [position, 100]),
  );
  expect(looked).toBeLessThan(100);
  await open.release();
});

describe("registered readers", () => {
  const later = () => new Date(Date.now() + 1_000);
  const register = (name: string) =>
    db.transaction((t) => registerReader(t, name, later()), signal);
  /** Transactions of other databases keep changes, too, for as long as they run. */
  async function removes(changes: number): Promise<void> {
    let removed = 0;
    await until(`${changes} changes are removed`, async () => {
      const both = [1, 2].map(() => removeOldChanges(db, later(), signal));
      for (const one of await Promise.all(both)) removed += one;
      return removed >= changes;
    });
    expect(removed).toBe(changes);
  }
  const take = (name: string) => db.transaction((t) => lockReader(t, name), signal);

  test("keep what they have not seen, and nothing else is kept for long", async () => {
    await change(1);
    await register("search");
    await change(2);
    const position = await end();
    expect(await removeOldChanges(db, new Date(0), signal)).toBe(0);
    await removes(1);
    const before = (await take("search")) ?? "";
    expect(idsOf(await read(before))).toEqual([2n]);
    await db.transaction(async (t) => {
      expect(await lockReader(t, "search")).toBe(before);
      // Nobody else has the turn meanwhile.
      expect(await take("search")).toBeUndefined();
      await moveReader(t, "search", position, later());
    }, signal);
    // Registered once more, it stays where it is.
    await register("search");
    expect(await take("search")).toBe(position);
    await removes(1);
  });

  test("others hear that what they ask for may be gone", async () => {
    const old = await end();
    await change(1);
    const recent = await quietEnd();
    expect((await read(old)).complete).toBe(true);
    await removes(1);
    expect(await read(old)).toMatchObject({ changes: [], complete: false });
    expect(await read(recent)).toMatchObject({ changes: [], complete: true });
    expect(await read(await quietEnd())).toMatchObject({ complete: true });
  });

  test("changes stay while a transaction runs that is older than they are", async () => {
    const open = await openChange(1);
    await change(2);
    expect(await removeOldChanges(db, later(), signal)).toBe(0);
    await open.commit();
    await removes(2);
  });

  test("batches end, with two servers at once", async () => {
    await change(1, 1, 25_000);
    await removes(25_000);
  });
});

describe("a log that another cluster has written", () => {
  // As a dump brings it: numbers of transactions far ahead of those of this cluster.
  const AHEAD = "(pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1000000)";
  const renumber = () => renumberForeignChanges(db, signal);

  test("does not make readers silent, and they see what not all of them had seen", async () => {
    await change(1);
    await change(2);
    const [now] = await run(`SELECT ${AHEAD} AS ahead`);
    const { ahead } = now!;
    await run("UPDATE session_changes SET xid = ($1::bigint + conversation_id)::text::xid8", [
      ahead,
    ]);
    for (const [name, seen] of [
      ["search", 1n],
      ["embeddings", 2n],
    ] as const) {
      const next = BigInt(ahead!) + seen + 1n;
      const position = `${next}:${next}:`;
      await run("INSERT INTO change_readers VALUES ($1, $2, now())", [name, position]);
    }
    await run("UPDATE change_log SET kept_from = $1", [ahead]);
    const [foreign] = await run("SELECT position::text FROM change_readers WHERE name = 'search'");
    expect(await readChanges(db.queries(signal), foreign!.position!, 10)).toBeUndefined();
    await Promise.all([renumber(), renumber(), renumber()]);
    await change(3);
    for (const name of ["search", "embeddings"]) {
      const position = (await db.transaction((t) => lockReader(t, name), signal)) ?? "";
      const page = await read(position);
      expect(idsOf(page)).toEqual([2n, 3n]);
      expect(idsOf(await read(page.position))).toEqual([]);
    }
    const last = await quietEnd();
    await change(4);
    expect(await read(last)).toMatchObject({ complete: true, changes: [{ conversation_id: 4n }] });
  });

  test.each([
    ["rows", `UPDATE session_changes SET xid = ${AHEAD}::text::xid8`],
    [
      "a position",
      `UPDATE change_readers SET position = (${AHEAD} || ':' || ${AHEAD} || ':')::pg_snapshot`,
    ],
    ["the beginning", `UPDATE change_log SET kept_from = ${AHEAD}::text::xid8`],
  ])("is known by %s alone", async (_, spoil) => {
    await change(1);
    await db.transaction((t) => registerReader(t, "search", new Date()), signal);
    await run(spoil);
    await renumber();
    await change(2);
    const position = (await db.transaction((t) => lockReader(t, "search"), signal)) ?? "";
    expect(idsOf(await read(position))).toContain(2n);
    const now = await end();
    await change(3);
    expect(idsOf(await read(now))).toEqual([3n]);
  });

  test("is put right by a server that starts, before it writes", async () => {
    await change(1);
    await run(`UPDATE session_changes SET xid = ${AHEAD}::text::xid8`);
    const server: TestServer = await startServer({ databaseUrl: database.url });
    const stubs = new Stubs(server.address);
    try {
      const now = await end();
      const { session } = await stubs.call("createSession", { modelId: "m" });
      expect(idsOf(await read(now))).toEqual([session!.id]);
    } finally {
      stubs.close();
      await server.stop();
    }
  });

  test("is left alone when it is this cluster's", async () => {
    await db.transaction((t) => registerReader(t, "search", new Date()), signal);
    await change(1);
    const before = await run("SELECT xid::text FROM session_changes");
    await renumber();
    expect(await run("SELECT xid::text FROM session_changes")).toEqual(before);
  });
});

test("groups of appends leave a row for each of their sessions", async () => {
  const server = await startServer({ databaseUrl: database.url });
  const stubs = new Stubs(server.address);
  try {
    const ids = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const { session } = await stubs.call("createSession", { modelId: "m" });
        return session!.id;
      }),
    );
    // The second round is guessed, in one round trip.
    for (let round = 0; round < 2; round++) {
      const now = await end();
      await Promise.all(
        ids.map((conversationId) =>
          stubs.call("addMessages", {
            conversationId,
            messages: [newMessage({ content: "a" }), newMessage({ content: "b" })],
          }),
        ),
      );
      const { changes } = await read(now);
      expect(new Set(changes.map(({ conversation_id: id }) => id))).toEqual(new Set(ids));
      expect(changes).toHaveLength(ids.length);
      const first = BigInt(2 * round + 1);
      for (const change of changes) {
        expect(change).toMatchObject({
          tenant_id: "default",
          first_revision: first + 1n,
          last_revision: first + 2n,
          first_seq: first,
          last_seq: first + 1n,
          removed: false,
        });
      }
    }
    await assertChangesTile(database.url);
  } finally {
    stubs.close();
    await server.stop();
  }
});
