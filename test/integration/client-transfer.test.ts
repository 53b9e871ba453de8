// Exports, imports and the audit log by the client.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  AgentStoreClient,
  CancelledError,
  type ExportedPiece,
  InvalidFieldError,
  InvalidImportError,
  InvalidPageTokenError,
  RequestIdReusedError,
  SessionNotFoundError,
  UnavailableError,
} from "../../client/index.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { proxyToServer } from "../harness/proxy.js";
import { startServer, type TestServer } from "../harness/server.js";

let database: TestDatabase;
let server: TestServer;
let store: AgentStoreClient;

beforeAll(async () => {
  database = await createDatabase();
  server = await startServer({ databaseUrl: database.url });
  store = new AgentStoreClient(server.url);
});

afterAll(async () => {
  store.close();
  await server.stop();
  await database.drop();
});

async function all(pieces: AsyncIterable<ExportedPiece>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const { bytes } of pieces) chunks.push(bytes);
  return Buffer.concat(chunks);
}

async function newModel(sessions: number, characters = 10): Promise<string> {
  const modelId = `model-${randomUUID()}`;
  for (let n = 0; n < sessions; n++) {
    const { id } = await store.createSession(modelId, { tags: [`n${n}`] });
    await store.addMessages(id, [
      { role: "user", content: "x".repeat(characters) },
      { role: "assistant", content: String(n) },
    ]);
  }
  return modelId;
}

describe("a round trip", () => {
  it("goes through the client, whatever the bytes' cut", async () => {
    const modelId = await newModel(3);
    const bytes = await all(store.exportSessions("jsonl", { modelId }));
    const importId = randomUUID();
    const source = Array.from(
      { length: Math.ceil(bytes.length / 7) },
      (_, n) => new Uint8Array(bytes.subarray(n * 7, n * 7 + 7)),
    );
    const { sessions, messages } = await store.importSessions(importId, source);
    expect(messages).toBe(6n);
    expect(sessions).toHaveLength(3);
    const again = await store.importSessions(importId, [bytes]);
    expect(again).toEqual({
      sessions: sessions.map((session) => ({ ...session, replayed: true })),
      messages: 0n,
    });
    const conversationIds = sessions.map(({ conversationId }) => conversationId);
    const openai = await all(store.exportSessions("openai", { conversationIds }));
    expect(openai.toString().split("\n")).toHaveLength(4);
  });

  it("is narrowed by ids and filters", async () => {
    const modelId = await newModel(3);
    const filter = { allTags: ["n1"] };
    const one = await all(store.exportSessions("csv", { modelId, filter }));
    expect(one.toString().trimEnd().split("\r\n")).toHaveLength(3);
    expect((await all(store.exportSessions("json", { modelId }))).toString()).toContain('"n2"');
  });

  it("takes a source without bytes", async () => {
    expect(await store.importSessions(randomUUID(), [])).toEqual({ sessions: [], messages: 0n });
  });
});

describe("errors", () => {
  it("of arguments, before anything is sent", async () => {
    expect(() => store.exportSessions("xml" as never)).toThrow(InvalidFieldError);
    expect(() => store.exportSessions("csv", { conversationIds: ["1" as never] })).toThrow(
      InvalidFieldError,
    );
    await expect(store.importSessions("", [])).rejects.toThrow(InvalidFieldError);
    await expect(store.importSessions("i", ["text" as never])).rejects.toThrow(TypeError);
  });

  it("that the server names", async () => {
    const missing = store.exportSessions("csv", { conversationIds: [1n << 60n] });
    await expect(all(missing)).rejects.toThrow(SessionNotFoundError);
    const token = store.exportSessions("csv", { resumeToken: "none" });
    await expect(all(token)).rejects.toThrow(InvalidPageTokenError);
    const bad = store.importSessions(randomUUID(), [Buffer.from('{"header":{}}\n')]);
    const error = await bad.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InvalidImportError);
    expect(error).toMatchObject({ line: 1n, sessions: 0n });
    const bytes = await all(store.exportSessions("jsonl", { modelId: await newModel(1) }));
    const importId = randomUUID();
    await store.importSessions(importId, [bytes]);
    const other = Buffer.from(bytes.toString().replace("xxxxxxxxxx", "y"));
    await expect(store.importSessions(importId, [other])).rejects.toThrow(RequestIdReusedError);
  });

  it("of the source are the caller's own", async () => {
    const failure = new Error("the disk is gone");
    async function* broken() {
      yield Buffer.from('{"header":{"schemaVersion":1}}\n');
      await Promise.resolve();
      throw failure;
    }
    await expect(store.importSessions(randomUUID(), broken())).rejects.toBe(failure);
  });

  it("of a signal that aborts", async () => {
    const modelId = await newModel(3, 300_000);
    const controller = new AbortController();
    const pieces = store.exportSessions("json", { modelId, signal: controller.signal });
    await pieces.next();
    controller.abort();
    await expect(all(pieces)).rejects.toThrow(CancelledError);
    async function* endless() {
      for (;;) {
        await new Promise((resolve) => setImmediate(resolve));
        yield Buffer.from(" \n");
      }
    }
    const other = new AbortController();
    const importing = store.importSessions(randomUUID(), endless(), { signal: other.signal });
    setImmediate(() => other.abort());
    await expect(importing).rejects.toThrow(CancelledError);
  });
});

describe("an export whose connection breaks", () => {
  it("behind a whole session goes on by itself", async () => {
    const modelId = await newModel(6, 100_000);
    const expected = await all(store.exportSessions("openai", { modelId }));
    const proxy = await proxyToServer(server.address);
    const client = new AgentStoreClient({
      url: `agentstore://${proxy.address}`,
      timeoutMs: 20_000,
    });
    try {
      const chunks: Uint8Array[] = [];
      let broken = false;
      for await (const piece of client.exportSessions("openai", { modelId })) {
        chunks.push(piece.bytes);
        if (piece.resumeToken === "" || broken) continue;
        broken = true;
        proxy.cut();
      }
      expect(broken).toBe(true);
      expect(Buffer.concat(chunks).equals(expected)).toBe(true);
    } finally {
      client.close();
      await proxy.close();
    }
  });

  it("in the middle of a session says so", async () => {
    const modelId = `model-${randomUUID()}`;
    const { id } = await store.createSession(modelId);
    for (let n = 0; n < 10; n++) {
      const content = "x".repeat(1_000_000);
      await store.addMessages(id, [
        { role: "user", content },
        { role: "user", content },
      ]);
    }
    const proxy = await proxyToServer(server.address);
    const client = new AgentStoreClient({
      url: `agentstore://${proxy.address}`,
      timeoutMs: 20_000,
    });
    try {
      const pieces = client.exportSessions("openai", { modelId });
      const first = await pieces.next();
      expect((first.value as ExportedPiece).resumeToken).toBe("");
      proxy.cut();
      await expect(all(pieces)).rejects.toThrow(UnavailableError);
    } finally {
      client.close();
      await proxy.close();
    }
  });
});

describe("the audit log", () => {
  it("is listed and verified, and a fault in it is named", async () => {
    const { id } = await store.createSession("audited");
    const requestId = randomUUID();
    await store.updateSession(id, { title: "t" }, { requestId });
    await store.deleteSession(id);
    const events = [];
    for await (const event of store.iterateAuditEvents({ conversationId: id, pageSize: 2 })) {
      events.push(event);
    }
    expect(events.map(({ rpc }) => rpc)).toEqual([
      "CreateSession",
      "UpdateSession",
      "DeleteSession",
    ]);
    const { events: newest, nextPageToken } = await store.listAuditEvents({
      conversationId: id,
      newestFirst: true,
      pageSize: 1,
    });
    expect(newest[0]).toEqual(events[2]);
    expect(nextPageToken).not.toBe("");
    expect((await store.listAuditEvents({ requestId })).events).toEqual([events[1]]);

    const { fault, checked, end } = await store.verifyAudit();
    expect(fault).toBeUndefined();
    expect(checked).toBe(end.position);
    expect((await store.verifyAudit({ after: end })).checked).toBe(0n);
    await expect(
      store.verifyAudit({ after: { position: 1n, chain: new Uint8Array(3) } }),
    ).rejects.toThrow(InvalidFieldError);
    const { position } = events[1]!;
    await withClient(database.url, (client) =>
      client.query("UPDATE audit_events SET principal = 'x' WHERE position = $1", [position]),
    );
    expect((await store.verifyAudit()).fault).toMatchObject({ position, kind: "changed" });
  });
});
