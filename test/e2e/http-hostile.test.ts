// Connections over HTTP that are up to no good: each is refused or ends, and the server goes on.
import { once } from "node:events";
import net from "node:net";
import { describe, expect, test } from "vitest";
import { faultOfAnswer, send } from "./http.js";
import { useStore } from "./store.js";

const store = useStore();

const PATH = "/agentstore.v1.AgentStore/GetSession";

async function connect(): Promise<net.Socket> {
  const { hostname, port } = new URL(store.target.httpUrl);
  const socket = net.connect(Number(port), hostname.replace(/^\[|\]$/g, ""));
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

/** Sends bytes and returns what comes back until the server closes the connection. */
async function exchange(sent: string | Buffer): Promise<string> {
  const socket = await connect();
  let read = "";
  socket.setEncoding("latin1").on("data", (text: string) => (read += text));
  socket.end(sent);
  await once(socket, "close");
  return read;
}

async function stillServes(): Promise<void> {
  const conversationId = await store.newSession();
  const body = { conversationId: String(conversationId) };
  expect((await send(store.target, "GetSession", { body })).httpStatus).toBe(200);
}

const HEAD = `POST ${PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;

describe("on the socket", () => {
  test.each([
    ["nothing", "", /^$/],
    ["a TLS hello", Buffer.from("1603010200010001fc0303", "hex"), /^HTTP\/1\.1 400 /],
    ["HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", /^HTTP\/1\.1 (400|404|505) |^$/],
    ["no host", `POST ${PATH} HTTP/1.1\r\n\r\n`, /^HTTP\/1\.1 400 /],
    ["another's name", `POST ${PATH} HTTP/1.1\r\nHost: evil.example\r\n\r\n`, /^HTTP\/1\.1 403 /],
    [
      "a target that is no path",
      "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
      /^HTTP\/1\.1 400 /,
    ],
    [
      "a method that is none",
      `BREW ${PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
      /^HTTP\/1\.1 400 /,
    ],
    ["CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", /^$/],
    ["two lengths", `${HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, /^HTTP\/1\.1 400 /],
    [
      "a length and chunks",
      `${HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      /^HTTP\/1\.1 400 /,
    ],
    ["a length below zero", `${HEAD}Content-Length: -1\r\n\r\n`, /^HTTP\/1\.1 400 /],
    ["a chunk that is none", `${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, /^HTTP\/1\.1 400 /],
    ["a body that is cut off", `${HEAD}Content-Length: 100\r\n\r\n{"conv`, /^HTTP\/1\.1 400 /],
    ["20 KB of headers", `${HEAD}X: ${"x".repeat(20_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
    ["10,000 headers", `${HEAD}${"a: b\r\n".repeat(10_000)}\r\n`, /^HTTP\/1\.1 431 /],
    [
      "an upgrade that is none",
      `${HEAD}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n`,
      /^HTTP\/1\.1 400 /,
    ],
    ["1 MiB of ff", Buffer.alloc(1024 * 1024, 0xff), /^HTTP\/1\.1 400 |^$/],
  ])("%s", async (_, sent, answer) => {
    expect(await exchange(sent)).toMatch(answer);
    await stillServes();
  });

  test("requests that come together are answered in their order", async () => {
    const one = (id: number) => {
      const body = `{"conversationId":"-${id}"}`;
      return `${HEAD}X-Request-Id: r${id}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    };
    const read = await exchange(one(1) + one(2) + one(3));
    const ids = [...read.matchAll(/x-request-id: (r\d)/g)].map(([, id]) => id);
    expect(ids).toEqual(["r1", "r2", "r3"]);
  });
});

describe("100 MB", () => {
  const body = Buffer.alloc(100_000_000, " ");

  test.each([
    ["by its length", {}],
    ["in chunks", { "transfer-encoding": "chunked" }],
    ["that asks first", { expect: "100-continue" }],
  ])("%s is refused with the limit", async (_, headers) => {
    const answer = await send(store.target, "AddMessages", { body, headers });
    expect(faultOfAnswer(answer)).toMatchObject({
      reason: "MESSAGE_TOO_LARGE",
      metadata: { limit_bytes: "67108864" },
    });
    await stillServes();
  });
});

test.each([
  ["by its length", "Content-Length: 80000000\r\n\r\n", ""],
  ["in chunks", "Transfer-Encoding: chunked\r\n\r\n4c4b400\r\n", "\r\n0\r\n\r\n"],
])("who closes behind one request is told all the same, %s", async (_, begin, end) => {
  const socket = await connect();
  const closed = new Promise((resolve) => socket.once("close", resolve));
  let failed: Error | undefined;
  socket.on("error", (error) => (failed = error));
  let read = "";
  socket.setEncoding("latin1").on("data", (text: string) => (read += text));
  const token = store.target.token ? `Authorization: Bearer ${store.target.token}\r\n` : "";
  const head = HEAD.replace("GetSession", "AddMessages");
  socket.write(`${head}${token}Connection: close\r\n${begin}`);
  // All of it, whatever has been answered meanwhile.
  const megabyte = Buffer.alloc(1_000_000, " ");
  for (let sent = 0; sent < 80; sent++) {
    if (!socket.write(megabyte)) await Promise.race([once(socket, "drain"), closed]);
  }
  socket.end(end);
  await closed;
  expect(failed).toBeUndefined();
  expect(read).toMatch(/^HTTP\/1\.1 400 .*MESSAGE_TOO_LARGE/s);
});

test("bodies that never end do not keep others out", async () => {
  const sockets = await Promise.all(Array.from({ length: 200 }, connect));
  for (const socket of sockets) socket.write(`${HEAD}Content-Length: 1000000\r\n\r\n{`);
  await stillServes();
  for (const socket of sockets) socket.destroy();
});

test("10,000 connects in a row", async () => {
  const connects = async (count: number) => {
    for (let n = 0; n < count; n++) (await connect()).destroy();
  };
  await Promise.all(Array.from({ length: 8 }, () => connects(1_250)));
  await stillServes();
});
