// Health follows the database, and calls meanwhile fail fast and say when to come back.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { AgentStoreError } from "../../../client/errors.js";
import { databaseUrl, killPostgres, postgresProcesses, postmasterOf } from "../../harness/chaos.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { checkHealth, SERVICES, watchHealth } from "../../harness/health.js";
import { createDatabase, withClient } from "../../harness/postgres.js";
import { until } from "../../harness/postgres-watch.js";
import { proxyToPostgres } from "../../harness/proxy.js";
import { spawnServer, startServer } from "../../harness/server.js";
import { failureOf, newMessage, Stubs } from "../../harness/stubs.js";

test("NOT_SERVING while Postgres is away, SERVING again by itself", async () => {
  const database = await createDatabase();
  const proxy = await proxyToPostgres(database.url);
  const server = await startServer({ databaseUrl: proxy.address, poolSize: 3 });
  const stubs = new Stubs(server.address);
  try {
    const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
    const conversationId = session!.id;
    for (const name of SERVICES) expect(await checkHealth(stubs, name)).toBe("SERVING");
    const watches = SERVICES.map((name) => watchHealth(stubs, name));
    for (const watch of watches) await watch.until("SERVING");

    await proxy.refuse();
    const options = { deadlineMs: 10_000 };
    const message = newMessage();
    const append = { conversationId, message, requestId: "in vain" };
    for (let round = 0; round < 3; round++) {
      const failures = await Promise.all([
        failureOf(stubs.call("addMessage", append, options)),
        failureOf(stubs.call("getSession", { conversationId }, options)),
        failureOf(stubs.call("listSessions", {}, options)),
        failureOf(stubs.readStream({ conversationId }, options)),
      ]);
      for (const failure of failures) {
        expect(failure).toMatchObject({ code: "UNAVAILABLE", reason: "DATABASE_UNAVAILABLE" });
        expect(failure.retryDelayMs).toBeGreaterThan(0);
      }
    }
    for (const watch of watches) await watch.until("NOT_SERVING");
    for (const name of SERVICES) expect(await checkHealth(stubs, name)).toBe("NOT_SERVING");

    await proxy.accept();
    for (const watch of watches) await watch.until("SERVING");
    for (const { statuses } of watches) {
      expect(statuses).toEqual(["SERVING", "NOT_SERVING", "SERVING"]);
    }
    expect((await stubs.call("addMessage", append, options)).replayed).toBe(false);
    for (const watch of watches) watch.stop();
  } finally {
    stubs.close();
    await server.stop();
    await proxy.close();
    await database.drop();
  }
});

test("connections that Postgres ends as soon as they are made do not end the server", async () => {
  const database = await createDatabase();
  await withClient(database.url, async (client) => {
    // As in production, where the server has nothing to set on a new connection.
    const { rows } = await client.query<{ name: string }>("SELECT current_database() AS name");
    await client.query(`ALTER DATABASE ${rows[0]!.name} SET synchronous_commit = on`);
  });
  const proxy = await proxyToPostgres(database.url);
  const server = await startServer({ databaseUrl: proxy.address });
  const stubs = new Stubs(server.address);
  try {
    proxy.endWhenReady(true);
    const calls = Array.from({ length: 20 }, () =>
      failureOf(stubs.call("createSession", { modelId: "gpt-4" })),
    );
    for (const failure of await Promise.all(calls)) {
      expect(failure).toMatchObject({ code: "UNAVAILABLE", reason: "DATABASE_UNAVAILABLE" });
    }
    proxy.endWhenReady(false);
    await until("it serves again", () =>
      stubs.call("createSession", { modelId: "gpt-4" }).catch(() => false as const),
    );
  } finally {
    stubs.close();
    await server.stop();
    await proxy.close();
    await database.drop();
  }
});

test("with a Postgres of its own that freezes, and then is killed", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "health-"));
  const server = await spawnServer(["--data-dir", dataDir]);
  const stubs = new Stubs(server.address);
  let frozen: number[] = [];
  const thaw = () => {
    for (const pid of frozen) process.kill(pid, "SIGCONT");
    frozen = [];
  };
  try {
    const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
    const conversationId = session!.id;
    let written = 0;
    const append = (deadlineMs: number) => {
      const requestId = `${written}`;
      const message = newMessage({ content: requestId });
      return stubs.call("addMessage", { conversationId, message, requestId }, { deadlineMs });
    };
    await append(5_000);
    written++;
    const watch = watchHealth(stubs);
    await watch.until("SERVING");

    frozen = postgresProcesses(postmasterOf(dataDir)!.pid);
    for (const pid of frozen) process.kill(pid, "SIGSTOP");
    const failure = await failureOf(append(2_000));
    expect(["DEADLINE_EXCEEDED", "UNAVAILABLE"]).toContain(failure.code);
    await watch.until("NOT_SERVING");
    thaw();
    await watch.until("SERVING");
    await append(10_000);
    written++;

    killPostgres(dataDir);
    // Until it is back, whoever calls is told to come back.
    await until("appends work again", () =>
      append(10_000).then(
        () => true,
        (error: AgentStoreError) => {
          expect(error).toMatchObject({ code: "UNAVAILABLE", reason: "DATABASE_UNAVAILABLE" });
          expect(error.retryDelayMs).toBeGreaterThan(0);
          return false;
        },
      ),
    );
    written++;
    await until("health is SERVING", async () => (await checkHealth(stubs)) === "SERVING");
    watch.stop();

    // Another connection of the pool may have its death still before it.
    const { messages } = await until("messages can be read", () =>
      stubs.call("getMessages", { conversationId }).catch(() => false as const),
    );
    expect(messages.map(({ content }) => content)).toEqual(
      Array.from({ length: written }, (_, n) => `${n}`),
    );
    expect(await assertCountersAgree(databaseUrl(dataDir))).toBe(1);
  } finally {
    thaw();
    stubs.close();
    await server.end("SIGTERM");
    await rm(dataDir, { recursive: true, force: true });
  }
});
