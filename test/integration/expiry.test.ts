// The sweep: what has had its time is removed once, wholly, however many servers sweep at a time.
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { Database } from "../../server/db/database.js";
import { Sweeper } from "../../server/expiry/sweeper.js";
import { makeLogger } from "../../server/log.js";
import { adminCall, allEvents } from "../harness/admin-stubs.js";
import { assertChangesTile } from "../harness/changes.js";
import { assertCountersAgree } from "../harness/counters.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { rowsOf } from "../harness/remains.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const LOGS = ["audit_inbox", "audit_events", "session_changes"];
const DAY_MS = 86_400_000;

let database: TestDatabase;
let server: TestServer;
let stubs: Stubs;
let databases: Database[];
let sweepers: Sweeper[];

beforeEach(async () => {
  database = await createDatabase();
  server = await startServer({ databaseUrl: database.url });
  stubs = new Stubs(server.address);
  databases = [1, 2].map(() => new Database(database.url, { poolSize: 2 }));
  sweepers = databases.map((db) => new Sweeper(db, makeLogger("silent"), 0));
});

afterEach(async () => {
  stubs.close();
  for (const db of databases) await db.close();
  await server.stop();
  await database.drop();
});

/** A session with something in every table that sessions have a part in. */
async function fullSession(expiresAt?: Date, modelId = "gpt-4"): Promise<bigint> {
  const { session } = await stubs.call("createSession", {
    modelId,
    tags: ["a", "b"],
    ownerId: "owner",
    metadata: { a: 1 },
    ...(expiresAt && { expiresAt }),
  });
  const conversationId = session!.id;
  await stubs.call("addMessages", {
    conversationId,
    messages: [newMessage({ content: "one" }), newMessage({ content: "two" })],
    requestId: randomUUID(),
  });
  await stubs.call("updateState", { conversationId, state: "{}", requestId: randomUUID() });
  return conversationId;
}

const sweep = (sweeper = sweepers[0]!, now = new Date()) =>
  sweeper.sweep(now, AbortSignal.timeout(30_000));
const past = () => new Date(Date.now() - 1_000);
const remains = (id: bigint) => withClient(database.url, (client) => rowsOf(client, id, LOGS));
const sqlUpdate = (text: string, values: unknown[]) =>
  withClient(database.url, (client) => client.query(text, values));

test("two servers that sweep at once remove each session once, with all that belongs to it", async () => {
  const due = await Promise.all(Array.from({ length: 130 }, () => fullSession(past())));
  const kept = [await fullSession(), await fullSession(new Date(Date.now() + 3_600_000))];
  const swept = await Promise.all([sweep(sweepers[0]), sweep(sweepers[1]), sweep(sweepers[0])]);
  // What one holds the others leave; nothing is left over in the end.
  const last = await sweep();
  const expired = [...swept, last].reduce((sum, one) => sum + one.expired, 0);
  expect(expired).toBe(due.length);
  for (const id of due) expect(await remains(id)).toEqual({});
  for (const id of kept) expect(Object.keys(await remains(id))).toContain("conversation_messages");
  const events = await allEvents(stubs.channel, { rpc: "ExpireSession" });
  expect(new Set(events.map(({ conversationId }) => conversationId))).toEqual(new Set(due));
  expect(events).toHaveLength(due.length);
  for (const { principal, peer, fields } of events) {
    expect({ principal, peer, fields }).toEqual({
      principal: "system",
      peer: "",
      fields: ["expires_at"],
    });
  }
  await assertCountersAgree(database.url);
  await assertChangesTile(database.url);
});

test("a session that is being extended stays, and holds nobody up", async () => {
  const [held, other] = [await fullSession(past()), await fullSession(past())];
  await withClient(database.url, async (client) => {
    await client.query("BEGIN");
    await client.query("UPDATE conversations SET expires_at = NULL WHERE id = $1", [held]);
    await client.query("UPDATE session_labels SET expires_at = NULL WHERE conversation_id = $1", [
      held,
    ]);
    expect(await sweep()).toMatchObject({ expired: 1 });
    await client.query("COMMIT");
  });
  expect(await sweep()).toMatchObject({ expired: 0 });
  expect(await remains(other)).toEqual({});
  expect((await stubs.call("getSession", { conversationId: held })).session!.lastSeq).toBe(2n);
});

test("its own row decides, whatever the labels still say", async () => {
  const id = await fullSession(past());
  await sqlUpdate("UPDATE conversations SET expires_at = NULL WHERE id = $1", [id]);
  expect(await sweep()).toMatchObject({ expired: 0 });
  expect(Object.keys(await remains(id))).toContain("conversations");
});

test("one that cannot be removed does not keep the others", async () => {
  const stuck = await fullSession(new Date(Date.now() - 10_000));
  const others = await Promise.all(Array.from({ length: 5 }, () => fullSession(past())));
  await sqlUpdate("CREATE TABLE mine (session bigint REFERENCES conversations (id))", []);
  await sqlUpdate("INSERT INTO mine VALUES ($1)", [stuck]);
  expect(await sweep()).toMatchObject({ expired: others.length });
  expect((await stubs.call("getMessages", { conversationId: stuck })).messages).toHaveLength(2);
  await sqlUpdate("DELETE FROM mine WHERE session = $1", [stuck]);
  expect(await sweep()).toMatchObject({ expired: 1 });
});

describe("retention", () => {
  const retain = (modelId: string, days: number | undefined) =>
    adminCall(stubs.channel, "updateModelPolicy", {
      policy: {
        modelId,
        ...(days !== undefined && { retention: { seconds: BigInt(days * 86_400), nanos: 0 } }),
      },
      updateMask: ["retention"],
    });
  const age = async (id: bigint, changed: number, said: number | null) => {
    const at = (days: number) => new Date(Date.now() - days * DAY_MS);
    await sqlUpdate(
      "UPDATE conversations SET created_at = $2, updated_at = $2, last_message_ms = $3 WHERE id = $1",
      [id, at(changed), said === null ? null : at(said).getTime()],
    );
  };

  test("removes what has neither been said nor changed anything for so long", async () => {
    const [rested, changed, said, ahead, fresh, silent, elsewhere] = [
      await fullSession(undefined, "kept-30"),
      await fullSession(undefined, "kept-30"),
      await fullSession(undefined, "kept-30"),
      await fullSession(undefined, "kept-30"),
      await fullSession(undefined, "kept-30"),
      await fullSession(undefined, "kept-30"),
      await fullSession(undefined, "kept"),
    ];
    await age(rested, 31, 40);
    await age(changed, 29, 5_000);
    await age(said, 31, 29);
    await age(ahead, 31, -400);
    await age(silent, 31, null);
    await age(elsewhere, 999, 999);
    expect(await sweep()).toMatchObject({ rested: 0 });
    await retain("kept-30", 30);
    const both = await Promise.all(sweepers.map((sweeper) => sweep(sweeper)));
    expect(both.reduce((sum, one) => sum + one.rested, 0) + (await sweep()).rested).toBe(2);
    expect(await remains(rested)).toEqual({});
    expect(await remains(silent)).toEqual({});
    for (const id of [changed, said, ahead, fresh, elsewhere]) {
      expect(Object.keys(await remains(id))).toContain("conversations");
    }
    const events = await allEvents(stubs.channel, { rpc: "ExpireSession" });
    expect(events.map(({ fields }) => fields)).toEqual([["retention"], ["retention"]]);
    // What it holds for, it holds for as long as it is set.
    await retain("kept-30", undefined);
    await age(fresh, 99, 99);
    expect(await sweep()).toMatchObject({ rested: 0 });
  });

  test("is each tenant's own", async () => {
    const id = await fullSession(undefined, "shared");
    await age(id, 99, 99);
    await sqlUpdate("UPDATE conversations SET tenant_id = 'other' WHERE id = $1", [id]);
    await retain("shared", 30);
    expect(await sweep()).toMatchObject({ rested: 0 });
    await sqlUpdate("UPDATE model_policies SET tenant_id = 'other'", []);
    expect(await sweep()).toMatchObject({ rested: 1 });
    const inbox = await sqlUpdate(
      "SELECT tenant_id FROM audit_inbox WHERE rpc = 'ExpireSession'",
      [],
    );
    expect(inbox.rows).toEqual([{ tenant_id: "other" }]);
  });
});

test("forgets kept answers after seven days, those of deleted sessions too", async () => {
  const write = { modelId: "gpt-4", requestId: randomUUID() };
  const conversationId = (await stubs.call("createSession", write)).session!.id;
  const message = newMessage({ content: "once" });
  const append = { conversationId, message, requestId: randomUUID() };
  await stubs.call("addMessage", append);
  const gone = await fullSession();
  await stubs.call("deleteSession", { conversationId: gone, requestId: randomUUID() });
  const almost = new Date(Date.now() + 7 * DAY_MS - 60_000);
  expect(await sweep(sweepers[0], almost)).toMatchObject({ answers: 0 });
  expect((await stubs.call("addMessage", append)).replayed).toBe(true);
  const later = new Date(Date.now() + 7 * DAY_MS + 60_000);
  const both = await Promise.all(sweepers.map((sweeper) => sweep(sweeper, later)));
  expect(both.reduce((sum, one) => sum + one.answers, 0)).toBe(3);
  expect(await remains(gone)).toEqual({});
  // Nor is the change log kept, which has no readers here.
  await until("the change log is empty", async () => {
    await sweep(sweepers[0], later);
    return (await sqlUpdate("SELECT FROM session_changes", [])).rowCount === 0;
  });
  expect((await stubs.call("addMessage", append)).replayed).toBe(false);
});

test("servers sweep by themselves, and stop when they stop", async () => {
  const sweeping = [
    await startServer({ databaseUrl: database.url, sweepMs: 10 }),
    await startServer({ databaseUrl: database.url, sweepMs: 10 }),
  ];
  const due = await Promise.all(Array.from({ length: 20 }, () => fullSession()));
  for (const id of due) {
    const session = { id, expiresAt: past() } as AgentSession;
    await stubs.call("updateSession", { session, updateMask: ["expires_at"] });
  }
  await until("all are removed", async () => {
    const left = await sqlUpdate("SELECT 1 FROM conversations WHERE id = ANY ($1)", [due]);
    return left.rows.length === 0;
  });
  for (const one of sweeping) await one.stop();
  const events = await allEvents(stubs.channel, { rpc: "ExpireSession" });
  expect(events).toHaveLength(due.length);
});
