// CreateSession: what it keeps, what it gives, its replays and its refusals.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { SessionState } from "../../gen/agentstore/v1/sessions.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();

const ODD_TEXT = "\uFEFF a\r\n\te\u0301 👩‍👩‍👧 漢字 \u2028 ";

describe("a new session", () => {
  test("has the fields that it was given, and those that the server gives", async () => {
    const modelId = uniqueModel();
    const expiresAt = new Date("2099-01-02T03:04:05.678Z");
    const metadata = { text: ODD_TEXT, n: null, yes: true, list: [1, [2.5], {}], deep: { "": [] } };
    const before = Date.now();
    const { session, replayed } = await store.call("createSession", {
      modelId,
      title: ODD_TEXT,
      ownerId: "owner 1",
      tags: ["b", "a", "b", "ä"],
      metadata,
      expiresAt,
    });
    expect(replayed).toBe(false);
    expect(session).toEqual({
      id: expect.any(BigInt),
      modelId,
      title: ODD_TEXT,
      ownerId: "owner 1",
      tags: ["b", "a", "ä"],
      metadata,
      expiresAt,
      state: SessionState.ACTIVE,
      revision: 1n,
      lastSeq: 0n,
      createdAt: expect.any(Date),
      updatedAt: expect.any(Date),
    });
    expect(session!.id).toBeGreaterThan(0n);
    expect(session!.updatedAt).toEqual(session!.createdAt);
    // The server's clock and this one may differ by a little where it runs elsewhere.
    expect(Math.abs(session!.createdAt!.getTime() - before)).toBeLessThan(600_000);
    const { session: read } = await store.call("getSession", { conversationId: session!.id });
    expect(read).toEqual(session);
  });

  test("needs nothing but a model", async () => {
    const { session } = await store.call("createSession", { modelId: "m" });
    expect(session).toMatchObject({ modelId: "m", title: "", ownerId: "", tags: [] });
    expect(session!.metadata).toBeUndefined();
    expect(session!.expiresAt).toBeUndefined();
  });

  test("tells an empty metadata from none", async () => {
    const conversationId = await store.newSession({ metadata: {} });
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.metadata).toEqual({});
  });

  test("keeps metadata under names that mean something to JavaScript", async () => {
    const metadata = JSON.parse(
      '{"constructor":1,"toString":"x","hasOwnProperty":{"values":[1]},"values":[2],"fields":{"fields":{}},"toJSON":"t","toPostgres":"p","kind":{"$case":"numberValue","value":7}}',
    ) as Record<string, unknown>;
    const conversationId = await store.newSession({ metadata });
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.metadata).toEqual(metadata);
  });

  test("keeps the numbers of metadata as doubles", async () => {
    const metadata = { a: 0.1, b: 1e308, c: 5e-324, d: 2 ** 53, e: -1.5, f: 1 / 3, g: 1e21 };
    const conversationId = await store.newSession({ metadata });
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.metadata).toEqual(metadata);
  });

  test.each([
    "0001-01-01T00:00:00.000Z",
    "0099-12-31T23:59:59.999Z",
    "1883-11-18T12:03:58.001Z",
    "1969-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59.999Z",
  ])("keeps expires_at %s", async (time) => {
    const conversationId = await store.newSession({ expiresAt: new Date(time) });
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.expiresAt?.toISOString()).toBe(time);
    const gone = new Date(time).getTime() < Date.now();
    expect(session!.state).toBe(gone ? SessionState.EXPIRED : SessionState.ACTIVE);
  });

  test("may have texts as long as the limits, counted in characters", async () => {
    const fields = {
      modelId: `${uniqueModel()}${"🙂".repeat(256)}`.slice(0, 40 + 216 * 2),
      title: "🙂".repeat(1_000),
      ownerId: "ж".repeat(256),
      tags: Array.from(
        { length: 64 },
        (_, index) => `${"🏷".repeat(126)}${String(index).padStart(2)}`,
      ),
      requestId: `${randomUUID()}${"é".repeat(92)}`,
    };
    const { requestId: _, ...kept } = fields;
    const { session } = await store.call("createSession", fields);
    expect(session).toMatchObject(kept);
  });

  test("may have metadata of almost 256 KiB, 32 deep", async () => {
    const size = 256 * 1024 - '{"a":""}'.length;
    const conversationId = await store.newSession({ metadata: { a: "x".repeat(size) } });
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.metadata).toEqual({ a: "x".repeat(size) });
    await store.newSession({ metadata: nested(32) });
  });

  test("gets a higher id than the one before, and no other session's", async () => {
    const ids = [];
    for (let index = 0; index < 5; index++) ids.push(await store.newSession());
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => (a < b ? -1 : 1)));
  });
});

describe("request_id", () => {
  test("replays the first answer and creates nothing", async () => {
    const modelId = uniqueModel();
    const request = {
      modelId,
      title: "once",
      metadata: { a: 1, b: { c: 2 } },
      requestId: randomUUID(),
    };
    const first = await store.call("createSession", request);
    // Changes since do not show in the replay.
    const conversationId = first.session!.id;
    await store.call("updateSession", {
      session: { id: conversationId, title: "changed" },
      updateMask: ["title"],
    });
    const again = await store.call("createSession", request);
    expect(again).toEqual({ session: first.session, replayed: true });
    // The same Struct, its entries the other way round.
    const turned = await store.call("createSession", {
      ...request,
      metadata: { b: { c: 2 }, a: 1 },
    });
    expect(turned.replayed).toBe(true);
    const { sessions } = await store.call("listSessions", { modelId });
    expect(sessions.map(({ session }) => session!.id)).toEqual([conversationId]);
  });

  test.each([
    { title: "other" },
    { ownerId: "other" },
    { tags: ["other"] },
    { metadata: {} },
    { expiresAt: new Date(0) },
  ])("refuses another body: %o", async (change) => {
    const request = { modelId: uniqueModel(), requestId: randomUUID() };
    await store.call("createSession", request);
    await store.refuses(
      "createSession",
      { ...request, ...change },
      { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
    );
    const { sessions } = await store.call("listSessions", { modelId: request.modelId });
    expect(sessions).toHaveLength(1);
  });

  test("lets one of many identical requests at once write", async () => {
    const request = { modelId: uniqueModel(), requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 30 }, () => store.call("createSession", request)),
    );
    expect(new Set(answers.map(({ session }) => session!.id)).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    const { sessions } = await store.call("listSessions", { modelId: request.modelId });
    expect(sessions).toHaveLength(1);
  });

  test("creates again and again when it is empty", async () => {
    const modelId = uniqueModel();
    await store.newSession({ modelId });
    await store.newSession({ modelId });
    const { sessions } = await store.call("listSessions", { modelId });
    expect(sessions).toHaveLength(2);
  });
});

describe("refusals", () => {
  const tooMany = Array.from({ length: 65 }, (_, index) => String(index));

  test.each([
    [{ modelId: "" }, ["model_id"]],
    [{ modelId: "m".repeat(257) }, ["model_id"]],
    [{ modelId: "a\0b" }, ["model_id"]],
    [{ title: "t".repeat(1_001) }, ["title"]],
    [{ title: "\0" }, ["title"]],
    [{ ownerId: "o".repeat(257) }, ["owner_id"]],
    [{ ownerId: "\0" }, ["owner_id"]],
    [{ tags: tooMany }, ["tags"]],
    [{ tags: ["ok", "x".repeat(129)] }, ["tags[1]"]],
    [{ tags: ["ok", "ok", ""] }, ["tags[2]"]],
    [{ tags: ["\0"] }, ["tags[0]"]],
    [{ metadata: { a: ["\0"] } }, ["metadata"]],
    [{ metadata: { "a\0": 1 } }, ["metadata"]],
    [{ metadata: { a: Number.NaN } }, ["metadata"]],
    [{ metadata: { a: [{ b: Number.POSITIVE_INFINITY }] } }, ["metadata"]],
    [{ metadata: nested(33) }, ["metadata"]],
    [{ metadata: nestedLists(33) }, ["metadata"]],
    [{ metadata: nested(1_000) }, ["metadata"]],
    [{ metadata: { a: "x".repeat(300 * 1024) } }, ["metadata"]],
    [{ expiresAt: new Date(-62_135_596_800_001) }, ["expires_at"]],
    [{ expiresAt: new Date(253_402_300_800_000) }, ["expires_at"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ requestId: "r\0" }, ["request_id"]],
    [{ modelId: "", title: "\0", tags: [""] }, ["model_id", "title", "tags[0]"]],
  ])("%# %j", async (change, fields) => {
    const modelId = uniqueModel();
    await store.refuses(
      "createSession",
      { modelId, ...change },
      { reason: "INVALID_FIELD", fields },
    );
    const { sessions } = await store.call("listSessions", { modelId });
    expect(sessions).toEqual([]);
  });
});

function nested(depth: number): Record<string, unknown> {
  let value: Record<string, unknown> = {};
  for (let level = 1; level < depth; level++) value = { a: value };
  return value;
}

function nestedLists(depth: number): Record<string, unknown> {
  let value: unknown = [];
  for (let level = 2; level < depth; level++) value = [value];
  return { a: value };
}
