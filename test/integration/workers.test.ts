// `agentstore serve --workers N`: one port, several processes, of which any may die.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { get, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import { projectRoot } from "../../server/paths.js";
import { freePort, randomFrom } from "../harness/chaos.js";
import { assertCountersAgree } from "../harness/counters.js";
import { checkHealth, watchHealth } from "../harness/health.js";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";
import { holdSession, poolActivity, until, untilBlocked } from "../harness/postgres-watch.js";
import { type SpawnedServer, spawnServer } from "../harness/server.js";
import { failureOf, newMessage, pages, Stubs } from "../harness/stubs.js";
import { assertTold, SessionWatcher } from "../harness/watching.js";
import { loggedBy, workersOf } from "../harness/worker-processes.js";

const WORKERS = 3;

let database: TestDatabase;
let directory: string;
let server: SpawnedServer;
let channels: Stubs[];

beforeEach(async () => {
  database = await createDatabase();
  directory = await mkdtemp(join(tmpdir(), "workers-"));
  channels = [];
});

afterEach(async () => {
  for (const channel of channels) channel.close();
  await server?.end("SIGKILL");
  await database.drop();
  await rm(directory, { recursive: true, force: true });
});

async function serve(...flags: string[]): Promise<void> {
  const workers = ["--workers", String(WORKERS), "--pool-size", "7"];
  server = await spawnServer(["--database-url", database.url, ...workers, ...flags]);
}

/** New connections go to the workers in turn: one to each. */
function connectToEach(): Stubs[] {
  const opened = Array.from({ length: WORKERS }, () => new Stubs(server.address));
  channels.push(...opened);
  return opened;
}

const workers = () => workersOf(server);
const logged = () => loggedBy(server);

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function whoLogged(rpc: string): Set<number | undefined> {
  const calls = logged().filter(({ method }) => method === rpc);
  return new Set(calls.map(({ pid }) => pid));
}

/** A file with one token, "secret". */
async function writeTokens(): Promise<string> {
  const file = join(directory, "tokens.txt");
  const hash = createHash("sha256").update("secret").digest("hex");
  await writeFile(file, `acme test ${hash}\n`);
  return file;
}

async function createSession(stubs: Stubs): Promise<bigint> {
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  return session!.id;
}

test("each serves on the one port, health and all, with its part of the pool", async () => {
  await serve();
  expect(workers()).toHaveLength(WORKERS);
  const each = connectToEach();
  const id = await createSession(each[0]!);
  for (const stubs of each) {
    expect(await checkHealth(stubs)).toBe("SERVING");
    await stubs.call("addMessage", { conversationId: id, message: newMessage() });
    // Half of these wait for a connection at a time.
    const reads = Array.from({ length: 40 }, () => stubs.call("searchMessages", { query: "x" }));
    await Promise.all(reads);
  }
  await until("the calls are logged", () => whoLogged("AddMessage").size === WORKERS);
  expect(whoLogged("AddMessage")).toEqual(new Set(workers()));
  expect(logged().find(({ msg }) => msg === "serving")?.pid).toBe(server.child.pid);
  expect(await poolActivity(database.url)).toHaveLength(7);
  expect(await server.end("SIGTERM")).toBe(0);
});

test("with TLS and tokens", async () => {
  const fixtures = join(projectRoot, "test/fixtures/tls");
  const tokens = await writeTokens();
  const [cert, key] = [join(fixtures, "cert.pem"), join(fixtures, "key.pem")];
  await serve("--tls-cert", cert, "--tls-key", key, "--tokens", tokens);
  const port = server.address.slice(server.address.lastIndexOf(":") + 1);
  const url = `agentstore://localhost:${port}?tls=true&ca=${cert}`;
  const stores = Array.from(
    { length: WORKERS },
    () => new AgentStoreClient({ url, token: "secret" }),
  );
  for (const store of stores) {
    await store.createSession("gpt-4");
    store.close();
  }
  await until("each has served one", () => whoLogged("CreateSession").size === WORKERS);
});

test("one is killed under load, again and again: replaced, nothing lost, nothing twice", async () => {
  await serve("--log-level", "warn");
  const random = randomFrom(1);
  const stores = Array.from(
    { length: 2 * WORKERS },
    () => new AgentStoreClient({ url: server.url, timeoutMs: 30_000 }),
  );
  const sessions: bigint[] = [];
  for (const store of stores.slice(0, 3)) sessions.push((await store.createSession("gpt-4")).id);
  const written = new Map<string, { session: bigint; seq: bigint }>();
  let retried = 0;
  let writing = true;
  const writers = stores.map(async (store, writer) => {
    const last = new Map<bigint, bigint>();
    for (let n = 0; writing; n++) {
      const session = sessions[random(sessions.length)]!;
      const content = `${writer}.${n}`;
      const { seq } = await store.addMessage(session, "user", content, {
        onWritten({ attempts }) {
          if (attempts > 1) retried++;
        },
      });
      written.set(content, { session, seq });
      expect(seq).toBeGreaterThan(last.get(session) ?? 0n);
      last.set(session, seq);
    }
  });
  const writersEnd = Promise.all(writers);
  writersEnd.catch(() => {});
  for (let kills = 0; kills < 4; kills++) {
    const before = written.size;
    await until("appends go on", () => written.size > before + 60);
    const victim = workers()[random(WORKERS)]!;
    process.kill(victim, "SIGKILL");
    await until("it is missed", () => logged().some(({ worker }) => worker === victim));
    await until("it is replaced", () => workers().length === WORKERS);
  }
  const before = written.size;
  await until("appends go on", () => written.size > before + 60);
  writing = false;
  await writersEnd;
  expect(retried).toBeGreaterThan(0);

  expect(await assertCountersAgree(database.url)).toBe(sessions.length);
  const found = new Map<string, { session: bigint; seq: bigint }>();
  for (const session of sessions) {
    for await (const { content, seq } of stores[0]!.streamMessages(session)) {
      expect(found.has(content)).toBe(false);
      found.set(content, { session, seq });
    }
  }
  expect(found).toEqual(new Map([...written].toSorted(bySessionAndSeq)));
  for (const store of stores) store.close();
  expect(await server.end("SIGTERM"), server.output()).toBe(0);
}, 120_000);

type Written = [string, { session: bigint; seq: bigint }];

function bySessionAndSeq([, a]: Written, [, b]: Written): number {
  return Number(a.session - b.session) || Number(a.seq - b.seq);
}

test("connections that a worker was handed and did not take are another's when it dies", async () => {
  await serve();
  const victim = workers()[0]!;
  // It is handed the next connection of each port, and takes neither.
  process.kill(victim, "SIGSTOP");
  const kinds = [
    async () => {
      const stubs = new Stubs(server.address);
      channels.push(stubs);
      return await checkHealth(stubs);
    },
    async () => {
      const request = get(`${server.httpUrl}/healthz`, { agent: false });
      const [response] = (await once(request, "response")) as [IncomingMessage];
      response.resume();
      return response.statusCode;
    },
  ];
  let answered = 0;
  const answers = kinds.map((ask) =>
    Array.from({ length: 2 * WORKERS }, () =>
      ask().then((answer) => {
        answered++;
        return answer;
      }),
    ),
  );
  const all = Promise.all(answers.map((some) => Promise.all(some)));
  all.catch(() => {});
  await until("all but those two are answered", () => answered === 2 * (2 * WORKERS - 1));
  process.kill(victim, "SIGKILL");
  const [healths, statuses] = await all;
  expect(new Set(healths)).toEqual(new Set(["SERVING"]));
  expect(new Set(statuses)).toEqual(new Set([200]));
});

test("connections that no worker is left to take are closed", async () => {
  await serve();
  const victims = workers();
  for (const pid of victims) process.kill(pid, "SIGSTOP");
  const [, host, port] = /^(.*):(\d+)$/.exec(server.address)!;
  const sockets = Array.from({ length: 2 * WORKERS }, () => connect(Number(port), host));
  const closed = sockets.map(async (socket) => {
    socket.on("error", () => {});
    await once(socket, "close");
  });
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  for (const pid of victims) process.kill(pid, "SIGKILL");
  await Promise.all(closed);
});

test("SIGTERM: all of them drain, and then end", async () => {
  await serve();
  const each = connectToEach();
  const content = "x".repeat(20_000);
  const id = await createSession(each[0]!);
  for (let n = 0; n < 20; n++) {
    const messages = Array.from({ length: 50 }, () => newMessage({ content }));
    await each[0]!.call("addMessages", { conversationId: id, messages });
  }
  const watches = each.map((stubs) => watchHealth(stubs));
  for (const watch of watches) await watch.until("SERVING");
  // In the middle of 20 MB, which is more than a connection buffers.
  const readers = each.map((stubs) => pages(stubs.stream({ conversationId: id, pageSize: 10 })));
  for (const reader of readers) await reader.next();
  const sessions = await Promise.all(each.map(createSession));
  const locks = await Promise.all(sessions.map((session) => holdSession(database.url, session)));
  const appends = each.map((stubs, n) =>
    stubs.call("addMessage", { conversationId: sessions[n]!, message: newMessage() }),
  );
  await untilBlocked(database.url, WORKERS);

  // As Ctrl-C does: to all of them.
  const processes = workers();
  for (const pid of [...processes, server.child.pid!]) process.kill(pid, "SIGINT");
  for (const watch of watches) await watch.until("NOT_SERVING");
  for (const reader of readers) {
    const rest = (async () => {
      for await (const _ of reader);
    })();
    expect(await failureOf(rest)).toMatchObject({ code: "UNAVAILABLE", reason: "SHUTTING_DOWN" });
  }
  for (const lock of locks) await lock.release();
  for (const append of appends) expect((await append).message?.seq).toBe(1n);
  expect(await server.exited(), server.output()).toBe(0);
  expect(processes.filter(isRunning)).toEqual([]);
});

test("a second signal ends all of them at once", async () => {
  await serve("--grace-seconds", "3600");
  const [stubs] = connectToEach();
  const conversationId = await createSession(stubs!);
  const lock = await holdSession(database.url, conversationId);
  const append = failureOf(stubs!.call("addMessage", { conversationId, message: newMessage() }));
  await untilBlocked(database.url);
  const processes = workers();
  server.child.kill("SIGTERM");
  await until("it stops", () => logged().some(({ msg }) => msg.startsWith("stopping")));
  expect(await server.end("SIGTERM")).toBe(130);
  expect((await append).code).toBe("UNAVAILABLE");
  await until("the workers have ended", () => !processes.some(isRunning));
  await lock.release();
});

test("a server that is killed takes its workers along", async () => {
  await serve();
  const processes = workers();
  expect(processes).toHaveLength(WORKERS);
  await server.end("SIGKILL");
  await until("the workers have ended", () => !processes.some(isRunning));
});

test("workers that cannot start again end the server, which says why", async () => {
  const tokens = await writeTokens();
  await serve("--tokens", tokens);
  await rm(tokens);
  process.kill(workers()[0]!, "SIGKILL");
  expect(await server.exited(), server.output()).toBe(1);
  expect(logged().some(({ msg }) => msg === "it cannot start")).toBe(true);
  expect(server.output()).toMatch(/^error: a worker ended 6 times in a row soon after its start/m);
});

test("what keeps a worker from starting is told at the start", async () => {
  const port = String(await freePort());
  await serve("--port", port);
  const flags = ["--database-url", database.url, "--workers", "2"];
  const second = spawnServer([...flags, "--port", port]);
  await expect(second).rejects.toThrow(
    new RegExp(`cannot serve on 127\\.0\\.0\\.1:${port}.*EADDRINUSE`),
  );
});

test.each([
  [["--workers", "0"], "from 1 to 256"],
  [["--workers", "257"], "from 1 to 256"],
  [["--workers", "two"], "from 1 to 256"],
  [["--workers", "4", "--pool-size", "3"], "--workers 4 share the connections of --pool-size 3"],
])("refuses %s", async (flags, message) => {
  await expect(spawnServer(["--database-url", database.url, ...flags])).rejects.toThrow(message);
});

test("a Postgres of its own has one owner, whatever happens to the workers", async () => {
  server = await spawnServer(["--data-dir", directory, "--workers", "2"]);
  const [stubs] = connectToEach();
  const conversationId = await createSession(stubs!);
  for (const pid of workers()) process.kill(pid, "SIGKILL");
  await until("it serves again", () =>
    stubs!.call("getSession", { conversationId }).catch(() => false as const),
  );
  expect(await server.end("SIGTERM"), server.output()).toBe(0);
});

test("one worker, the default, is the server itself", async () => {
  server = await spawnServer(["--database-url", database.url]);
  expect(workers()).toEqual([]);
  const [stubs] = connectToEach();
  await createSession(stubs!);
  expect(logged().every(({ pid }) => pid === undefined)).toBe(true);
});

test("watches at each worker are told what any of them writes, and go on at another when theirs dies", async () => {
  await serve();
  const each = connectToEach();
  const { session } = await each[0]!.call("createSession", { modelId: "gpt-4" });
  const conversationId = session!.id;
  const watchers = each.map(({ channel }) => new SessionWatcher(channel, conversationId));
  await Promise.all(watchers.map((watcher) => watcher.untilKind("caughtUp")));
  for (const [index, stubs] of each.entries()) {
    const content = String(index);
    await stubs.call("addMessage", { conversationId, message: newMessage({ content }) });
    for (const watcher of watchers) {
      await watcher.until(content, (told) => told.at(-1)?.content === content);
    }
  }
  for (const pid of workers()) process.kill(pid, "SIGKILL");
  const failures = await Promise.all(watchers.map((watcher) => watcher.end()));
  for (const failure of failures) expect(failure).toBeDefined();
  const served = () => checkHealth(each[0]!).catch(() => "gone");
  await until("workers serve again", async () => (await served()) === "SERVING");
  await each[0]!.call("addMessage", { conversationId, message: newMessage({ content: "later" }) });
  for (const [index, { revision, told }] of watchers.entries()) {
    const resumed = new SessionWatcher(each[index]!.channel, conversationId, revision);
    await resumed.untilKind("caughtUp");
    await assertTold(database.url, conversationId, [...told, ...resumed.told], 1n);
    resumed.cancel();
  }
});
