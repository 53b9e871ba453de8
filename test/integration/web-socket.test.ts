// WebSockets around their calls: who gets in, who is waited for, and what a reader costs that stalls.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { projectRoot } from "../../server/paths.js";
import { Socket, streamOver } from "../e2e/web-socket.js";
import { fillLongSession } from "../harness/long-session.js";
import { growthUntilCalm, residentBytes } from "../harness/memory.js";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";
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
  await fillLongSession(database.url, { messages: MESSAGES, characters: CONTENT });
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
    const hash = (token: string) => createHash("sha256").update(token).digest("hex");
    await writeFile(tokensFile, `default alice ${hash("secret")}\nacme bob ${hash("other")}\n`);
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

    // A session of another tenant is not there.
    for (const rpc of ["StreamMessages", "WatchSession"]) {
      const { fault } = await streamOver({ ...at, token: "other" }, rpc, { conversationId: "1" });
      expect(fault).toMatchObject({ code: "NOT_FOUND", reason: "SESSION_NOT_FOUND" });
    }

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
  const pid = server.child.pid!;
  // What a server needs once it has worked at all is no growth.
  await streamOver(server, "StreamMessages", { ...whole, lastN: "5000" });
  const before = residentBytes(pid);
  const readers = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const socket = await Socket.open(server, "StreamMessages");
      socket.send({ start: { ...whole, pageSize: 1_000 } });
      const first = (await socket.next())!.response!;
      socket.raw.pause();
      return { socket, first };
    }),
  );
  const most = await growthUntilCalm(pid, before, 4 * MESSAGES * CONTENT);
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
