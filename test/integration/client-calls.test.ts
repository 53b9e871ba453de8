// The client against the real server: every method, every error that a caller can provoke.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  AgentStoreClient,
  DeadlineExceededError,
  fromLlmMessages,
  InvalidFieldError,
  InvalidPageTokenError,
  LastSeqMismatchError,
  MessageNotFoundError,
  MessageTooLargeError,
  type NewMessage,
  type OpenAiMessage,
  RequestIdReusedError,
  SessionNotFoundError,
  toLlmMessages,
  type WriteInfo,
} from "../../client/index.js";
import { startServer, type TestServer } from "../harness/server.js";

let server: TestServer;
let store: AgentStoreClient;
beforeAll(async () => {
  server = await startServer();
  store = new AgentStoreClient(server.url);
});
afterAll(async () => {
  store.close();
  await server.stop();
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe("an append", () => {
  it("returns the messages, or what the server gave them", async () => {
    const { id } = await store.createSession("client-calls-view");
    const full = await store.addMessage(id, "user", "hello", { view: "full" });
    expect(full).toMatchObject({ seq: 1n, role: "user", content: "hello" });
    const keys = await store.addMessage(id, "user", "hello", { view: "keys" });
    expect(Object.keys(keys).toSorted()).toEqual([
      "conversationId",
      "id",
      "revision",
      "seq",
      "timestampMs",
    ]);
    expect(keys).toMatchObject({ conversationId: id, seq: 2n, revision: 3n });
    // @ts-expect-error: the keys have no content
    expect(keys.content).toBeUndefined();
    const batch = [{ role: "user", content: "hello" }] as const;
    const [third] = await store.addMessages(id, batch, { view: "keys" });
    const all = await store.getMessages(id);
    expect(all.messages.map(({ content }) => content)).toEqual(["hello", "hello", "hello"]);
    expect(all.messages[2]).toMatchObject({ ...third });
    expect(third).not.toHaveProperty("content");
    const wrong = store.addMessage(id, "user", "hello", { view: "some" as "full" });
    await expect(wrong).rejects.toThrow(InvalidFieldError);
  });
});

describe("a session", () => {
  it("is created, read, changed, listed, measured and deleted", async () => {
    const model = "client-calls-1";
    const expiresAt = new Date("2999-01-01T00:00:00.123Z");
    const metadata = { plan: "pro", deep: [1, null, { x: "é" }] };
    const created = await store.createSession(model, {
      title: "T",
      ownerId: "O",
      tags: ["a", "b", "a"],
      metadata,
      expiresAt,
    });
    expect(created).toMatchObject({
      modelId: model,
      title: "T",
      ownerId: "O",
      tags: ["a", "b"],
      metadata,
      expiresAt,
      state: "active",
      revision: 1n,
      lastSeq: 0n,
    });
    expect(created.createdAt).toBeInstanceOf(Date);
    expect(await store.getSession(created.id)).toEqual(created);
    expect(await store.getSession(Number(created.id))).toEqual(created);

    const changed = await store.updateSession(created.id, {
      title: "U",
      metadata: null,
      tags: null,
      expiresAt: null,
    });
    expect(changed).toMatchObject({ title: "U", ownerId: "O", tags: [], revision: 2n });
    expect(changed.metadata).toBeUndefined();
    expect(changed.expiresAt).toBeUndefined();

    await store.addMessage(created.id, "user", "Hello, 世界", {
      timestampMs: 1_700_000_000_000n,
      usage: { inputTokens: 3, costMicros: 7n },
    });
    expect(await store.getSessionStats(created.id)).toMatchObject({
      totalMessages: 1n,
      userMessages: 1n,
      totalCharacters: 9n,
      firstMessageTime: new Date(1_700_000_000_000),
      totalUsage: { inputTokens: 3n, outputTokens: 0n, costMicros: 7n },
    });
    const { sessions, nextPageToken } = await store.listSessions(model);
    expect(nextPageToken).toBe("");
    expect(sessions).toMatchObject([
      { session: { id: created.id, title: "U" }, messageCount: 1n, firstMessage: "Hello, 世界" },
    ]);
    expect(sessions[0]?.lastMessageTime).toEqual(new Date(1_700_000_000_000));

    expect(await store.deleteSession(created.id)).toBe(true);
    expect(await store.deleteSession(created.id)).toBe(false);
    await expect(store.getSession(created.id)).rejects.toBeInstanceOf(SessionNotFoundError);
  });

  it("is one of many that are iterated over", async () => {
    const model = "client-calls-2";
    const ids = [];
    for (let n = 0; n < 5; n++) ids.push((await store.createSession(model)).id);
    const found = await all(store.iterateSessions(model, { pageSize: 2 }));
    expect(found.map(({ session }) => session.id)).toEqual(ids.reverse());
    expect(await all(store.iterateSessionPages(model, { pageSize: 2 }))).toHaveLength(3);
  });
});

describe("messages", () => {
  it("come back as they were given, by every way of reading", async () => {
    const { id } = await store.createSession("client-calls-3");
    let deep: Record<string, unknown> = { end: true };
    for (let depth = 1; depth < 32; depth++) deep = { deep };
    const first = await store.addMessage(id, "assistant", "NUL \0, 𝄞 and the needle", {
      timestampMs: 5,
      name: "Zoë",
      toolCalls: [{ id: "c", name: "f", arguments: '{ "a": 1.0, "a": 12345678901234567890 }' }],
      payload: "<any>\n</any>",
      payloadType: "acme",
      metadata: deep,
      usage: {
        inputTokens: 1,
        outputTokens: 2,
        cachedTokens: 3,
        reasoningTokens: 4,
        costMicros: 5,
      },
    });
    expect(first).toMatchObject({
      conversationId: id,
      seq: 1n,
      role: "assistant",
      content: "NUL \0, 𝄞 and the needle",
      timestampMs: 5n,
      name: "Zoë",
      toolCalls: [{ id: "c", name: "f", arguments: '{ "a": 1.0, "a": 12345678901234567890 }' }],
      payload: "<any>\n</any>",
      payloadType: "acme",
      metadata: deep,
      usage: { outputTokens: 2n, reasoningTokens: 4n },
    });
    const rest = await store.addMessages(id, [
      { role: "tool", toolCallId: "c", content: "42" },
      { role: "user" },
      { role: "system", content: "the needle again" },
    ]);
    const stored = [first, ...rest];
    expect(stored.map(({ seq }) => seq)).toEqual([1n, 2n, 3n, 4n]);

    expect(await store.getMessage(id, 2)).toEqual(rest[0]);
    expect((await store.getMessages(id)).messages).toEqual(stored);
    expect(await all(store.iterateMessages(id, { pageSize: 3 }))).toEqual(stored);
    expect(await all(store.streamMessages(id, { pageSize: 3 }))).toEqual(stored);
    const newest = [...stored].reverse();
    expect(await all(store.streamMessages(id, { order: "newest_first" }))).toEqual(newest);
    const range = { afterSeq: 1, beforeSeq: 4n, lastN: 1 };
    expect(await all(store.streamMessages(id, range))).toEqual([rest[1]]);
    expect((await store.getMessages(id, { ...range, lastN: 2, offset: 1 })).messages).toEqual([
      rest[1],
    ]);
    const pages = await all(store.streamPages(id, { pageSize: 2 }));
    expect(pages.map(({ lastSeq }) => lastSeq)).toEqual([2n, 4n]);
    const found = await store.searchMessages("client-calls-3", "THE NEEDLE");
    expect(found).toEqual([rest[2], first]);
    expect(await store.searchMessages("client-calls-3", "the needle", { limit: 1 })).toHaveLength(
      1,
    );
  });

  it("that are replayed are not appended again, and the caller hears of it", async () => {
    const { id } = await store.createSession("client-calls-4");
    const infos: WriteInfo[] = [];
    const options = { requestId: "once", onWritten: (info: WriteInfo) => infos.push(info) };
    const first = await store.addMessage(id, "user", "Hello", options);
    expect(await store.addMessage(id, "user", "Hello", options)).toEqual(first);
    expect(infos.map(({ replayed }) => replayed)).toEqual([false, true]);
    expect((await store.getSession(id)).lastSeq).toBe(1n);
    await expect(store.addMessage(id, "user", "Other", options)).rejects.toBeInstanceOf(
      RequestIdReusedError,
    );
  });

  it("of 60 MiB go in and come back in one call", async () => {
    const { id } = await store.createSession("client-calls-5");
    const content = "é".repeat(2 * 1024 * 1024 - 100);
    const messages = Array.from({ length: 15 }, (): NewMessage => ({ role: "user", content }));
    const stored = await store.addMessages(id, messages, { timeoutMs: 60_000 });
    expect(stored).toHaveLength(15);
    expect(stored.every((message) => message.content === content)).toBe(true);
    let count = 0;
    for await (const message of store.streamMessages(id)) {
      expect(message.content === content).toBe(true);
      count++;
    }
    expect(count).toBe(15);
  });

  it("of OpenAI come back as they were, whatever their shape", async () => {
    const text = fc.oneof(fc.string({ unit: "binary" }), fc.string());
    const message = fc.oneof(
      fc.record({ role: fc.constantFrom("system", "user", "developer"), content: text }),
      fc.record({
        role: fc.constant("assistant"),
        content: fc.oneof(text, fc.constant(null)),
        tool_calls: fc.array(
          fc.record({
            id: text,
            type: fc.constant("function"),
            function: fc.record({ name: text, arguments: text }),
          }),
          { maxLength: 2 },
        ),
      }),
      fc.record({ role: fc.constant("tool"), content: text, tool_call_id: text }),
      fc.record({
        role: fc.constant("user"),
        content: fc.array(fc.record({ type: fc.constant("text"), text })),
      }),
    );
    const { id } = await store.createSession("client-calls-6");
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 5 }), async (given) => {
        const messages = given as OpenAiMessage[];
        const stored = await store.addMessages(id, fromLlmMessages(messages));
        const afterSeq = (stored[0]?.seq ?? 0n) - 1n;
        expect(toLlmMessages(await all(store.streamMessages(id, { afterSeq })))).toEqual(messages);
      }),
      { numRuns: 60 },
    );
  });
});

describe("what goes wrong is told by its class", () => {
  const missing = 9_007_199_254_740_993n;

  it.each<[string, () => Promise<unknown>]>([
    ["getSession", () => store.getSession(missing)],
    ["updateSession", () => store.updateSession(missing, { title: "x" })],
    ["getSessionStats", () => store.getSessionStats(missing)],
    ["addMessage", () => store.addMessage(missing, "user", "x")],
    ["addMessages", () => store.addMessages(missing, [{ role: "user" }])],
    ["getMessage", () => store.getMessage(missing, 1)],
    ["getMessages", () => store.getMessages(missing)],
    ["iterateMessages", () => all(store.iterateMessages(missing))],
    ["streamMessages", () => all(store.streamMessages(missing))],
  ])("%s of no session", async (_, call) => {
    const thrown = await call().catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(SessionNotFoundError);
    expect(thrown).toMatchObject({ conversationId: missing, attempts: 1 });
  });

  it("a message that is not there, a last_seq that has moved on", async () => {
    const { id } = await store.createSession("client-errors");
    await store.addMessage(id, "user", "x", { expectedLastSeq: 0 });
    const noMessage = await store.getMessage(id, 7).catch((e: unknown) => e);
    expect(noMessage).toBeInstanceOf(MessageNotFoundError);
    expect(noMessage).toMatchObject({ conversationId: id, seq: 7n, lastSeq: 1n });
    const moved = await store
      .addMessage(id, "user", "y", { expectedLastSeq: 0 })
      .catch((e: unknown) => e);
    expect(moved).toBeInstanceOf(LastSeqMismatchError);
    expect(moved).toMatchObject({
      conversationId: id,
      expectedLastSeq: 0n,
      lastSeq: 1n,
      attempts: 1,
    });
  });

  it("requests that are not acceptable", async () => {
    const { id } = await store.createSession("client-errors");
    await expect(store.getSession(0)).rejects.toMatchObject({
      name: "InvalidFieldError",
      violations: [{ field: "conversation_id" }],
    });
    await expect(store.addMessages(id, [])).rejects.toBeInstanceOf(InvalidFieldError);
    await expect(store.getMessages(id, { pageSize: -1 })).rejects.toMatchObject({
      violations: [{ field: "page_size" }],
    });
    await expect(store.updateSession(id, {})).rejects.toMatchObject({
      violations: [{ field: "update_mask" }],
    });
    await expect(store.getMessages(id, { pageToken: "made up" })).rejects.toBeInstanceOf(
      InvalidPageTokenError,
    );
    const large = await store
      .addMessage(id, "user", "x".repeat(5 * 1024 * 1024))
      .catch((e: unknown) => e);
    expect(large).toBeInstanceOf(MessageTooLargeError);
    expect(large).toMatchObject({ limitBytes: 4_194_304n });
    expect((await store.getSession(id)).lastSeq).toBe(0n);
  });

  it("a deadline that is over before the server can answer", async () => {
    const { id } = await store.createSession("client-errors");
    const many = Array.from({ length: 1_000 }, (): NewMessage => ({ role: "user", content: "x" }));
    const thrown = await store.addMessages(id, many, { timeoutMs: 1 }).catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(DeadlineExceededError);
    const { requestId } = thrown as DeadlineExceededError;
    // The outcome is unknown; with the same request_id it is made sure of.
    const stored = await store.addMessages(id, many, { requestId: requestId ?? "" });
    expect(stored).toHaveLength(1_000);
    expect((await store.getSession(id)).lastSeq).toBe(1_000n);
  });
});
