// The statements of a group of appends are planned once for each connection, by the primary keys.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { Database, planOnce, statement } from "../../server/db/database.js";
import { appendGroup } from "../../server/messages/append-group.js";
import { SessionHeads } from "../../server/messages/session-heads.js";
import * as sql from "../../server/messages/sql.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { newMessage } from "../harness/stubs.js";

const { signal } = new AbortController();
const GROUPS = 20;

let database: TestDatabase;
// One connection, whose statements can be looked at.
let db: Database;

beforeAll(async () => {
  database = await createDatabase();
  db = new Database(database.url, { poolSize: 1 });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const WRITTEN = ["conversations", "conversation_messages", "session_changes", "models"];

async function run(...texts: string[]): Promise<void> {
  await withClient(database.url, async (client) => {
    for (const text of texts) await client.query(text);
  });
}

const addSessions = (count: number) =>
  `INSERT INTO conversations (model_id) SELECT 'm' FROM generate_series(1, ${count})`;

// Of one session and of two, in one round trip and in two.
async function appendGroups(): Promise<void> {
  const heads = new SessionHeads();
  for (let n = 0; n < GROUPS; n++) {
    const appends = [1n, 2n].slice(0, (n % 2) + 1).map((conversationId) => ({
      conversationId,
      tenant: "default",
      by: "test",
      requestId: randomUUID(),
      fingerprint: Buffer.from("f"),
      fencingToken: 0n,
      messages: [newMessage({ role: Role.USER, content: "text" })],
    }));
    const known = n % 4 < 2 ? heads : new SessionHeads();
    const { outcomes } = await appendGroup(db, known, appends, sql.lockSessions, signal);
    expect(outcomes.map(({ kind }) => kind)).toEqual(appends.map(() => "appended"));
  }
}

interface Planned {
  name: string;
  generic: bigint;
  custom: bigint;
}
const planned = statement<Planned>(
  "planned",
  `SELECT name, generic_plans AS generic, custom_plans AS custom FROM pg_prepared_statements
    WHERE name IN ('check_heads', 'lock_sessions', 'advance_sessions', 'insert_messages',
                   'insert_changes', 'insert_conversation_requests')
    ORDER BY name`,
);

async function counts(): Promise<Map<string, Planned>> {
  const rows = await db.query(planned, [], signal);
  return new Map(rows.map((row) => [row.name, row]));
}

// The plan that the connection keeps.
async function planOf(name: string, parameters: number): Promise<string> {
  const nulls = Array.from({ length: parameters }, () => "NULL").join(", ");
  const explain = statement<{ "QUERY PLAN": string }>(
    `explain_${name}`,
    `EXPLAIN (COSTS OFF) EXECUTE ${name}(${nulls})`,
  );
  const rows = await db.transaction(async (transaction) => {
    await transaction.query(planOnce.statement, []);
    return await transaction.query(explain, []);
  }, signal);
  return rows.map((row) => row["QUERY PLAN"]).join("\n");
}

test("a plan that was made for a few sessions is that for many, and is not made again", async () => {
  const quiet = WRITTEN.map((table) => `ALTER TABLE ${table} SET (autovacuum_enabled = false)`);
  await run(...quiet, "INSERT INTO models (id) VALUES ('m')", addSessions(2), "ANALYZE");
  await appendGroups();
  const before = await counts();
  expect([...before.keys()]).toHaveLength(6);
  await run(addSessions(5_000));
  await appendGroups();
  for (const [name, { custom, generic }] of await counts()) {
    // The first run on a connection, with NULL for all parameters, is a transaction of its own.
    expect(custom, name).toBeLessThanOrEqual(1n);
    expect(generic, name).toBeGreaterThan(before.get(name)?.generic ?? 0n);
  }
  for (const [name, parameters] of [
    ["check_heads", 5],
    ["lock_sessions", 1],
    ["advance_sessions", 16],
  ] as const) {
    const plan = await planOf(name, parameters);
    expect(plan).toContain("using conversations_pkey on conversations");
    expect(plan).not.toMatch(/Seq Scan|Hash|Merge/);
  }
});

test("what comes after the group on its connection is planned as ever", async () => {
  await appendGroups();
  const setting = statement<{ mode: string; seqscan: string }>(
    "settings",
    `SELECT current_setting('plan_cache_mode') AS mode, current_setting('enable_seqscan') AS seqscan`,
  );
  expect(await db.query(setting, [], signal)).toEqual([{ mode: "auto", seqscan: "on" }]);
});
