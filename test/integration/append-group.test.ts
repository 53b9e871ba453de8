// A group of appends in one round trip: what is guessed is checked, and a wrong guess writes nothing.
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { int8Parameter } from "../../server/db/array-parameter.js";
import { Database, statement } from "../../server/db/database.js";
import type { Append } from "../../server/messages/append.js";
import { appendGroup } from "../../server/messages/append-group.js";
import { SessionHeads } from "../../server/messages/session-heads.js";
import * as sql from "../../server/messages/sql.js";
import { assertCountersAgree } from "../harness/counters.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { holdLock, holdSession, makeCommitsWait, untilBlocked } from "../harness/postgres-watch.js";
import { failureOf, newMessage } from "../harness/stubs.js";

const { signal } = new AbortController();

let database: TestDatabase;
let db: Database;
let heads: SessionHeads;
let sessions: bigint[];

beforeAll(async () => {
  database = await createDatabase();
  db = new Database(database.url, { poolSize: 4 });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});
beforeEach(async () => {
  heads = new SessionHeads();
  await run("INSERT INTO models (id) VALUES ('m') ON CONFLICT DO NOTHING");
  const rows = await run(
    "INSERT INTO conversations (model_id, created_at, updated_at) VALUES ('m', now(), now()), ('m', now(), now()) RETURNING id::text",
  );
  sessions = rows.map(({ id }) => BigInt(id as string));
  // From here on the server knows them.
  await append(sessions.map((id) => write(id, "first")));
});

async function run(text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  return await withClient(database.url, async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(text, values);
    return rows;
  });
}

function write(conversationId: bigint, content: string, more: Partial<Append> = {}): Append {
  return {
    conversationId,
    tenant: "default",
    by: "test",
    requestId: "",
    fingerprint: Buffer.from(content),
    fencingToken: 0n,
    messages: [newMessage({ role: Role.USER, content })],
    ...more,
  };
}

// Appends a group, and says how many transactions of two round trips that took.
async function append(writes: Append[]) {
  const asked = vi.spyOn(db, "transaction");
  try {
    const { outcomes } = await appendGroup(db, heads, writes, sql.lockSessions, signal);
    return { outcomes, asked: asked.mock.calls.length };
  } finally {
    asked.mockRestore();
  }
}

async function stored(conversationId: bigint): Promise<unknown[]> {
  const rows = await run(
    `SELECT seq::int, revision::int, content FROM conversation_messages
      WHERE conversation_id = $1 ORDER BY seq`,
    [conversationId],
  );
  await assertCountersAgree(database.url);
  return rows.map(({ seq, revision, content }) => [seq, revision, content]);
}

test("sessions that the server has written to before are not asked for", async () => {
  const [a, b] = sessions as [bigint, bigint];
  const { outcomes, asked } = await append([
    write(a, "second"),
    write(b, "second", { expectedLastSeq: 1n }),
    write(a, "third", { requestId: "r" }),
    write(a, "third", { requestId: "r" }),
  ]);
  expect(asked).toBe(0);
  expect(outcomes.map(({ kind }) => kind)).toEqual(["appended", "appended", "appended", "same"]);
  const ids = outcomes.map((outcome) =>
    outcome.kind === "appended" ? outcome.messages[0]!.id : 0n,
  );
  expect(ids[0]).toBeGreaterThan(0n);
  const [row] = await run("SELECT id::text FROM conversation_messages WHERE content = 'third'");
  expect(ids[2]).toBe(BigInt(row!.id as string));
  expect(await stored(a)).toEqual([
    [1, 2, "first"],
    [2, 3, "second"],
    [3, 4, "third"],
  ]);
  expect(await stored(b)).toHaveLength(2);
});

test("what a guess would refuse is decided by what is asked", async () => {
  const [a] = sessions as [bigint];
  const wrong = await append([write(a, "second", { expectedLastSeq: 7n })]);
  expect(wrong).toMatchObject({ asked: 1, outcomes: [{ kind: "refused" }] });
  const other = await append([write(a, "second", { tenant: "other" })]);
  expect(other).toMatchObject({ asked: 1, outcomes: [{ kind: "refused" }] });
  const unknown = await append([write(a, "second"), write(10n ** 15n, "x")]);
  expect(unknown).toMatchObject({
    asked: 1,
    outcomes: [{ kind: "appended" }, { kind: "not locked" }],
  });
  expect(await stored(a)).toHaveLength(2);
});

test("another server's append is noticed", async () => {
  const [a, b] = sessions as [bigint, bigint];
  const mine = heads;
  heads = new SessionHeads();
  await append([write(a, "of another server")]);
  heads = mine;
  const { outcomes, asked } = await append([write(b, "second"), write(a, "third")]);
  expect(asked).toBe(1);
  expect(outcomes).toMatchObject([
    { messages: [{ seq: 2n }] },
    { messages: [{ seq: 3n, revision: 4n }] },
  ]);
  expect(await stored(a)).toEqual([
    [1, 2, "first"],
    [2, 3, "of another server"],
    [3, 4, "third"],
  ]);
  expect(await stored(b)).toHaveLength(2);
});

test("a change of the session is noticed", async () => {
  const [a] = sessions as [bigint];
  await run("UPDATE conversations SET revision = revision + 1 WHERE id = $1", [a]);
  const { outcomes, asked } = await append([write(a, "second")]);
  expect(asked).toBe(1);
  expect(outcomes).toMatchObject([{ messages: [{ seq: 2n, revision: 4n }] }]);
  await stored(a);
});

test("a session that has gone is noticed", async () => {
  const [a, b] = sessions as [bigint, bigint];
  await run("DELETE FROM conversation_messages WHERE conversation_id = $1", [a]);
  await run("DELETE FROM conversations WHERE id = $1", [a]);
  const { outcomes, asked } = await append([write(a, "second"), write(b, "second")]);
  expect(asked).toBe(1);
  expect(outcomes.map(({ kind }) => kind)).toEqual(["not locked", "appended"]);
  expect(await stored(b)).toHaveLength(2);
});

test("a session that somebody holds is left out, and not waited for", async () => {
  const [a, b] = sessions as [bigint, bigint];
  const held = await holdSession(database.url, a);
  try {
    const { outcomes } = await append([write(a, "second"), write(b, "second")]);
    expect(outcomes.map(({ kind }) => kind)).toEqual(["not locked", "appended"]);
  } finally {
    await held.release();
  }
  expect(await stored(a)).toHaveLength(1);
  expect(await stored(b)).toHaveLength(2);
});

test("a request_id that was answered before is replayed, and its neighbours are written", async () => {
  const [a, b] = sessions as [bigint, bigint];
  await append([write(a, "second", { requestId: "r" })]);
  const again = [write(b, "second", { requestId: "s" }), write(a, "second", { requestId: "r" })];
  const { outcomes, asked } = await append(again);
  expect(asked).toBe(1);
  expect(outcomes).toMatchObject([
    { kind: "appended" },
    { kind: "replayed", firstSeq: 2n, lastSeq: 2n },
  ]);
  expect(await stored(a)).toHaveLength(2);
  expect(await stored(b)).toHaveLength(2);
});

test("a failure that is nobody's guess is thrown once the two round trips meet it too", async () => {
  const [a] = sessions as [bigint];
  await run("ALTER TABLE conversation_messages ADD CONSTRAINT own CHECK (content <> 'no')");
  try {
    await expect(append([write(a, "no")])).rejects.toMatchObject({ reason: "SCHEMA_CONFLICT" });
  } finally {
    await run("ALTER TABLE conversation_messages DROP CONSTRAINT own");
  }
  expect(await stored(a)).toHaveLength(1);
  expect((await append([write(a, "yes")])).outcomes).toMatchObject([{ kind: "appended" }]);
  expect(await stored(a)).toHaveLength(2);
});

test("a group whose connection ends under it is not written a second time", async () => {
  const [a] = sessions as [bigint];
  await makeCommitsWait(database.url);
  const lock = await holdLock(database.url, "SELECT pg_advisory_xact_lock(42)");
  try {
    const failure = failureOf(append([write(a, "second")]));
    const [waiting] = await untilBlocked(database.url);
    await run("SELECT pg_terminate_backend($1)", [waiting!.pid]);
    expect(await failure).toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
  } finally {
    await lock.release();
    await run("DROP TRIGGER slow_commit ON conversations");
  }
  expect(await stored(a)).toHaveLength(1);
});

test("statements that run together are one transaction", async () => {
  await run("CREATE TABLE steps (n bigint CHECK (n < 10))");
  const insert = statement<{ n: bigint }>(
    "insert_step",
    "INSERT INTO steps SELECT $1::bigint WHERE $1 IS NOT NULL RETURNING n",
  );
  const read: bigint[] = [];
  const step = (n: bigint) => ({
    statement: insert,
    values: [int8Parameter(n)],
    onRow: (bytes: Buffer, start: number) => void read.push(bytes.readBigInt64BE(start + 6)),
  });
  await db.together([step(1n), step(2n)], signal);
  expect(read).toEqual([1n, 2n]);
  await expect(db.together([step(3n), step(10n), step(4n)], signal)).rejects.toMatchObject({
    reason: "SCHEMA_CONFLICT",
  });
  // The connection goes on.
  await db.together([step(5n)], signal);
  expect(await run("SELECT n::int FROM steps ORDER BY n")).toEqual([{ n: 1 }, { n: 2 }, { n: 5 }]);
  const failing = {
    ...step(6n),
    onRow: () => {
      throw new Error("of a reader");
    },
  };
  await expect(db.together([failing], signal)).rejects.toThrow("of a reader");
  await db.together([step(7n)], signal);
});

test("another server's lease is noticed, though it raises no revision", async () => {
  const [a] = sessions as [bigint];
  const take =
    "UPDATE conversations SET lease_token = lease_token + 1, lease_holder = 'w' WHERE id = $1";
  await run(take, [a]);
  await append([write(a, "held", { fencingToken: 1n })]);
  expect(await append([write(a, "held", { fencingToken: 1n })])).toMatchObject({ asked: 0 });
  await run(take, [a]);
  const fenced = await append([write(a, "fenced", { fencingToken: 1n })]);
  expect(fenced).toMatchObject({ asked: 1, outcomes: [{ kind: "refused" }] });
  expect(await stored(a)).toHaveLength(3);
});
