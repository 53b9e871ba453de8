// The HTTP server around the calls: who gets in, what a call that ends leaves, how the server stops.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AppOptions } from "../../server/app.js";
import { projectRoot } from "../../server/paths.js";
import { faultOfAnswer, type HttpRequest, send } from "../e2e/http.js";
import { freePort } from "../harness/chaos.js";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";
import { holdSession, until, untilBlocked, untilQuiet } from "../harness/postgres-watch.js";
import {
  type SpawnedServer,
  spawnServer,
  startServer,
  type TestServer,
} from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const cert = path.join(projectRoot, "test/fixtures/tls/cert.pem");
const key = path.join(projectRoot, "test/fixtures/tls/key.pem");

let database: TestDatabase;
let directory: string;
let server: TestServer | undefined;
let spawned: SpawnedServer | undefined;

beforeEach(async () => {
  database = await createDatabase();
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-http-"));
});

afterEach(async () => {
  await server?.stop();
  await spawned?.end("SIGKILL");
  server = spawned = undefined;
  await database.drop();
  await rm(directory, { recursive: true });
});

async function serve(options: Partial<AppOptions> = {}): Promise<TestServer> {
  server = await startServer({ databaseUrl: database.url, httpPort: 0, ...options });
  return server;
}

async function serveApart(...flags: string[]): Promise<SpawnedServer> {
  spawned = await spawnServer(["--database-url", database.url, ...flags]);
  return spawned;
}

async function writeTokens(): Promise<string> {
  const file = path.join(directory, "tokens");
  const hash = (token: string) => createHash("sha256").update(token).digest("hex");
  await writeFile(file, `acme alice ${hash("alice")}\nglobex root ${hash("root")} admin\n`);
  return file;
}

type Where = Pick<TestServer, "httpUrl">;

async function newSession(where: Where & { token?: string }): Promise<string> {
  const { json, body } = await send(where, "CreateSession", { body: { modelId: "gpt-4" } });
  if (!json) throw new Error(body.toString());
  return (json["session"] as { id: string }).id;
}

function append(where: Where, conversationId: string, request: HttpRequest = {}) {
  const body = { conversationId, message: { role: "ROLE_USER", content: "x" } };
  return send(where, "AddMessage", { body, ...request });
}

function logged(): Record<string, unknown>[] {
  const lines = spawned?.output().split("\n") ?? [];
  return lines
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("tokens and TLS", () => {
  test("let in whom the file knows, and hide what is another tenant's", async () => {
    const tokensFile = await writeTokens();
    const { httpUrl } = await serve({ tokensFile, tlsCert: cert, tlsKey: key });
    const at = { httpUrl: httpUrl.replace("127.0.0.1", "localhost"), ca: readFileSync(cert) };
    const alice = { ...at, token: "alice" };
    const id = await newSession(alice);
    const asRoot = await send({ ...at, token: "root" }, "GetSession", {
      body: { conversationId: id },
    });
    expect(faultOfAnswer(asRoot).reason).toBe("SESSION_NOT_FOUND");
    for (const token of [undefined, "mallory"]) {
      const answer = await send({ ...at, token }, "GetSession", { body: { conversationId: id } });
      expect(faultOfAnswer(answer).reason).toBe("UNAUTHENTICATED");
    }
    const admin = "/agentstore.v1.AgentStoreAdmin/ListAuditEvents";
    expect(faultOfAnswer(await send(alice, admin, { body: {} })).reason).toBe("PERMISSION_DENIED");
    expect((await send({ ...at, token: "root" }, admin, { body: {} })).httpStatus).toBe(200);
    expect((await send(at, "/healthz", { method: "GET" })).httpStatus).toBe(200);
  });

  test("a stranger's body is not waited for", async () => {
    const { httpUrl } = await serve({ tokensFile: await writeTokens() });
    const request = http.request(`${httpUrl}/agentstore.v1.AgentStore/GetSession`, {
      method: "POST",
      headers: { "content-type": "application/json", "content-length": 1_000_000 },
    });
    request.flushHeaders();
    const [{ statusCode }] = (await once(request, "response")) as [http.IncomingMessage];
    expect(statusCode).toBe(401);
    request.destroy();
  });
});

describe("web pages", () => {
  const origin = "https://app.example";
  const preflight = (from: string) => ({
    method: "OPTIONS",
    headers: {
      origin: from,
      "access-control-request-method": "POST",
      "access-control-request-headers": "content-type,connect-protocol-version",
    },
  });

  test("of allowed origins may call", async () => {
    const where = await serve({ allowOrigins: [origin, "http://localhost:5173"] });
    for (const from of [origin, "http://localhost:5173"]) {
      const asked = await send(where, "GetSession", preflight(from));
      expect(asked.httpStatus).toBe(204);
      expect(asked.headers).toMatchObject({
        "access-control-allow-origin": from,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": expect.stringContaining("content-type") as string,
        vary: "origin",
      });
      const called = await send(where, "GetSession", { headers: { origin: from }, body: {} });
      expect(called.headers["access-control-allow-origin"]).toBe(from);
      expect(called.headers["access-control-expose-headers"]).toBe("x-request-id");
    }
  });

  test.each([
    ["others", [origin], "https://evil.example"],
    ["another port", [origin], `${origin}:8443`],
    ["the same name in clear", [origin], "http://app.example"],
    ["none", [origin], "null"],
    ["any, when none is allowed", [], origin],
  ])("of %s may not", async (_, allowOrigins, from) => {
    const where = await serve({ allowOrigins });
    for (const request of [preflight(from), { headers: { origin: from }, body: {} }]) {
      const { headers } = await send(where, "GetSession", request);
      const names = Object.keys(headers).filter((name) => name.startsWith("access-control"));
      expect(names).toEqual([]);
    }
  });

  test("whose name was made to lead here find no server without tokens", async () => {
    const evil = { headers: { host: "evil.example:50052" }, body: {} };
    const open = await serve();
    const refused = await send(open, "GetSession", evil);
    expect(refused.httpStatus).toBe(403);
    expect((await send(open, "/healthz", { ...evil, method: "GET" })).httpStatus).toBe(403);
    for (const host of ["localhost", "LOCALHOST:1", "127.0.0.1:50052", "[::1]:50052"]) {
      expect((await send(open, "GetSession", { headers: { host }, body: {} })).httpStatus).toBe(
        400,
      );
    }
    await open.stop();
    const proxied = await serve({ allowOrigins: ["https://evil.example:50052"] });
    expect((await send(proxied, "GetSession", evil)).httpStatus).toBe(400);
    await proxied.stop();
    const guarded = await serve({ tokensFile: await writeTokens() });
    expect((await send(guarded, "GetSession", evil)).httpStatus).toBe(401);
  });
});

describe("a call that ends early", () => {
  test("by its timeout: Postgres is told", async () => {
    const where = await serve();
    const id = await newSession(where);
    const lock = await holdSession(database.url, BigInt(id));
    const answer = await append(where, id, { headers: { "connect-timeout-ms": "300" } });
    expect(faultOfAnswer(answer).reason).toBe("DEADLINE_EXCEEDED");
    await untilQuiet(database.url);
    await lock.release();
  });

  test("by its caller's going: Postgres is told, and the log says so", async () => {
    const where = await serveApart();
    const id = await newSession(where);
    const lock = await holdSession(database.url, BigInt(id));
    const body = JSON.stringify({ conversationId: id, message: { role: "ROLE_USER" } });
    const request = http.request(`${where.httpUrl}/agentstore.v1.AgentStore/AddMessage`, {
      method: "POST",
      headers: { "content-type": "application/json" },
    });
    request.on("error", () => {});
    request.end(body);
    await untilBlocked(database.url);
    request.destroy();
    await untilQuiet(database.url);
    await lock.release();
    const line = await until("it is logged", () =>
      logged().find(({ method }) => method === "AddMessage"),
    );
    expect(line).toMatchObject({
      code: "CANCELLED",
      transport: "http",
      request_bytes: body.length,
      peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string,
    });
  });
});

test("the audit log has the address of who called", async () => {
  const where = await serve();
  await newSession(where);
  const list = () => send(where, "/agentstore.v1.AgentStoreAdmin/ListAuditEvents", { body: {} });
  const events = await until("it is sealed", async () => {
    const { json } = await list();
    return json?.["events"] as { method: string; peer: string }[] | undefined;
  });
  expect(events[0]!.peer).toMatch(/^127\.0\.0\.1:\d+$/);
});

describe("a server that stops", () => {
  test("lets calls finish, and ends connections that idle", async () => {
    // More than the test has: what waits for it fails.
    const where = await serveApart("--grace-seconds", "3600");
    const id = await newSession(where);
    const agent = new http.Agent({ keepAlive: true });
    const idle = http.get(`${where.httpUrl}/healthz`, { agent });
    const [response] = (await once(idle, "response")) as [http.IncomingMessage];
    response.resume();
    const lock = await holdSession(database.url, BigInt(id));
    const answer = append(where, id, { agent });
    await untilBlocked(database.url);
    where.child.kill("SIGTERM");
    await until("it takes no more", () =>
      send(where, "/healthz", { method: "GET" }).then(
        () => false,
        () => true,
      ),
    );
    await lock.release();
    expect((await answer).json).toMatchObject({ message: { seq: "1" } });
    expect(await where.exited(), where.output()).toBe(0);
    agent.destroy();
  });

  test("tells those that outlast its patience", async () => {
    const where = await serveApart("--grace-seconds", "0");
    const id = await newSession(where);
    const lock = await holdSession(database.url, BigInt(id));
    const answer = append(where, id);
    await untilBlocked(database.url);
    where.child.kill("SIGTERM");
    expect(faultOfAnswer(await answer)).toMatchObject({
      reason: "SHUTTING_DOWN",
      retryAfterMs: 500,
    });
    expect(await where.exited(), where.output()).toBe(0);
    await lock.release();
  });
});

test("health follows the database", async () => {
  const where = await serve();
  const health = async () => (await send(where, "/healthz", { method: "GET" })).httpStatus;
  expect(await health()).toBe(200);
  await database.drop();
  await until("it is missed", async () => (await health()) === 503);
  const { json } = await send(where, "/healthz", { method: "GET" });
  expect(json).toEqual({ status: "NOT_SERVING" });
});

describe("ports", () => {
  test("one that is taken is told", async () => {
    const port = String(await freePort());
    await serveApart("--http-port", port);
    const second = spawnServer(["--database-url", database.url, "--http-port", port]);
    await expect(second).rejects.toThrow(
      new RegExp(`cannot serve HTTP on port ${port} of 127\\.0\\.0\\.1: .*EADDRINUSE`),
    );
  });

  test("workers share one", async () => {
    const where = await serveApart("--workers", "2", "--pool-size", "4");
    const id = await newSession(where);
    for (let n = 0; n < 6; n++) expect((await append(where, id)).httpStatus).toBe(200);
    await until("the calls are logged", () => {
      const calls = logged().filter(({ method }) => method === "AddMessage");
      return calls.length === 6 && new Set(calls.map(({ pid }) => pid)).size === 2;
    });
  });

  test("there is none with --no-http", async () => {
    const where = await serveApart("--no-http");
    expect(where.httpUrl).toBe("");
    expect(where.output()).not.toContain("http://127.0.0.1:50052");
    const stubs = new Stubs(where.address);
    const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
    await stubs.call("addMessage", { conversationId: session!.id, message: newMessage() });
    stubs.close();
  });

  test.each([["app.example"], ["https://app.example/"], ["*"], ["null"], ["file:///x"]])(
    "--allow-origin %s is no origin",
    async (origin) => {
      await expect(serveApart("--allow-origin", origin)).rejects.toThrow(
        "like https://app.example",
      );
    },
  );
});
