// Exports and imports beside other work: one snapshot, few connections, nothing half done.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ExportFormat } from "../../gen/agentstore/v1/transfer.js";
import { limits } from "../../server/config.js";
import { allEvents } from "../harness/admin-stubs.js";
import { assertCountersAgree } from "../harness/counters.js";
import { createDatabase, withClient } from "../harness/postgres.js";
import { poolActivity } from "../harness/postgres-watch.js";
import { spawnServer, startServer, type TestServer } from "../harness/server.js";
import { failureOf, newMessage, Stubs } from "../harness/stubs.js";
import {
  exportAll,
  importAll,
  openExport,
  openImport,
  piecesOf,
} from "../harness/transfer-stubs.js";

const format = ExportFormat.JSONL;
const POOL = 8;
/** A quarter of the pool's connections. */
const AT_ONCE = 2;

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer({ poolSize: POOL });
  stubs = new Stubs(server.address);
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

async function newSession(modelId: string, messages: number, bytes = 10): Promise<bigint> {
  const { session } = await stubs.call("createSession", { modelId });
  const conversationId = session!.id;
  const content = "x".repeat(bytes);
  for (let left = messages; left > 0; left -= 100) {
    const batch = Array.from({ length: Math.min(left, 100) }, () => newMessage({ content }));
    await stubs.call("addMessages", { conversationId, messages: batch });
  }
  return conversationId;
}

/** A model whose first session is far larger than what is on its way at any time. */
async function newModel(): Promise<{ modelId: string; large: bigint; small: bigint[] }> {
  const modelId = `model-${randomUUID()}`;
  const large = await newSession(modelId, 200, 100_000);
  const small = [
    await newSession(modelId, 2),
    await newSession(modelId, 2),
    await newSession(modelId, 2),
  ];
  return { modelId, large, small };
}

interface Line {
  session?: { id: string; lastSeq?: string; title?: string };
  message?: { message: { conversationId: string; content: string } };
}

function linesOf(chunks: Buffer[]): Line[] {
  const lines = Buffer.concat(chunks).toString().split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Line);
}

describe("an export", () => {
  test("is one snapshot, whatever others write meanwhile", async () => {
    const { modelId, small } = await newModel();
    const [one, two, three] = small as [bigint, bigint, bigint];
    const reader = piecesOf(openExport(stubs.channel, { format, modelId }));
    const chunks = [((await reader.next()).value as { chunk: Buffer }).chunk];
    // The large session is on its way; these come behind it.
    await stubs.call("addMessage", { conversationId: one, message: newMessage() });
    await stubs.call("deleteSession", { conversationId: two });
    await stubs.call("updateSession", {
      session: { id: three, title: "later" } as never,
      updateMask: ["title"],
    });
    await newSession(modelId, 1);
    for await (const { chunk } of reader) chunks.push(chunk);
    const sessions = linesOf(chunks).flatMap(({ session }) => session ?? []);
    expect(sessions.slice(1)).toMatchObject(small.map((id) => ({ id: String(id), lastSeq: "2" })));
    expect(sessions.at(-1)).not.toHaveProperty("title");
    // A later one shows it all.
    const later = linesOf([await exportAll(stubs.channel, { format, modelId })]);
    const now = later.flatMap(({ session }) => session ?? []);
    expect(now.map(({ id }) => id)).not.toContain(String(two));
    expect(now).toHaveLength(4);
  });

  test("leaves connections to others, and says so when too many run", async () => {
    const { modelId } = await newModel();
    const open = [];
    for (let n = 0; n < AT_ONCE; n++) {
      const stream = openExport(stubs.channel, { format, modelId });
      const reader = piecesOf(stream);
      await reader.next();
      open.push({ stream, reader });
    }
    const refused = await failureOf(exportAll(stubs.channel, { format, modelId }));
    expect(refused).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
    expect(refused.metadata).toEqual({ limit: String(AT_ONCE) });
    expect(refused.retryDelayMs).toBeGreaterThan(0);
    await Promise.all(Array.from({ length: 40 }, () => newSession("other", 1)));
    // One that goes away makes room, and leaves nothing open in Postgres.
    for (const { stream, reader } of open) {
      stream.cancel();
      await failureOf(reader.next().then(() => reader.next().then(() => drain(reader))));
    }
    await expect.poll(openTransactions, { timeout: 30_000 }).toBe(0);
    const bytes = await exportAll(stubs.channel, { format, modelId });
    expect(linesOf([bytes])).toHaveLength(1 + 4 * 2 + 200 + 6);
  });

  test("whose reader stands still gives its connection back, and is resumed", async () => {
    const { callMs } = limits;
    Object.assign(limits, { callMs: 3_000 });
    const impatient = await startServer({ databaseUrl: server.databaseUrl, poolSize: POOL });
    Object.assign(limits, { callMs });
    const other = new Stubs(impatient.address);
    try {
      const modelId = `model-${randomUUID()}`;
      const first = await newSession(modelId, 2, 100_000);
      await newSession(modelId, 200, 100_000);
      const reader = piecesOf(openExport(other.channel, { format, modelId }));
      const piece = (await reader.next()).value as { chunk: Buffer; resumeToken: string };
      expect(piece.resumeToken).not.toBe("");
      // What is on its way fills up, then nothing happens any more; then the server has had enough. That is
      // long enough for a busy machine to see it wait.
      const { pid } = await waitingTransaction();
      await expect.poll(async () => await isOpen(pid), { timeout: 30_000 }).toBe(false);
      const cut = await failureOf(drain(reader));
      expect(cut.reason).toBe("DEADLINE_EXCEEDED");
      const { resumeToken } = piece;
      const rest = await exportAll(stubs.channel, { format, modelId, resumeToken });
      const ids = linesOf([piece.chunk, rest]).flatMap(({ session }) => session?.id ?? []);
      expect(ids).toHaveLength(2);
      expect(ids[0]).toBe(String(first));
    } finally {
      other.close();
      await impatient.stop();
    }
  });

  test("of a server that shuts down ends with SHUTTING_DOWN", async () => {
    const { modelId, small } = await newModel();
    const whole = await exportAll(stubs.channel, { format, conversationIds: [small[0]!] });
    const leaving = await startServer({ databaseUrl: server.databaseUrl });
    const other = new Stubs(leaving.address);
    const reader = piecesOf(openExport(other.channel, { format, modelId }));
    await reader.next();
    const importing = openImport(other.channel, randomUUID());
    await importing.write(whole);
    const imported = async () => (await stubs.call("listSessions", { modelId })).sessions.length;
    await expect.poll(imported, { timeout: 30_000 }).toBe(5);
    const stopped = leaving.stop();
    const failures = await Promise.all([failureOf(importing.answer), failureOf(drain(reader))]);
    expect(failures.map(({ reason }) => reason)).toEqual(["SHUTTING_DOWN", "SHUTTING_DOWN"]);
    await stopped;
    other.close();
  });
});

describe("an import", () => {
  test("that nobody goes on with is given up, and leaves nothing of the session", async () => {
    const { callMs } = limits;
    Object.assign(limits, { callMs: 500 });
    const impatient = await startServer({ databaseUrl: server.databaseUrl, poolSize: POOL });
    Object.assign(limits, { callMs });
    const other = new Stubs(impatient.address);
    try {
      const modelId = `model-${randomUUID()}`;
      await newSession(modelId, 2_500);
      const bytes = await exportAll(stubs.channel, { format, modelId });
      const importId = randomUUID();
      const open = openImport(other.channel, importId);
      await open.write(bytes.subarray(0, bytes.length - 100));
      expect((await failureOf(open.answer)).reason).toBe("DEADLINE_EXCEEDED");
      await expect.poll(openTransactions, { timeout: 30_000 }).toBe(0);
      const listed = async () => (await stubs.call("listSessions", { modelId })).sessions.length;
      expect(await listed()).toBe(1);
      const { sessions } = await importAll(stubs.channel, importId, bytes);
      expect(sessions).toMatchObject([{ replayed: false }]);
      expect(await listed()).toBe(2);
    } finally {
      other.close();
      await impatient.stop();
    }
  });

  test("whose server is killed leaves no session, no audit event and no trace", async () => {
    const database = await createDatabase();
    const modelId = `model-${randomUUID()}`;
    await newSession(modelId, 3_000);
    const bytes = await exportAll(stubs.channel, { format, modelId });
    const spawned = await spawnServer(["--database-url", database.url, "--log-level", "warn"]);
    const other = new Stubs(spawned.address);
    const count = (table: string) =>
      withClient(database.url, async (client) => {
        const { rows } = await client.query<{ n: number }>(
          `SELECT count(*)::int AS n FROM ${table}`,
        );
        return rows[0]!.n;
      });
    try {
      const open = openImport(other.channel, "import");
      await open.write(bytes.subarray(0, bytes.length - 100));
      // Rows are written, and not committed.
      const written = () =>
        withClient(database.url, async (client) => {
          const { rows } = await client.query<{ rows: number }>(
            `SELECT pg_relation_size('conversation_messages')::int AS rows`,
          );
          return rows[0]!.rows > 0;
        });
      await expect.poll(written, { timeout: 30_000 }).toBe(true);
      expect(await spawned.end("SIGKILL")).toBeNull();
      const idle = async () => (await poolActivity(database.url)).length;
      await expect.poll(idle, { timeout: 30_000 }).toBe(0);
      for (const table of [
        "conversations",
        "conversation_messages",
        "session_imports",
        "audit_inbox",
        "audit_events",
      ]) {
        expect({ table, rows: await count(table) }).toEqual({ table, rows: 0 });
      }
      const next = await startServer({ databaseUrl: database.url });
      const again = new Stubs(next.address);
      await importAll(again.channel, "import", bytes);
      expect(await count("conversation_messages")).toBe(3_000);
      expect(await assertCountersAgree(database.url)).toBe(1);
      const events = await allEvents(again.channel);
      expect(events).toMatchObject([{ rpc: "ImportSessions", requestId: "import" }]);
      again.close();
      await next.stop();
    } finally {
      other.close();
      await spawned.end("SIGKILL");
      await database.drop();
    }
  });

  test("of a model that the database does not let the service register", async () => {
    const own = await createDatabase();
    await withClient(own.url, (client) =>
      client.query("ALTER TABLE models ADD COLUMN region text NOT NULL"),
    );
    const strict = await startServer({ databaseUrl: own.url });
    const other = new Stubs(strict.address);
    try {
      const modelId = `model-${randomUUID()}`;
      await newSession(modelId, 1);
      const bytes = await exportAll(stubs.channel, { format, modelId });
      const refused = await failureOf(importAll(other.channel, randomUUID(), bytes));
      expect(refused).toMatchObject({ reason: "MODEL_NOT_REGISTERED" });
    } finally {
      other.close();
      await strict.stop();
      await own.drop();
    }
  });
});

describe("a long session", () => {
  test("goes out and in again in memory that does not grow with it", async () => {
    const database = await createDatabase();
    const MESSAGES = 100_000;
    const CONTENT = 1_000;
    const MIB = 1024 * 1024;
    await withClient(database.url, async (client) => {
      await client.query("INSERT INTO models (id) VALUES ('m')");
      await client.query(
        `INSERT INTO conversations (model_id, last_seq, revision, message_count, user_messages,
           total_characters, first_message_ms, last_message_ms, first_message)
         VALUES ('m', $1::int, 1 + $1::int, $1::int, $1::int, $1::bigint * $2::int,
           1, $1::int, left(lpad('1', $2::int, 'x'), 200))`,
        [MESSAGES, CONTENT],
      );
      await client.query("ALTER TABLE conversation_messages ALTER content SET STORAGE PLAIN");
      await client.query(
        `INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
         SELECT 1, n, 1 + n, 'user', lpad(n::text, $2::int, 'x'), n
           FROM generate_series(1, $1::int) AS n`,
        [MESSAGES, CONTENT],
      );
    });
    const spawned = await spawnServer(["--database-url", database.url, "--log-level", "warn"]);
    const own = new Stubs(spawned.address);
    try {
      const resident = () =>
        Number(
          /^VmRSS:\s+(\d+) kB$/m.exec(
            readFileSync(`/proc/${spawned.child.pid}/status`, "utf8"),
          )![1],
        ) * 1024;
      // What a server needs once it has worked at all is no growth.
      await exportAll(own.channel, { format, modelId: "none" });
      // In the first third whatever is to grow has grown; of a leak, the rest would be twice that.
      let early = 0;
      let late = 0;
      let bytes = 0;
      const open = openImport(own.channel, "long");
      for await (const piece of piecesOf(openExport(own.channel, { format, modelId: "m" }))) {
        bytes += piece.chunk.length;
        await open.write(piece.chunk);
        if (bytes < (MESSAGES * CONTENT) / 3) early = Math.max(early, resident());
        else late = Math.max(late, resident());
      }
      open.end();
      const { sessions, messages } = await open.answer;
      expect(messages).toBe(BigInt(MESSAGES));
      late = Math.max(late, resident());
      process.stdout.write(
        `long session: ${Math.round(bytes / MIB)} MiB out and in again, memory ` +
          `${Math.round(early / MIB)} MiB after a third, ${Math.round(late / MIB)} MiB at most
`,
      );
      expect(bytes).toBeGreaterThan(MESSAGES * CONTENT);
      expect(late - early).toBeLessThan(55 * MIB);
      const { session } = await own.call("getSession", {
        conversationId: sessions[0]!.conversationId,
      });
      expect(session!.lastSeq).toBe(BigInt(MESSAGES));
      expect(await assertCountersAgree(database.url)).toBe(2);
    } finally {
      own.close();
      await spawned.end("SIGTERM");
      await database.drop();
    }
  }, 180_000);
});

async function drain(reader: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of reader);
}

/** Waits for a transaction that stands still: in which nothing has run for a moment. */
async function waitingTransaction(): Promise<{ pid: number }> {
  return await withClient(server.databaseUrl, async (client) => {
    for (;;) {
      const { rows } = await client.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity
          WHERE datname = current_database() AND state = 'idle in transaction'
            AND state_change < clock_timestamp() - interval '100 ms'`,
      );
      if (rows[0]) return rows[0];
    }
  });
}

async function isOpen(pid: number): Promise<boolean> {
  const activity = await poolActivity(server.databaseUrl);
  return activity.some((one) => one.pid === pid && one.state === "idle in transaction");
}

async function openTransactions(): Promise<number> {
  const activity = await poolActivity(server.databaseUrl);
  return activity.filter(({ state }) => state === "idle in transaction").length;
}
