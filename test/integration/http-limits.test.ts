// What a server over HTTP bears from one caller and from all, with limits that a test can reach.
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { AuditSealer } from "../../server/audit/sealer.js";
import { withoutAuthentication } from "../../server/auth/tokens.js";
import { ChangeFeed } from "../../server/changes/feed.js";
import { limits } from "../../server/config.js";
import { Database } from "../../server/db/database.js";
import { HttpServer } from "../../server/http/http-server.js";
import { makeLogger } from "../../server/log.js";
import { AppendQueue } from "../../server/messages/append-queue.js";
import { getMessages } from "../../server/messages/get-messages.js";
import { streamMessages } from "../../server/messages/stream-messages.js";
import { CallsInFlight } from "../../server/rpc/calls-in-flight.js";
import type { AdminRpcs, Rpcs } from "../../server/rpc/method.js";
import { allMethods } from "../../server/rpc/methods.js";
import { PolicySnapshots } from "../../server/snapshots/policy-snapshots.js";
import { Watches } from "../../server/watch/watches.js";
import { faultOfAnswer, send } from "../e2e/http.js";
import { Socket } from "../e2e/web-socket.js";
import { fillLongSession } from "../harness/long-session.js";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";
import { holdLock, until, untilBlocked, untilQuiet } from "../harness/postgres-watch.js";

const MESSAGES = 12_000;
const one = { conversationId: "1", pageSize: 1 };

let database: TestDatabase;
let stop = async () => {};

beforeAll(async () => {
  database = await createDatabase();
  await fillLongSession(database.url, { messages: MESSAGES, characters: 2_500 });
});

afterEach(async () => {
  await stop();
  stop = async () => {};
});

afterAll(() => database.drop());

async function serveWith(
  changed: Partial<Record<keyof typeof limits, number>>,
): Promise<{ httpUrl: string; port: number }> {
  const logger = makeLogger("silent");
  const db = new Database(database.url, { poolSize: 2 });
  const calls = new CallsInFlight();
  const environment = {
    db,
    appends: new AppendQueue(db),
    audit: new AuditSealer(db, logger),
    snapshots: new PolicySnapshots(db, logger),
    watches: new Watches(db, new ChangeFeed(db, logger, true), logger),
    limits: { ...limits, ...(changed as object), messageBytes: 1_000 },
  };
  const rpcs = { store: { getMessages, streamMessages } as Rpcs, admin: {} as AdminRpcs };
  const server = new HttpServer(
    { host: "127.0.0.1", port: 0, allowOrigins: [], localOnly: true },
    {
      methods: allMethods(rpcs, { logger, authenticate: withoutAuthentication }),
      environment,
      calls,
      authenticate: withoutAuthentication,
      health: { isServing: true, shutDown: async () => {} },
      logger,
    },
  );
  const port = await server.listen();
  stop = async () => {
    const closed = server.close();
    server.cut();
    await closed;
    calls.close();
    await db.close();
  };
  return { httpUrl: `http://127.0.0.1:${port}`, port };
}

async function connect(port: number, sent = ""): Promise<net.Socket> {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.write(sent);
  return socket;
}

async function readAll(socket: net.Socket): Promise<string> {
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  await once(socket, "close");
  return text;
}

const HEAD =
  "POST /agentstore.v1.AgentStore/GetMessages HTTP/1.1\r\nHost: localhost\r\n" +
  "Content-Type: application/json\r\n";

test.each([
  ["headers that do not end", HEAD],
  ["a body that does not end", `${HEAD}Content-Length: 100\r\n\r\n{`],
])("%s are not waited for without end", async (_, sent) => {
  const server = await serveWith({ httpHeadersMs: 200, callMs: 400 });
  expect(await readAll(await connect(server.port, sent))).toMatch(/^HTTP\/1\.1 408 /);
});

test("connections without a request are not kept without end", async () => {
  const server = await serveWith({ httpIdleMs: 100 });
  const socket = await connect(server.port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 200 .*SERVING/s);
});

test("there are so many connections and no more", async () => {
  const server = await serveWith({ httpConnections: 2 });
  const sockets = [await connect(server.port), await connect(server.port)];
  const third = await connect(server.port);
  expect(await readAll(third)).toBe("");
  for (const socket of sockets) socket.destroy();
  const { httpStatus } = await until("there is room again", () =>
    send(server, "GetMessages", { body: one }).catch(() => undefined),
  );
  expect(httpStatus).toBe(200);
});

test("bodies share their memory, which calls give back when they are answered", async () => {
  const server = await serveWith({ httpBodiesBytes: 1_000 });
  const large = { body: `${JSON.stringify(one)}${" ".repeat(600)}` };
  const lock = await holdLock(database.url, "LOCK TABLE conversation_messages");
  const first = send(server, "GetMessages", large);
  await untilBlocked(database.url);
  const second = faultOfAnswer(await send(server, "GetMessages", large));
  expect(second).toMatchObject({ reason: "OVERLOADED", retryAfterMs: 250 });
  await lock.release();
  expect((await first).httpStatus).toBe(200);
  const again = await until("the memory is back", async () => {
    const answer = await send(server, "GetMessages", large);
    return answer.httpStatus === 200 && answer;
  });
  expect(again.json).toMatchObject({ messages: [{ seq: "1" }] });
});

test("a request has so many bytes and no more", async () => {
  const server = await serveWith({ requestBytes: 100 });
  const exact = { body: JSON.stringify(one).padEnd(100) };
  expect((await send(server, "GetMessages", exact)).httpStatus).toBe(200);
  const more = faultOfAnswer(await send(server, "GetMessages", { body: `${exact.body} ` }));
  expect(more).toMatchObject({ reason: "MESSAGE_TOO_LARGE", metadata: { limit_bytes: "100" } });
});

test("a socket without a start is closed", async () => {
  const server = await serveWith({ socketStartMs: 100 });
  const socket = await Socket.open(server, "StreamMessages");
  expect(await socket.rest()).toMatchObject({
    fault: { reason: "DEADLINE_EXCEEDED" },
    closeCode: 1008,
  });
});

test("a peer that does not answer pings is cut off, one that does is not", async () => {
  const server = await serveWith({ socketPingMs: 500 });
  const alive = await Socket.open(server, "StreamMessages");
  const url = `ws://127.0.0.1:${server.port}/agentstore.v1.AgentStore/StreamMessages`;
  const dead = new WebSocket(url, { autoPong: false });
  await once(dead, "open");
  const [code] = (await once(dead, "close")) as [number];
  expect(code).toBe(1006);
  alive.send({ start: { conversationId: "1", lastN: "1" } });
  expect((await alive.rest()).closeCode).toBe(1000);
});

test("a reader that stands still from ping to ping is cut off", async () => {
  const server = await serveWith({ socketPingMs: 100 });
  const socket = await Socket.open(server, "StreamMessages");
  socket.send({ start: { conversationId: "1" } });
  await socket.next();
  socket.raw.pause();
  await untilQuiet(database.url);
  await sleep(500);
  socket.raw.resume();
  const { responses, closeCode } = await socket.rest();
  expect(closeCode).toBe(1006);
  expect(responses.length).toBeLessThan(MESSAGES / 100);
});

test("there are so many sockets and no more", async () => {
  const server = await serveWith({ webSockets: 2 });
  const first = await Socket.open(server, "StreamMessages");
  await Socket.open(server, "StreamMessages");
  await expect(Socket.open(server, "StreamMessages")).rejects.toThrow("HTTP 503");
  first.send({ start: { conversationId: "1", lastN: "1" } });
  expect((await first.rest()).closeCode).toBe(1000);
  await until("there is room again", () =>
    Socket.open(server, "StreamMessages").then(
      () => true,
      () => false,
    ),
  );
});
