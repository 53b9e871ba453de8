// Tests what each method sends, what it makes of the answer, and what it refuses to send.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { AgentStoreClient, InvalidFieldError, type NewMessage } from "../../../client/index.js";
import { SearchMessagesResponse } from "../../../gen/agentstore/v1/search.js";
import { SessionStats, AgentSession as WireSession } from "../../../gen/agentstore/v1/sessions.js";
import { type FakeServer, startFakeServer, stored } from "./fake-server.js";

let server: FakeServer;
let store: AgentStoreClient;
let requests: unknown[] = [];
let authorization: unknown;
const created = new Date("2026-01-02T03:04:05.678Z");
const session = WireSession.fromPartial({
  id: 7n,
  modelId: "gpt-4",
  state: 1,
  createdAt: created,
  updatedAt: created,
  metadata: { plan: "pro" },
});
const readSession = { ...session, state: "active" };
const usage = {
  inputTokens: 1n,
  outputTokens: 2n,
  cachedTokens: 3n,
  reasoningTokens: 4n,
  costMicros: 5n,
};

beforeAll(async () => {
  const page = (token: string) => (token === "" ? "second" : "");
  const seen = <T>(request: unknown, answer: T): T => {
    requests.push(request);
    return answer;
  };
  const copy = () => ({ ...session });
  server = await startFakeServer({
    createSession: (request) => seen(request, { session: copy(), replayed: false }),
    getSession: (request, call) => {
      authorization = call.metadata.get("authorization")[0];
      return seen(request, { session: copy() });
    },
    updateSession: (request) => seen(request, { session: copy(), replayed: false }),
    listSessions: (request) =>
      seen(request, {
        sessions: [
          { session: copy(), messageCount: 2n, lastMessageTime: created, firstMessage: "Hi" },
        ],
        nextPageToken: page(request.pageToken),
      }),
    listTags: (request) =>
      seen(request, {
        tags: [{ tag: `t${request.pageToken}`, sessionCount: 2n }],
        nextPageToken: page(request.pageToken),
      }),
    getState: (request) =>
      seen(request, {
        state: { conversationId: 7n, state: "{}", etag: "e", revision: 3n, updatedAt: created },
      }),
    updateState: (request) =>
      seen(request, {
        state: { conversationId: 7n, state: "", etag: "e", revision: 3n, updatedAt: created },
        replayed: false,
      }),
    deleteSession: (request) => seen(request, { deleted: true, replayed: true }),
    getSessionStats: (request) =>
      seen(request, {
        stats: SessionStats.fromPartial({ totalMessages: 3n, totalCharacters: 9n }),
      }),
    addMessage: (request) => seen(request, { message: stored(1n), stateEtag: "", replayed: false }),
    addMessages: (request) =>
      seen(request, { messages: [stored(1n), stored(2n)], stateEtag: "", replayed: false }),
    getMessage: (request) => seen(request, { message: { ...stored(3n), role: 9 as never } }),
    getMessages: (request) =>
      seen(request, { messages: [stored(1n)], nextPageToken: page(request.pageToken) }),
    searchMessages: (request) =>
      seen(
        request,
        SearchMessagesResponse.fromPartial({
          results: [{ message: stored(4n) }],
          nextPageToken: request.language ? page(request.pageToken) : "",
        }),
      ),
  });
  store = new AgentStoreClient({ url: server.url, token: "secret" });
});
beforeEach(() => {
  requests = [];
});
afterAll(async () => {
  store.close();
  await server.stop();
});

const requestId = expect.stringMatching(/^[0-9a-f-]{36}$/);
const read = (seq: bigint) => ({ ...stored(seq), role: "user" });

describe("states", () => {
  const state = { conversationId: 7n, etag: "e", revision: 3n, updatedAt: created };

  it("are read and written as text", async () => {
    expect(await store.getState(7)).toEqual({ ...state, state: "{}" });
    expect(await store.updateState(7, ' {"a":1}')).toEqual({ ...state, state: ' {"a":1}' });
    await store.updateState(7n, "1", { expectedEtag: "", requestId: "r" });
    expect(requests).toEqual([
      { conversationId: 7n },
      { conversationId: 7n, state: ' {"a":1}', expectedEtag: undefined, requestId },
      { conversationId: 7n, state: "1", expectedEtag: "", requestId: "r" },
    ]);
  });

  it("go with an append", async () => {
    await store.addMessage(7, "user", "Hi", { state: { state: "1", expectedEtag: "e" } });
    await store.addMessages(7, [{ role: "user" }], { state: { state: "2" } });
    expect(requests).toMatchObject([
      { state: { state: "1", expectedEtag: "e" } },
      { state: { state: "2", expectedEtag: undefined } },
    ]);
  });

  it.each([
    [() => store.updateState(7, "\uD800"), "state"],
    [() => store.updateState(7, {} as never), "state"],
    [() => store.updateState(7, "1", { expectedEtag: 5 as never }), "expected_etag"],
    [() => store.addMessage(7, "user", "", { state: { state: 1 as never } }), "state.state"],
    [() => store.getState(0.5), "conversation_id"],
  ])("are refused where they cannot be sent: %#", async (call, field) => {
    const error = await call().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InvalidFieldError);
    expect(error).toMatchObject({ metadata: { field } });
    expect(requests).toEqual([]);
  });
});

describe("filters and tags", () => {
  it("go out as they are given", async () => {
    const start = new Date(5);
    const filter = {
      allTags: ["a"],
      anyTags: ["b", "c"],
      ownerId: "o",
      metadata: { k: [1] },
      state: "expired" as const,
      created: { start },
      lastMessage: { end: start },
    };
    await store.listSessions("m", { filter });
    await store.listSessions("m", { filter: {} });
    await store.listSessions("m");
    expect(requests).toMatchObject([
      {
        filter: {
          ...filter,
          state: 2,
          created: { start, end: undefined },
          lastMessage: { end: start },
        },
      },
      { filter: { allTags: [], anyTags: [], ownerId: "", metadata: undefined, state: 0 } },
      { filter: undefined },
    ]);
  });

  it("are refused where they cannot be sent", async () => {
    const bad = [
      [{ allTags: [1] }, "filter.all_tags[0]"],
      [{ anyTags: "a" }, "filter.any_tags"],
      [{ state: "gone" }, "filter.state"],
      [{ metadata: { a: Number.NaN } }, "filter.metadata.a"],
      [{ created: { start: 5 } }, "filter.created.start"],
    ] as const;
    for (const [filter, field] of bad) {
      const call = store.listSessions("m", { filter: filter as never });
      await expect(call).rejects.toMatchObject({ reason: "INVALID_FIELD", metadata: { field } });
    }
  });

  it("tags come page by page", async () => {
    expect(await store.listTags({ pageSize: 1 })).toEqual({
      tags: [{ tag: "t", sessionCount: 2n }],
      nextPageToken: "second",
    });
    const tags: string[] = [];
    for await (const { tag } of store.iterateTags()) tags.push(tag);
    expect(tags).toEqual(["t", "tsecond"]);
  });
});

describe("sessions", () => {
  it("are created with what is given", async () => {
    const metadata = { plan: "pro", nested: [1, null, { deep: true }] };
    const expiresAt = new Date("2030-01-01T00:00:00Z");
    const fields = { title: "T", ownerId: "O", tags: ["a", "b"], metadata, expiresAt };
    expect(await store.createSession("gpt-4", fields)).toEqual(readSession);
    await store.createSession("gpt-4");
    expect(requests).toEqual([
      { modelId: "gpt-4", ...fields, requestId },
      { modelId: "gpt-4", title: "", ownerId: "", tags: [], requestId },
    ]);
  });

  it("are read with the token, by bigint and by number", async () => {
    expect(await store.getSession(7)).toEqual(readSession);
    await store.getSession(9_223_372_036_854_775_807n);
    expect(requests).toEqual([
      { conversationId: 7n },
      { conversationId: 9_223_372_036_854_775_807n },
    ]);
    expect(authorization).toBe("Bearer secret");
  });

  it("are changed where a key is there, and cleared by null", async () => {
    await store.updateSession(7, { title: "T", metadata: null, ownerId: undefined });
    await store.updateSession(7, { tags: ["x"], expiresAt: null, ownerId: "" });
    expect(requests).toMatchObject([
      { session: { id: 7n, title: "T" }, updateMask: ["title", "metadata"], requestId },
      { session: { tags: ["x"] }, updateMask: ["tags", "expires_at", "owner_id"], requestId },
    ]);
    expect((requests[0] as { session: WireSession }).session.metadata).toBeUndefined();
    const misspelt = { tilte: "T" } as object;
    await expect(store.updateSession(7, misspelt)).rejects.toMatchObject({
      violations: [{ field: "tilte" }],
    });
  });

  it("are listed by page, and all of them", async () => {
    const summary = {
      session: readSession,
      messageCount: 2n,
      lastMessageTime: created,
      firstMessage: "Hi",
    };
    expect(await store.listSessions("gpt-4", { pageSize: 1 })).toEqual({
      sessions: [summary],
      nextPageToken: "second",
    });
    requests = [];
    const all = [];
    for await (const each of store.iterateSessions("gpt-4", { pageSize: 1 })) all.push(each);
    expect(all).toEqual([summary, summary]);
    expect(requests).toEqual([
      { modelId: "gpt-4", pageSize: 1, pageToken: "" },
      { modelId: "gpt-4", pageSize: 1, pageToken: "second" },
    ]);
  });

  it("are deleted, and the caller hears of a replay", async () => {
    const infos: unknown[] = [];
    const options = { requestId: "r", onWritten: (info: unknown) => infos.push(info) };
    expect(await store.deleteSession(7, options)).toBe(true);
    expect(requests).toEqual([{ conversationId: 7n, requestId: "r" }]);
    expect(infos).toEqual([{ requestId: "r", replayed: true, attempts: 1 }]);
  });

  it("have stats, whose usage is never missing", async () => {
    const zero = {
      inputTokens: 0n,
      outputTokens: 0n,
      cachedTokens: 0n,
      reasoningTokens: 0n,
      costMicros: 0n,
    };
    expect(await store.getSessionStats(7)).toMatchObject({ totalMessages: 3n, totalUsage: zero });
  });
});

describe("messages", () => {
  const full: NewMessage = {
    role: "assistant",
    content: "a\0b",
    timestampMs: 1_700_000_000_000,
    name: "n",
    toolCalls: [{ id: "c", name: "f", arguments: '{ "x": 1.0 }' }],
    payload: "{}",
    payloadType: "t",
    metadata: { a: 1 },
    usage: { inputTokens: 1, outputTokens: 2n, cachedTokens: 3, reasoningTokens: 4, costMicros: 5 },
  };
  const wire = { ...full, role: 3, timestampMs: 1_700_000_000_000n, toolCallId: "", usage };

  it("are appended one by one and together, with all their fields", async () => {
    const { role, content, ...rest } = full;
    const added = await store.addMessage(7, role, content ?? "", { ...rest, expectedLastSeq: 0 });
    expect(added).toEqual(read(1n));
    const options = { expectedLastSeq: 5n, fencingToken: 3, requestId: "r" };
    const both = await store.addMessages(7n, [full, { role: "tool", toolCallId: "c" }], options);
    expect(both).toEqual([read(1n), read(2n)]);
    await store.addMessages(7n, [full], { ...options, view: "full" });
    await store.addMessages(7n, [full], { ...options, view: "keys" });
    expect(requests.splice(2)).toMatchObject([{ view: 1 }, { view: 2 }]);
    const tool = {
      role: 4,
      content: "",
      name: "",
      toolCalls: [],
      toolCallId: "c",
      payload: "",
      payloadType: "",
    };
    expect(requests).toEqual([
      {
        conversationId: 7n,
        message: wire,
        expectedLastSeq: 0n,
        fencingToken: 0n,
        requestId,
        view: 0,
      },
      {
        conversationId: 7n,
        messages: [wire, tool],
        expectedLastSeq: 5n,
        fencingToken: 3n,
        requestId: "r",
        view: 0,
      },
    ]);
  });

  it("are read one by one, by page, and all of them", async () => {
    expect(await store.getMessage(7, 3)).toMatchObject({ seq: 3n, role: "unknown" });
    const range = {
      afterSeq: 1,
      beforeSeq: 9n,
      order: "newest_first",
      lastN: 5,
      offset: 2,
      pageSize: 10,
    } as const;
    expect(await store.getMessages(7, range)).toEqual({
      messages: [read(1n)],
      nextPageToken: "second",
    });
    const all = [];
    for await (const each of store.iterateMessages(7)) all.push(each.seq);
    expect(all).toEqual([1n, 1n]);
    expect(requests).toMatchObject([
      { conversationId: 7n, seq: 3n },
      { afterSeq: 1n, beforeSeq: 9n, order: 2, lastN: 5n, offset: 2n, pageSize: 10, pageToken: "" },
      { afterSeq: 0n, beforeSeq: 0n, order: 1, lastN: 0n, offset: 0n, pageSize: 0, pageToken: "" },
      { pageToken: "second" },
    ]);
  });

  it("are searched", async () => {
    expect(await store.searchMessages("gpt-4", "50%", { limit: 3 })).toEqual([read(4n)]);
    expect(requests).toMatchObject([{ modelId: "gpt-4", query: "50%", limit: 3, mode: 0 }]);
  });

  it("are searched with all options, page by page", async () => {
    const timestamp = { start: created };
    const results: unknown[] = [];
    for await (const result of store.iterateSearch("", "word", {
      mode: "full_text",
      order: "newest_first",
      filter: { conversationId: 7, ownerId: "o", roles: ["tool"], allTags: ["t"], timestamp },
      contextBefore: 1,
      contextAfter: 2,
      language: "german",
      embedding: { values: [0.5], model: "e" },
    })) {
      results.push(result);
    }
    const result = { score: 0, snippet: { text: "", offset: 0, hits: [] }, before: [], after: [] };
    expect(results).toEqual([
      { message: read(4n), ...result },
      { message: read(4n), ...result },
    ]);
    const sent = {
      modelId: "",
      query: "word",
      mode: 2,
      order: 1,
      contextBefore: 1,
      contextAfter: 2,
      language: "german",
      queryEmbedding: [0.5],
      embeddingModel: "e",
      filter: { conversationId: 7n, ownerId: "o", roles: [4], allTags: ["t"], timestamp },
    };
    expect(requests).toMatchObject([sent, { ...sent, pageToken: "second" }]);
  });
});

describe("what cannot be sent as it is, is not sent", () => {
  const lone = "half \ud83d";
  const nested = (depth: number): Record<string, unknown> =>
    depth === 1 ? {} : { a: nested(depth - 1) };
  const circular: Record<string, unknown> = {};
  circular["self"] = circular;
  const add = (message: object) => () =>
    store.addMessages(7, [{ role: "user" }, { role: "user", ...message }]);
  const create = (metadata: object) => () => store.createSession("m", { metadata } as never);

  it.each<[string, () => Promise<unknown>]>([
    ["conversation_id", () => store.getSession(1.5)],
    ["conversation_id", () => store.getSession(2 ** 53)],
    ["conversation_id", () => store.getSession(2n ** 63n)],
    ["conversation_id", () => store.getSession("7" as never)],
    ["session.id", () => store.updateSession(Number.NaN, { title: "x" })],
    ["seq", () => store.getMessage(7, -0.5)],
    ["page_size", () => store.getMessages(7, { pageSize: 2 ** 31 })],
    ["limit", () => store.searchMessages("m", "q", { limit: 0.5 })],
    ["order", () => store.getMessages(7, { order: "sideways" as never })],
    ["last_n", async () => store.streamMessages(7, { lastN: 0.1 })],
    ["model_id", () => store.createSession(lone)],
    ["model_id", () => store.createSession(undefined as never)],
    ["title", () => store.createSession("m", { title: lone })],
    ["tags[1]", () => store.createSession("m", { tags: ["ok", lone] })],
    ["expires_at", () => store.createSession("m", { expiresAt: new Date(Number.NaN) })],
    ["session.title", () => store.updateSession(7, { title: lone })],
    ["query", () => store.searchMessages("m", lone)],
    ["mode", () => store.searchMessages("m", "q", { mode: "fuzzy" as never })],
    ["order", () => store.searchMessages("m", "q", { order: "oldest" as never })],
    [
      "filter.roles[0]",
      () => store.searchMessages("m", "q", { filter: { roles: ["x" as never] } }),
    ],
    ["request_id", () => store.deleteSession(7, { requestId: lone })],
    ["page_token", () => store.getMessages(7, { pageToken: lone })],
    ["message.content", () => store.addMessage(7, "user", lone)],
    ["message.content", () => store.addMessage(7, "user", 5 as never)],
    ["message.content", () => store.addMessage(7, "user", undefined as never)],
    ["message.role", () => store.addMessage(7, "narrator" as never, "x")],
    ["messages[1].name", add({ name: lone })],
    ["messages[1].tool_call_id", add({ toolCallId: lone })],
    ["messages[1].payload", add({ payload: lone })],
    ["messages[1].payload_type", add({ payloadType: lone })],
    ["messages[1].timestamp_ms", add({ timestampMs: 0.5 })],
    ["messages[1].usage.cost_micros", add({ usage: { costMicros: 0.1 } })],
    ["messages[1].tool_calls[0].id", add({ toolCalls: [{ id: lone, name: "f", arguments: "" }] })],
    [
      "messages[1].tool_calls[0].arguments",
      add({ toolCalls: [{ id: "", name: "f", arguments: lone }] }),
    ],
    ["messages[1].metadata.a[0].b", add({ metadata: { a: [{ b: lone }] } })],
    ["metadata", create([])],
    ["metadata.when", create({ when: new Date() })],
    ["metadata.big", create({ big: 1n })],
    ["metadata.a[1]", create({ a: [1, Number.NaN] })],
    ["metadata.a[0]", create({ a: [undefined] })],
    ["metadata.__proto__", create(JSON.parse('{"__proto__": 1}') as object)],
    [`metadata.${lone}`, create({ [lone]: 1 })],
    [`metadata${".a".repeat(32)}`, create(nested(33))],
    [`metadata${".self".repeat(32)}`, create(circular)],
  ])("%s", async (field, send) => {
    const thrown = await send().catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(InvalidFieldError);
    expect(thrown).toMatchObject({
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      attempts: 0,
      violations: [{ field }],
    });
    expect(requests).toEqual([]);
  });
});
