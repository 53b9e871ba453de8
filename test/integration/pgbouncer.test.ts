// The service through a PgBouncer in transaction mode that has fewer connections than its pool.
import { randomInt } from "node:crypto";
import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentStoreClient, AgentStoreError } from "../../client/index.js";
import { checkSchema, migrate } from "../../server/db/migrations.js";
import { projectRoot } from "../../server/paths.js";
import { assertCountersAgree } from "../harness/counters.js";
import { checkHealth, watchHealth } from "../harness/health.js";
import { type PgBouncer, pgBouncerIsThere, startPgBouncer } from "../harness/pgbouncer.js";
import {
  createDatabase,
  createEmptyDatabase,
  type TestDatabase,
  withClient,
} from "../harness/postgres.js";
import { holdSession, until, untilBlocked, untilQuiet } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { failureOf, newMessage, Stubs } from "../harness/stubs.js";
import { assertTold, SessionsWatcher, SessionWatcher } from "../harness/watching.js";

const CONNECTIONS = 3;
const POOL = 8;

describe.skipIf(!pgBouncerIsThere())("PgBouncer (skipped where pgbouncer is not installed)", () => {
  let database: TestDatabase;
  let bouncer: PgBouncer;
  let server: TestServer;
  let stubs: Stubs;

  beforeAll(async () => {
    database = await createDatabase();
    bouncer = await startPgBouncer(database.url, CONNECTIONS);
    server = await startServer({ databaseUrl: bouncer.url, poolSize: POOL });
    stubs = new Stubs(server.address);
  });

  afterAll(async () => {
    stubs?.close();
    await server?.stop();
    await bouncer?.stop();
    await database?.drop();
  });

  async function createSession(): Promise<bigint> {
    const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
    return session!.id;
  }

  async function contentsOf(conversationId: bigint): Promise<string[]> {
    const read = await stubs.readStream({ conversationId, pageSize: 50 });
    return read.flatMap(({ messages }) => messages.map(({ content }) => content));
  }

  test("watches are told without LISTEN, of what another server writes too", async () => {
    const other = await startServer({ databaseUrl: bouncer.url, poolSize: 2 });
    const writer = new Stubs(other.address);
    const id = await createSession();
    const watcher = new SessionWatcher(stubs.channel, id);
    const ofAll = new SessionsWatcher(stubs.channel, { modelId: "gpt-4" });
    await Promise.all([watcher.untilKind("caughtUp"), ofAll.untilKind("caughtUp")]);
    for (const content of ["a", "b", "c"]) {
      await writer.call("addMessage", { conversationId: id, message: newMessage({ content }) });
      for (const watch of [watcher, ofAll]) {
        await watch.until(content, (told) => told.at(-1)?.content === content);
      }
    }
    await assertTold(database.url, id, watcher.told, 1n);
    for (const watch of [watcher, ofAll]) watch.cancel();
    await writer.call("deleteSession", { conversationId: id });
    writer.close();
    await other.stop();
  });

  test("many callers of all RPCs at once, some of whom go away", async () => {
    const sessions = await Promise.all(Array.from({ length: 6 }, createSession));
    const acknowledged = new Map<string, { id: bigint; seq: bigint }>();
    const caller = async (name: number) => {
      for (let round = 0; round < 25; round++) {
        const id = sessions[randomInt(sessions.length)]!;
        const content = `caller ${name} round ${round}`;
        const abort = new AbortController();
        const timer = setTimeout(() => abort.abort(), round % 3 === 0 ? randomInt(200) : 60_000);
        await Promise.all([
          stubs
            .call(
              "addMessages",
              {
                conversationId: id,
                messages: [newMessage({ content })],
                requestId: round % 2 ? content : "",
              },
              abort,
            )
            .then(({ messages }) => acknowledged.set(content, { id, seq: messages[0]!.seq })),
          stubs.readStream({ conversationId: id, pageSize: 7 }, abort),
          round % 4 === 0 && stubs.call("searchMessages", { query: `ROUND ${round}` }, abort),
          round % 5 === 0 && stubs.call("listSessions", { pageSize: 3 }, abort),
          round % 6 === 0 && stubs.call("getSessionStats", { conversationId: id }, abort),
          round % 7 === 0 &&
            stubs
              .call("getSession", { conversationId: id }, abort)
              .then(({ session }) =>
                stubs.call("updateSession", { session, updateMask: ["title"] }, abort),
              ),
        ]).catch((error: AgentStoreError) => {
          if (!abort.signal.aborted) throw error;
          expect(error.code).toBe("CANCELLED");
        });
        clearTimeout(timer);
      }
    };
    await Promise.all(Array.from({ length: 24 }, (_, name) => caller(name)));
    expect(acknowledged.size).toBeGreaterThanOrEqual(24 * 16);
    await untilQuiet(database.url);
    expect(await assertCountersAgree(database.url)).toBe(sessions.length);
    const contents = new Map<bigint, string[]>();
    for (const id of sessions) contents.set(id, await contentsOf(id));
    for (const [content, { id, seq }] of acknowledged) {
      expect(contents.get(id)![Number(seq) - 1]).toBe(content);
    }
    const all = [...contents.values()].flat();
    expect(new Set(all).size).toBe(all.length);
  });

  test("a cancelled call and one past its deadline end in Postgres", async () => {
    const conversationId = await createSession();
    const { session } = await stubs.call("getSession", { conversationId });
    const change = { session, updateMask: ["title"] };
    for (const options of [{ deadlineMs: 300 }, { signal: new AbortController() }]) {
      const lock = await holdSession(database.url, conversationId);
      const { signal: abort, ...deadline } = options as {
        signal?: AbortController;
        deadlineMs?: number;
      };
      const signal = abort && { signal: abort.signal };
      const failure = failureOf(stubs.call("updateSession", change, { ...deadline, ...signal }));
      await untilBlocked(database.url);
      abort?.abort();
      expect((await failure).code).toBe(abort ? "CANCELLED" : "DEADLINE_EXCEEDED");
      await untilQuiet(database.url);
      await lock.release();
    }
    const after = await stubs.call("getSession", { conversationId });
    expect(after.session?.revision).toBe(session?.revision);
  });

  test("calls that wait for a session leave room for others, and are all answered", async () => {
    const [held, free] = [await createSession(), await createSession()];
    const lock = await holdSession(database.url, held);
    const append = (conversationId: bigint, n: number) =>
      stubs.call("addMessage", { conversationId, message: newMessage({ content: `${n}` }) });
    const waiting = Array.from({ length: 10 }, (_, n) => append(held, n));
    await untilBlocked(database.url);
    for (let n = 0; n < 10; n++) await append(free, n);
    expect(await checkHealth(stubs)).toBe("SERVING");
    await lock.release();
    await Promise.all(waiting);
    expect((await contentsOf(held)).length).toBe(10);
  });

  test("writes wait for the disk, and nothing is left in connections that others use", async () => {
    await withClient(database.url, (client) =>
      client.query(`
        CREATE TABLE commits (setting text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN
            INSERT INTO commits VALUES (current_setting('synchronous_commit'));
            RETURN NULL;
          END $$;
        CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON conversations
          FOR EACH ROW EXECUTE FUNCTION note();`),
    );
    const ids = await Promise.all(Array.from({ length: 12 }, createSession));
    await Promise.all(
      ids.map((conversationId) =>
        stubs.call("addMessage", { conversationId, message: newMessage() }),
      ),
    );
    await withClient(database.url, async (client) => {
      const { rows } = await client.query("SELECT setting, count(*)::int FROM commits GROUP BY 1");
      expect(rows).toEqual([{ setting: "on", count: 24 }]);
    });
    await withClient(bouncer.url, async (client) => {
      const { rows } = await client.query(
        `SELECT current_setting('synchronous_commit') AS durable,
                current_setting('idle_in_transaction_session_timeout') AS idle,
                (SELECT count(*)::int FROM pg_prepared_statements) AS statements,
                (SELECT count(*)::int FROM pg_locks
                  WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks`,
      );
      expect(rows).toEqual([{ durable: "off", idle: "0", statements: 0, locks: 0 }]);
    });
  });

  test("it is killed and comes back: nothing is lost, nothing is there twice", async () => {
    const client = new AgentStoreClient({ url: server.url, timeoutMs: 30_000 });
    const conversationId = await createSession();
    const health = watchHealth(stubs);
    await health.until("SERVING");
    let killed = 0;
    let writing = true;
    const acknowledged: string[] = [];
    const refused: string[] = [];
    const writers = Array.from({ length: 6 }, async (_, writer) => {
      for (let n = 0; writing; n++) {
        const content = `${writer}.${n}`;
        await client.addMessage(conversationId, "user", content).then(
          () => acknowledged.push(content),
          (error: unknown) => {
            expect(error).toBeInstanceOf(AgentStoreError);
            expect((error as AgentStoreError).code).toBe("UNAVAILABLE");
            refused.push(content);
          },
        );
      }
    });
    for (; killed < 2; killed++) {
      const before = acknowledged.length;
      await until("appends go on", () => acknowledged.length > before + 50);
      await bouncer.kill();
      await health.until("NOT_SERVING");
      await bouncer.start();
      await health.until("SERVING");
    }
    const before = acknowledged.length;
    await until("appends go on", () => acknowledged.length > before + 50);
    writing = false;
    await Promise.all(writers);
    health.stop();
    client.close();
    const stored = await contentsOf(conversationId);
    expect(new Set(stored).size).toBe(stored.length);
    const lost = acknowledged.filter((content) => !stored.includes(content));
    expect(lost).toEqual([]);
    const known = new Set([...acknowledged, ...refused]);
    expect(stored.filter((content) => !known.has(content))).toEqual([]);
    await assertCountersAgree(database.url);
  });

  test("migrations run through it, one runner at a time, with an index built beside", async () => {
    const directory = await mkdtemp(join(tmpdir(), "agentstore-migrations-"));
    const empty = await createEmptyDatabase();
    const other = await startPgBouncer(empty.url, CONNECTIONS);
    try {
      await cp(join(projectRoot, "migrations"), directory, { recursive: true });
      const known = (await readdir(directory)).length;
      const number = (offset: number) => String(known + offset).padStart(4, "0");
      const probe = "CREATE TABLE probe (id int); SELECT pg_sleep(0.2)";
      await writeFile(join(directory, `${number(1)}_probe.sql`), probe);
      const index = "-- no-transaction\nCREATE INDEX CONCURRENTLY probe_index ON probe (id)";
      await writeFile(join(directory, `${number(2)}_probe_index.sql`), index);
      const runs = await Promise.all(
        // As many runners as there are connections would wait for each other.
        Array.from({ length: 2 }, () => migrate(other.url, { directory })),
      );
      expect(new Set(runs.map(({ from }) => from))).toEqual(new Set([0, known + 2]));
      await checkSchema(other.url, { directory });
      await withClient(other.url, async (client) => {
        const { rows } = await client.query(
          `SELECT current_setting('statement_timeout') AS statement,
                  current_setting('lock_timeout') AS lock,
                  current_setting('client_min_messages') AS messages,
                  (SELECT count(*)::int FROM pg_locks
                    WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks`,
        );
        expect(rows).toEqual([{ statement: "0", lock: "0", messages: "notice", locks: 0 }]);
      });
    } finally {
      await other.stop();
      await empty.drop();
      await rm(directory, { recursive: true, force: true });
    }
  });
});
