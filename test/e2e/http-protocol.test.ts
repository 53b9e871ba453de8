// The Connect protocol around a unary call: content types, versions, encodings, timeouts, GET.
import { gzipSync } from "node:zlib";
import { fromBinary, fromJson, type Message, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { expectFault } from "./faults.js";
import { faultOfAnswer, type HttpRequest, registry, send } from "./http.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();

const GetSessionRequest = registry.getMessage("agentstore.v1.GetSessionRequest")!;
const GetSessionResponse = registry.getMessage("agentstore.v1.GetSessionResponse")!;

async function request(extra: HttpRequest = {}) {
  const conversationId = String(await store.newSession());
  return {
    conversationId,
    answer: await send(store.target, "GetSession", { body: { conversationId }, ...extra }),
  };
}

test("a conversation in JSON", async () => {
  const modelId = uniqueModel();
  const created = await send(store.target, "CreateSession", { body: { modelId } });
  expect(created.httpStatus).toBe(200);
  expect(created.headers["content-type"]).toBe("application/json");
  expect(created.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  const { id: conversationId } = created.json!["session"] as { id: string };
  const message = { role: "ROLE_USER", content: "Hello", timestampMs: "1" };
  const added = await send(store.target, "AddMessage", { body: { conversationId, message } });
  expect(added.json).toMatchObject({ message: { ...message, conversationId, seq: "1" } });
  const read = await send(store.target, "GetMessages", { body: { conversationId } });
  expect(read.json).toMatchObject({ messages: [{ content: "Hello", seq: "1" }] });
  const updated = await send(store.target, "UpdateSession", {
    body: {
      session: { id: conversationId, title: "A", ownerId: "b" },
      updateMask: "title,ownerId",
    },
  });
  expect(updated.json).toMatchObject({ session: { title: "A", ownerId: "b" } });
  await send(store.target, "DeleteSession", { body: { conversationId } });
  const gone = await send(store.target, "GetSession", { body: { conversationId } });
  expectFault(faultOfAnswer(gone), {
    reason: "SESSION_NOT_FOUND",
    metadata: { conversation_id: conversationId },
  });
});

test("in bytes", async () => {
  const conversationId = await store.newSession();
  const body = Buffer.from(
    toBinary(
      GetSessionRequest,
      fromJson(GetSessionRequest, { conversationId: String(conversationId) }),
    ),
  );
  const headers = { "content-type": "application/proto" };
  const { httpStatus, ...answer } = await send(store.target, "GetSession", { headers, body });
  expect([httpStatus, answer.headers["content-type"]]).toEqual([200, "application/proto"]);
  const { session } = fromBinary(GetSessionResponse, answer.body) as Message & {
    session: { id: bigint };
  };
  expect(session.id).toBe(conversationId);
  // Errors are JSON however the request was written.
  const none = await send(store.target, "GetSession", { headers, body: Buffer.alloc(0) });
  expectFault(faultOfAnswer(none), { reason: "INVALID_FIELD", fields: ["conversation_id"] });
});

describe("the content-type", () => {
  test.each([
    "application/json",
    "application/json; charset=utf-8",
    'application/json;charset="UTF-8"',
    "APPLICATION/JSON",
  ])("may be %s", async (type) => {
    const { answer } = await request({ headers: { "content-type": type } });
    expect(answer.httpStatus).toBe(200);
  });

  test.each([
    undefined,
    "",
    "text/plain",
    "text/json",
    "application/json; charset=latin1",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "application/grpc",
    "application/grpc-web+proto",
    "application/connect+json",
    "application/connect+proto",
    "application/jsonp",
  ])("may not be %s", async (type) => {
    const { answer } = await request({ headers: { "content-type": type } });
    expect(answer.httpStatus).toBe(415);
    expect(answer.headers["accept-post"]).toBe("application/json, application/proto");
    expect(answer.json).toMatchObject({ code: "invalid_argument" });
  });
});

test.each(["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])("%s is no way to call", async (method) => {
  const { answer } = await request({ method });
  expect([answer.httpStatus, answer.headers["allow"]]).toEqual([405, "GET, POST"]);
});

test.each([
  [{ "connect-protocol-version": "1" }, 200],
  [{ "connect-protocol-version": "2" }, 400],
  [{ "connect-timeout-ms": "60000" }, 200],
  [{ "connect-timeout-ms": "9999999999" }, 200],
  [{ "connect-timeout-ms": "0" }, 504],
  [{ "connect-timeout-ms": "10000000000" }, 400],
  [{ "connect-timeout-ms": "-1" }, 400],
  [{ "connect-timeout-ms": "1.5" }, 400],
  [{ "connect-timeout-ms": "1s" }, 400],
  [{ "content-encoding": "identity" }, 200],
  [{ "content-encoding": "br" }, 501],
  [{ "content-encoding": "gzip, gzip" }, 501],
  [{ "accept-encoding": "gzip, br" }, 200],
])("with %j: %i", async (headers, httpStatus) => {
  const { answer } = await request({ headers });
  expect(answer.httpStatus).toBe(httpStatus);
  expect(answer.headers["content-encoding"]).toBeUndefined();
  if (httpStatus === 504) expect(faultOfAnswer(answer).reason).toBe("DEADLINE_EXCEEDED");
});

test("x-request-id tells calls apart, and comes back", async () => {
  const { answer } = await request({ headers: { "x-request-id": "mine" } });
  expect(answer.headers["x-request-id"]).toBe("mine");
});

describe("gzip", () => {
  const headers = { "content-encoding": "gzip" };

  test("is understood", async () => {
    const conversationId = String(await store.newSession());
    const body = gzipSync(JSON.stringify({ conversationId }));
    const answer = await send(store.target, "GetSession", { headers, body });
    expect(answer.json).toMatchObject({ session: { id: conversationId } });
  });

  test("of nothing is nothing", async () => {
    const answer = await send(store.target, "GetSession", { headers, body: Buffer.alloc(0) });
    expectFault(faultOfAnswer(answer), { reason: "MALFORMED_REQUEST" });
  });

  test.each([
    ["garbage", Buffer.from("garbage")],
    ["cut off", gzipSync("{}").subarray(0, 15)],
    ["not compressed", Buffer.from("{}")],
  ])("that is %s is refused", async (_, body) => {
    const answer = await send(store.target, "GetSession", { headers, body });
    expectFault(faultOfAnswer(answer), { reason: "MALFORMED_REQUEST" });
  });

  test("that inflates to 100 MB is refused, by a server that stays up", async () => {
    const bomb = gzipSync(Buffer.alloc(100_000_000));
    expect(bomb.length).toBeLessThan(200_000);
    const bombs = Array.from({ length: 8 }, () =>
      send(store.target, "GetSession", { headers, body: bomb }),
    );
    for (const answer of await Promise.all(bombs)) {
      expect(["MESSAGE_TOO_LARGE", "OVERLOADED"]).toContain(faultOfAnswer(answer).reason);
    }
    await store.answers();
    const { answer } = await request();
    expect(answer.httpStatus).toBe(200);
  });
});

describe("GET", () => {
  const get = (query: string, headers = {}) =>
    send(store.target, `/agentstore.v1.AgentStore/GetSession?${query}`, { method: "GET", headers });

  test.each([
    ["JSON", (text: string) => `connect=v1&encoding=json&message=${encodeURIComponent(text)}`],
    [
      "another order, and more",
      (text: string) => `a=b&message=${encodeURIComponent(text)}&encoding=json`,
    ],
    [
      "base64",
      (text: string) => `encoding=json&base64=1&message=${Buffer.from(text).toString("base64url")}`,
    ],
    [
      "base64, padded",
      (text: string) =>
        `encoding=json&base64=1&message=${encodeURIComponent(Buffer.from(text).toString("base64"))}`,
    ],
    [
      "gzip",
      (text: string) =>
        `encoding=json&compression=gzip&base64=1&message=${gzipSync(text).toString("base64url")}`,
    ],
  ])("%s", async (_, query) => {
    const conversationId = String(await store.newSession());
    const answer = await get(query(JSON.stringify({ conversationId })));
    expect(answer.json).toMatchObject({ session: { id: conversationId } });
    expect(answer.headers["cache-control"]).toBe("no-store");
  });

  test("bytes", async () => {
    const conversationId = String(await store.newSession());
    const bytes = toBinary(GetSessionRequest, fromJson(GetSessionRequest, { conversationId }));
    const message = Buffer.from(bytes).toString("base64url");
    const answer = await get(`connect=v1&encoding=proto&base64=1&message=${message}`);
    expect([answer.httpStatus, answer.headers["content-type"]]).toEqual([200, "application/proto"]);
  });

  test.each([
    ["", 415],
    ["message=%7B%7D", 415],
    ["encoding=xml&message=%7B%7D", 415],
    ["connect=v2&encoding=json&message=%7B%7D", 400],
    ["encoding=json", 400],
    ["encoding=json&message=%FF", 400],
    ["encoding=json&base64=1&message=***", 400],
    ["encoding=json&compression=zstd&message=%7B%7D", 501],
    ["encoding=proto&base64=1&compression=gzip&message=AAAA", 400],
  ])("with %j: %i", async (query, httpStatus) => {
    expect((await get(query)).httpStatus).toBe(httpStatus);
  });
});

test("an error names what it is about, for machines and for people", async () => {
  const conversationId = String(await store.newSession());
  const answer = await send(store.target, "AddMessages", {
    body: { conversationId, expectedLastSeq: "7", messages: [{ role: "ROLE_USER" }] },
  });
  const fault = faultOfAnswer(answer);
  expectFault(fault, { reason: "LAST_SEQ_MISMATCH", metadata: { last_seq: "0" } });
  expect(answer.httpStatus).toBe(409);
});

describe("health", () => {
  test.each(["GET", "HEAD"])("is told to %s", async (method) => {
    const { token: _, ...target } = store.target;
    const answer = await send(target, "/healthz", { method });
    expect(answer.httpStatus).toBe(200);
    if (method === "GET") expect(answer.json).toEqual({ status: "SERVING" });
  });

  test("is not to be posted", async () => {
    expect((await send(store.target, "/healthz")).httpStatus).toBe(405);
  });
});
