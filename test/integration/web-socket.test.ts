// WebSockets around their calls: who gets in, who is waited for, and what a reader costs that stalls.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { AuditSealer } from "../../server/audit/sealer.js";
import { withoutAuthentication } from "../../server/auth/tokens.js";
import { limits } from "../../server/config.js";
import { Database } from "../../server/db/database.js";
import { HttpServer } from "../../server/http/http-server.js";
import { makeLogger } from "../../server/log.js";
import { AppendQueue } from "../../server/messages/append-queue.js";
import { streamMessages } from "../../server/messages/stream-messages.js";
import { projectRoot } from "../../server/paths.js";
import { CallsInFlight } from "../../server/rpc/calls-in-flight.js";
import type { AdminRpcs, Rpcs } from "../../server/rpc/method.js";
import { allMethods } from "../../server/rpc/methods.js";
import { PolicySnapshots } from "../../server/snapshots/policy-snapshots.js";
import { Socket, streamOver } from "../e2e/web-socket.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { holdLock, until, untilBlocked, untilQuiet } from "../harness/postgres-watch.js";
import {
  type SpawnedServer,
  spawnServer,
  startServer,
  type TestServer,
} from "../harness/server.js";

const MIB = 1024 * 1024;
const cert = path.join(projectRoot, "test/fixtures/tls/cert.pem");
const key = path.join(projectRoot, "test/fixtures/tls/key.pem");

let database: TestDatabase;
let directory: string;
const stops: (() => Promise<unknown>)[] = [];

// 100 MB in 40,000 messages.
const MESSAGES = 40_000;
const CONTENT = 2_500;

beforeAll(async () => {
  database = await createDatabase();
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-sockets-"));
  await withClient(database.url, async (client) => {
    await client.query("INSERT INTO models (id) VALUES ('gpt-4')");
    await client.query(
      `INSERT INTO conversations (model_id, last_seq, revision, message_count, user_messages,
         total_characters, first_message_ms, last_message_ms, first_message)
       VALUES ('gpt-4', $1::int, 1 + $1::int, $1::int, $1::int, $1::bigint * $2::int,
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
});

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

afterAll(async () => {
  await database.drop();
  await rm(directory, { recursive: true });
});

async function serve(options: Parameters<typeof startServer>[0] = {}): Promise<TestServer> {
  const server = await startServer({ databaseUrl: database.url, httpPort: 0, ...options });
  stops.push(() => server.stop());
  return server;
}

async function serveApart(...flags: string[]): Promise<SpawnedServer> {
  const server = await spawnServer(["--database-url", database.url, ...flags]);
  stops.push(() => server.end("SIGKILL"));
  return server;
}

function logged(server: SpawnedServer): Record<string, unknown>[] {
  const lines = server.output().split("\n");
  return lines
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ msg }) => msg === "call");
}

const whole = { conversationId: "1" };
const one = { conversationId: "1", lastN: "1" };

describe("tokens", () => {
  test("may be in a header or in the first frame, over TLS", async () => {
    const tokensFile = path.join(directory, "tokens");
    const hash = createHash("sha256").update("secret").digest("hex");
    await writeFile(tokensFile, `default alice ${hash}\n`);
    const { httpUrl } = await serve({ tokensFile, tlsCert: cert, tlsKey: key });
    const at = { httpUrl: httpUrl.replace("127.0.0.1", "localhost"), ca: readFileSync(cert) };
    const answer = await streamOver({ ...at, token: "secret" }, "StreamMessages", one);
    expect(answer.responses).toHaveLength(1);

    const start = async (authorization: string | undefined, token?: string) => {
      const socket = await Socket.open({ ...at, token }, "StreamMessages");
      socket.send({ start: one, authorization });
      const { responses, fault } = await socket.rest();
      return responses.length === 1 ? "OK" : fault?.reason;
    };
    expect(await start("Bearer secret")).toBe("OK");
    // What the frame says is nearer to the call.
    expect(await start("Bearer secret", "another")).toBe("OK");
    expect(await start("Bearer another", "secret")).toBe("UNAUTHENTICATED");
    expect(await start(undefined)).toBe("UNAUTHENTICATED");

    const stranger = await Socket.open(at, "StreamMessages");
    stranger.send("{");
    expect((await stranger.rest()).fault?.reason).toBe("UNAUTHENTICATED");
  });
});

test("pages of allowed origins connect, and no others", async () => {
  const server = await serve({ allowOrigins: ["https://app.example"] });
  const headers = { origin: "https://app.example" };
  const answer = await streamOver(server, "StreamMessages", one, { headers });
  expect(answer.responses).toHaveLength(1);
  const evil = { headers: { origin: "https://evil.example" } };
  await expect(Socket.open(server, "StreamMessages", evil)).rejects.toThrow("HTTP 403");
});

test("a caller that goes away cancels its call, and the log says so", async () => {
  const server = await serveApart();
  const lock = await holdLock(database.url, "LOCK TABLE conversation_messages");
  const socket = await Socket.open(server, "StreamMessages", {
    headers: { "x-request-id": "mine" },
  });
  socket.send({ start: whole });
  await untilBlocked(database.url);
  socket.raw.terminate();
  await untilQuiet(database.url);
  await lock.release();
  const [line] = await until("it is logged", () => {
    const lines = logged(server);
    return lines.length > 0 && lines;
  });
  expect(line).toMatchObject({
    method: "StreamMessages",
    call_id: "mine",
    code: "CANCELLED",
    transport: "websocket",
    peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string,
  });
});

describe("a server that stops", () => {
  test("ends streams, which say from where to go on, and sockets without a call", async () => {
    const server = await serveApart();
    const socket = await Socket.open(server, "StreamMessages");
    socket.send({ start: whole });
    const first = await socket.next();
    // The rest is more than the buffers in between hold.
    socket.raw.pause();
    const idle = await Socket.open(server, "StreamMessages");
    server.child.kill("SIGTERM");
    expect(await idle.rest()).toMatchObject({
      fault: { reason: "SHUTTING_DOWN" },
      closeCode: 1001,
    });
    socket.raw.resume();
    const { responses, fault, closeCode } = await socket.rest();
    expect([fault?.code, fault?.reason, closeCode]).toEqual(["UNAVAILABLE", "SHUTTING_DOWN", 1001]);
    expect(responses.length).toBeLessThan(MESSAGES / 100);
    expect(first?.response).toHaveProperty("lastSeq");
    expect(await server.exited(), server.output()).toBe(0);
  });

  test("does not wait for readers that do not read", async () => {
    const server = await serveApart("--grace-seconds", "0");
    const socket = await Socket.open(server, "StreamMessages");
    socket.send({ start: whole });
    await socket.next();
    socket.raw.pause();
    server.child.kill("SIGTERM");
    expect(await server.exited(), server.output()).toBe(0);
    socket.raw.terminate();
  });
});

test("a reader that stalls costs a page or two, and then gets the rest in order", async () => {
  const server = await serveApart("--log-level", "warn");
  const residentBytes = () => {
    const status = readFileSync(`/proc/${server.child.pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
  };
  // What a server needs once it has worked at all is no growth.
  await streamOver(server, "StreamMessages", { ...whole, lastN: "5000" });
  const before = residentBytes();
  const readers = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const socket = await Socket.open(server, "StreamMessages");
      socket.send({ start: { ...whole, pageSize: 1_000 } });
      const first = (await socket.next())!.response!;
      socket.raw.pause();
      return { socket, first };
    }),
  );
  let most = 0;
  for (let calm = 0; calm < 8; calm++) {
    await sleep(250);
    const growth = residentBytes() - before;
    if (growth > most + MIB) calm = 0;
    most = Math.max(most, growth);
    if (most > MESSAGES * CONTENT) break;
  }
  process.stdout.write(`4 stalled WebSockets: +${Math.round(most / MIB)} MiB\n`);
  // Of four streams of 100 MB: pages, their forms on the way to JSON, garbage not yet collected.
  expect(most).toBeLessThan(150 * MIB);

  const [reader, ...others] = readers;
  for (const { socket } of others) socket.raw.terminate();
  reader!.socket.raw.resume();
  const { responses, closeCode } = await reader!.socket.rest();
  expect(closeCode).toBe(1000);
  const seqs = [reader!.first, ...responses].flatMap(({ messages }) =>
    (messages as { seq: string }[]).map(({ seq }) => Number(seq)),
  );
  expect(seqs).toEqual(Array.from({ length: MESSAGES }, (_, index) => index + 1));
});

test("workers share the port", async () => {
  const server = await serveApart("--workers", "2", "--pool-size", "4");
  for (let n = 0; n < 4; n++) {
    const { responses } = await streamOver(server, "StreamMessages", one);
    expect(responses).toHaveLength(1);
  }
  await until("both have served", () => new Set(logged(server).map(({ pid }) => pid)).size === 2);
});

describe("limits", () => {
  type Changed = Partial<Record<keyof typeof limits, number>>;

  /** A server whose limits are smaller than those that the service has. */
  async function serveWith(changed: Changed): Promise<{ httpUrl: string; close(): void }> {
    const logger = makeLogger("silent");
    const db = new Database(database.url, { poolSize: 2 });
    const calls = new CallsInFlight();
    const environment = {
      db,
      appends: new AppendQueue(db),
      audit: new AuditSealer(db, logger),
      snapshots: new PolicySnapshots(db, logger),
      limits: { ...limits, ...(changed as object), messageBytes: 1_000 },
    };
    const server = new HttpServer(
      { host: "127.0.0.1", port: 0, allowOrigins: [], localOnly: true },
      {
        methods: allMethods(
          { store: { streamMessages } as Rpcs, admin: {} as AdminRpcs },
          { logger, authenticate: withoutAuthentication },
        ),
        environment,
        calls,
        authenticate: withoutAuthentication,
        health: { isServing: true, shutDown: async () => {} },
      },
    );
    const port = await server.listen();
    stops.push(async () => {
      const closed = server.close();
      server.cut();
      await closed;
      calls.close();
      await db.close();
    });
    return { httpUrl: `http://127.0.0.1:${port}`, close: () => server.cut() };
  }

  test("a socket without a start is closed", async () => {
    const server = await serveWith({ socketStartMs: 100 });
    const socket = await Socket.open(server, "StreamMessages");
    expect(await socket.rest()).toMatchObject({
      fault: { reason: "DEADLINE_EXCEEDED" },
      closeCode: 1008,
    });
  });

  test("a peer that does not answer pings is cut off, one that does is not", async () => {
    const server = await serveWith({ socketPingMs: 100 });
    const alive = await Socket.open(server, "StreamMessages");
    const dead = new WebSocket(
      `${server.httpUrl.replace("http", "ws")}/agentstore.v1.AgentStore/StreamMessages`,
      { autoPong: false },
    );
    await once(dead, "open");
    const [code] = (await once(dead, "close")) as [number];
    expect(code).toBe(1006);
    alive.send({ start: one });
    expect((await alive.rest()).closeCode).toBe(1000);
  });

  test("there are so many sockets and no more", async () => {
    const server = await serveWith({ webSockets: 2 });
    const first = await Socket.open(server, "StreamMessages");
    await Socket.open(server, "StreamMessages");
    await expect(Socket.open(server, "StreamMessages")).rejects.toThrow("HTTP 503");
    first.send({ start: one });
    await first.rest();
    await until("there is room again", () =>
      Socket.open(server, "StreamMessages").then(
        () => true,
        () => false,
      ),
    );
  });

  test("a page that is not read in time ends its stream", async () => {
    const server = await serveWith({ socketPingMs: 100 });
    const socket = await Socket.open(server, "StreamMessages");
    socket.send({ start: whole });
    await socket.next();
    socket.raw.pause();
    await untilQuiet(database.url);
    await sleep(500);
    socket.raw.resume();
    const { responses, closeCode } = await socket.rest();
    expect(closeCode).toBe(1006);
    expect(responses.length).toBeLessThan(MESSAGES / 100);
  });
});
