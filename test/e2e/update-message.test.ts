// UpdateMessage: what a mask names, and nothing else, as a new version.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type AgentMessage, type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { MessageChange } from "../../gen/agentstore/v1/versions.js";
import { type Part, useStore } from "./store.js";

const store = useStore();
const USAGE = {
  inputTokens: 10n,
  outputTokens: 20n,
  cachedTokens: 3n,
  reasoningTokens: 4n,
  costMicros: 500n,
};
const FIRST: NewMessage = {
  role: Role.ASSISTANT,
  content: "first \0 content",
  timestampMs: 1_000n,
  name: "one",
  toolCalls: [{ id: "1", name: "f", arguments: '{ "a":1.0 }' }],
  toolCallId: "",
  payload: '{"x": 1}',
  payloadType: "json",
  metadata: { first: true },
  usage: USAGE,
};
const SECOND = {
  role: Role.SYSTEM,
  content: "second content \u{1F642}\0",
  timestampMs: 5_000n,
  name: "two\0",
  toolCalls: [
    { id: "2", name: "g", arguments: "\0" },
    { id: "3", name: "h", arguments: "" },
  ],
  payload: "{ }",
  payloadType: "text",
  metadata: { second: [null, 1.5] },
  usage: { ...USAGE, inputTokens: 7n },
};
const PATHS = {
  content: "content",
  timestampMs: "timestamp_ms",
  name: "name",
  toolCalls: "tool_calls",
  payload: "payload",
  payloadType: "payload_type",
  metadata: "metadata",
  usage: "usage",
} as const;
const FIELDS = Object.keys(PATHS) as (keyof typeof PATHS)[];

async function newMessage(message: Part<NewMessage> = FIRST) {
  const conversationId = await store.newSession();
  const answer = await store.call("addMessage", { conversationId, message });
  return { conversationId, before: answer.message! };
}

async function update(
  conversationId: bigint,
  fields: Part<AgentMessage>,
  updateMask: string[],
  more: { requestId?: string; expectedRevision?: bigint } = {},
) {
  const message = { conversationId, seq: 1n, ...fields };
  return await store.call("updateMessage", { message, updateMask, ...more });
}

async function get(conversationId: bigint, version = 0n): Promise<AgentMessage> {
  return (await store.call("getMessage", { conversationId, seq: 1n, version })).message!;
}

async function stats(conversationId: bigint) {
  return (await store.call("getSessionStats", { conversationId })).stats!;
}

describe("a mask", () => {
  test.each(FIELDS)("changes %s alone", async (field) => {
    const { conversationId, before } = await newMessage();
    const { message, replayed } = await update(conversationId, SECOND, [PATHS[field]]);
    expect(replayed).toBe(false);
    expect(message).toEqual({
      ...before,
      [field]: SECOND[field],
      revision: before.revision + 1n,
      version: 2n,
      editedAt: expect.any(Date),
    });
    expect(await get(conversationId)).toEqual(message);
    expect(await get(conversationId, 1n)).toEqual(before);
  });

  test.each(FIELDS.filter((field) => field !== "payloadType"))(
    "clears %s where it is absent",
    async (field) => {
      const { conversationId, before } = await newMessage();
      const { message } = await update(conversationId, {}, [PATHS[field]]);
      const cleared = {
        content: "",
        timestampMs: 0n,
        name: "",
        toolCalls: [],
        payload: "",
        metadata: undefined,
        usage: undefined,
      } as Partial<AgentMessage>;
      expect(message).toMatchObject({ seq: 1n, id: before.id });
      expect(message![field]).toEqual(cleared[field]);
      for (const other of FIELDS)
        if (other !== field) expect(message![other]).toEqual(before[other]);
    },
  );

  test("changes all at once, the role too, named in any order or twice", async () => {
    const { conversationId, before } = await newMessage();
    const all = [...Object.values(PATHS), "role", "content", "tool_call_id"].reverse();
    const changed = { ...SECOND, toolCalls: [] };
    const { message } = await update(conversationId, changed, all);
    expect(message).toEqual({
      ...before,
      ...changed,
      revision: 3n,
      version: 2n,
      editedAt: expect.any(Date),
    });
  });

  test("does not touch what the server gives", async () => {
    const { conversationId, before } = await newMessage();
    const forged = { id: 1n, revision: 99n, version: 99n, deletedAt: new Date(0) };
    const { message } = await update(conversationId, { ...forged, content: "c" }, ["content"]);
    expect(message).toMatchObject({ id: before.id, revision: 3n, version: 2n });
    expect(message!.deletedAt).toBeUndefined();
  });
});

test("the session follows: revision, time, counters, preview", async () => {
  const { conversationId } = await newMessage();
  await store.call("addMessage", {
    conversationId,
    message: { role: Role.USER, content: "four", timestampMs: 2_000n },
  });
  const before = (await store.call("getSession", { conversationId })).session!;
  await update(conversationId, { ...SECOND, toolCalls: [] }, [
    "content",
    "role",
    "tool_calls",
    "usage",
    "timestamp_ms",
  ]);
  const after = (await store.call("getSession", { conversationId })).session!;
  expect(after).toEqual({ ...before, revision: 4n, updatedAt: after.updatedAt });
  expect(after.updatedAt!.getTime()).toBeGreaterThanOrEqual(before.updatedAt!.getTime());
  expect(await stats(conversationId)).toEqual({
    totalMessages: 2n,
    userMessages: 1n,
    assistantMessages: 0n,
    systemMessages: 1n,
    toolMessages: 0n,
    firstMessageTime: new Date(2_000),
    lastMessageTime: new Date(5_000),
    totalCharacters: BigInt([...SECOND.content].length + 4),
    totalUsage: SECOND.usage,
  });
  const { sessions } = await store.call("listSessions", { modelId: after.modelId });
  expect(sessions[0]).toMatchObject({
    messageCount: 2n,
    firstMessage: SECOND.content.replace("\0", "\uFFFD"),
    lastMessageTime: new Date(5_000),
  });
});

test("the times of the other messages come forward when the first or last one moves", async () => {
  const conversationId = await store.newSession();
  const times = [3_000n, 1_000n, 2_000n, 9_000n];
  for (const timestampMs of times) {
    await store.call("addMessage", { conversationId, message: { role: 2, timestampMs } });
  }
  await store.call("updateMessage", {
    message: { conversationId, seq: 2n, timestampMs: 4_000n },
    updateMask: ["timestamp_ms"],
  });
  expect(await stats(conversationId)).toMatchObject({
    firstMessageTime: new Date(2_000),
    lastMessageTime: new Date(9_000),
  });
  await store.call("updateMessage", {
    message: { conversationId, seq: 4n, timestampMs: 0n },
    updateMask: ["timestamp_ms"],
  });
  expect(await stats(conversationId)).toMatchObject({
    firstMessageTime: new Date(0),
    lastMessageTime: new Date(4_000),
  });
});

test("an edit is found by what it says now", async () => {
  const modelId = `search-${randomUUID()}`;
  const conversationId = await store.newSession({ modelId });
  await store.call("addMessage", { conversationId, message: { role: 2, content: "herring" } });
  await update(conversationId, { content: "mackerel" }, ["content"]);
  const search = async (query: string) =>
    (await store.call("searchMessages", { modelId, query })).results.map(
      ({ message }) => message!.version,
    );
  expect(await search("mackerel")).toEqual([2n]);
  expect(await search("herring")).toEqual([]);
});

test("what a request_id of an append repeats is what was appended, not what it became", async () => {
  const conversationId = await store.newSession();
  const messages = [
    { role: Role.USER, content: "as it was" },
    { role: Role.USER, content: "untouched" },
  ];
  const request = { conversationId, messages, requestId: randomUUID() };
  const first = await store.call("addMessages", request);
  await update(conversationId, { content: "edited" }, ["content"]);
  await update(conversationId, { content: "edited twice" }, ["content"]);
  const again = await store.call("addMessages", request);
  expect(again).toEqual({ ...first, replayed: true });
});

describe("expected_revision", () => {
  test("of the message, lets the change through; another one is refused", async () => {
    const { conversationId, before } = await newMessage();
    // The session's own revision goes on; the message's does not.
    await store.call("addMessage", { conversationId, message: { role: 2 } });
    const change = (content: string, expectedRevision: bigint) =>
      update(conversationId, { content }, ["content"], { expectedRevision });
    const { message } = await change("mine", before.revision);
    expect(message).toMatchObject({ content: "mine", revision: 4n });
    await store.refuses(
      "updateMessage",
      {
        message: { conversationId, seq: 1n, content: "theirs" },
        updateMask: ["content"],
        expectedRevision: before.revision,
      },
      {
        reason: "REVISION_MISMATCH",
        metadata: {
          conversation_id: String(conversationId),
          seq: "1",
          expected_revision: String(before.revision),
          revision: "4",
        },
      },
    );
    expect(await get(conversationId)).toEqual(message);
  });

  test("of 20 editors at once exactly one wins, and the others are told the revision", async () => {
    const { conversationId, before } = await newMessage();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) =>
        update(conversationId, { content: `editor ${index}` }, ["content"], {
          expectedRevision: before.revision,
        }),
      ),
    );
    const won = outcomes.filter(({ status }) => status === "fulfilled");
    expect(won).toHaveLength(1);
    const message = await get(conversationId);
    expect(message).toMatchObject({ version: 2n, revision: 3n });
    await store.refuses(
      "deleteMessage",
      { conversationId, seq: 1n, expectedRevision: before.revision },
      { reason: "REVISION_MISMATCH", metadata: { revision: "3" } },
    );
  });

  test("without it, all of 20 editors write, and every version stands in the history", async () => {
    const { conversationId } = await newMessage();
    const contents = Array.from({ length: 20 }, (_, index) => `editor ${index}`);
    await Promise.all(contents.map((content) => update(conversationId, { content }, ["content"])));
    const { versions } = await store.call("listMessageVersions", { conversationId, seq: 1n });
    expect(versions.map(({ message }) => message!.version)).toEqual(
      Array.from({ length: 21 }, (_, index) => BigInt(21 - index)),
    );
    expect(versions.map(({ message }) => message!.content).sort()).toEqual(
      [...contents, FIRST.content].sort(),
    );
    expect(versions.map(({ change }) => change)).toEqual([
      ...contents.map(() => MessageChange.UPDATED),
      MessageChange.APPENDED,
    ]);
  });
});

describe("request_id", () => {
  test("replays the first answer, also when the message has changed since", async () => {
    const { conversationId } = await newMessage();
    const requestId = randomUUID();
    const first = await update(conversationId, { content: "once" }, ["content"], { requestId });
    await update(conversationId, { content: "later" }, ["content"]);
    const again = await update(conversationId, { content: "once" }, ["content"], { requestId });
    expect(again).toEqual({ message: first.message, replayed: true });
    expect(await get(conversationId)).toMatchObject({ content: "later", version: 3n });
  });

  test("lets one of many identical requests at once write", async () => {
    const { conversationId } = await newMessage();
    const requestId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        update(conversationId, { content: "once" }, ["content"], { requestId }),
      ),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(await get(conversationId)).toMatchObject({ version: 2n });
  });

  test("refuses another body, and that of another write", async () => {
    const { conversationId } = await newMessage();
    const requestId = randomUUID();
    await update(conversationId, { content: "once" }, ["content"], { requestId });
    const expected = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
    await store.refuses(
      "updateMessage",
      {
        message: { conversationId, seq: 1n, content: "twice" },
        updateMask: ["content"],
        requestId,
      },
      expected,
    );
    await store.refuses("deleteMessage", { conversationId, seq: 1n, requestId }, expected);
    expect(await get(conversationId)).toMatchObject({ content: "once", version: 2n });
  });
});

describe("refusals", () => {
  const key = { conversationId: 1n, seq: 1n };
  test.each<[object, string[]]>([
    [{ message: undefined }, ["message"]],
    [{ message: { seq: 1n } }, ["message.conversation_id"]],
    [{ message: { conversationId: 1n } }, ["message.seq"]],
    [{ message: { conversationId: -1n, seq: -1n } }, ["message.conversation_id", "message.seq"]],
    [{ updateMask: [] }, ["update_mask"]],
    [{ updateMask: undefined }, ["update_mask"]],
    [{ updateMask: ["content", "colour"] }, ["update_mask"]],
    [{ updateMask: ["seq"] }, ["update_mask"]],
    [{ updateMask: ["deleted_at"] }, ["update_mask"]],
    [{ updateMask: ["toolCalls"] }, ["update_mask"]],
    [{ updateMask: ["usage.input_tokens"] }, ["update_mask"]],
    [{ updateMask: ["*"] }, ["update_mask"]],
    [{ updateMask: ["constructor"] }, ["update_mask"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ expectedRevision: 0n }, ["expected_revision"]],
    [{ expectedRevision: -1n }, ["expected_revision"]],
  ])("%# %o", async (change, fields) => {
    const request = { message: key, updateMask: ["content"], ...change };
    await store.refuses("updateMessage", request, { reason: "INVALID_FIELD", fields });
  });

  test.each<[Part<AgentMessage>, string[], string[]]>([
    [{}, ["role"], ["message.role", "message.tool_calls"]],
    [{ role: 9 as Role }, ["role"], ["message.role", "message.tool_calls"]],
    [{ role: Role.USER }, ["role"], ["message.tool_calls"]],
    [{ toolCallId: "x" }, ["tool_call_id"], ["message.tool_call_id"]],
    [{ name: "n".repeat(1_025) }, ["name"], ["message.name"]],
    [{ payloadType: "p".repeat(257) }, ["payload_type"], ["message.payload_type"]],
    [{}, ["payload_type"], ["message.payload_type"]],
    [{ timestampMs: 1n << 62n }, ["timestamp_ms"], ["message.timestamp_ms"]],
    [{ metadata: { a: Number.NaN } }, ["metadata"], ["message.metadata"]],
    [{ usage: { ...USAGE, costMicros: -1n } }, ["usage"], ["message.usage.cost_micros"]],
    [
      { toolCalls: [{ id: "i".repeat(1_025), name: "", arguments: "" }] },
      ["tool_calls"],
      ["message.tool_calls[0].id"],
    ],
  ])("of the message that would come of it: %# %o", async (fields, updateMask, named) => {
    const { conversationId, before } = await newMessage();
    await store.refuses(
      "updateMessage",
      { message: { conversationId, seq: 1n, ...fields }, updateMask },
      { reason: "INVALID_FIELD", fields: named },
    );
    expect(await get(conversationId)).toEqual(before);
  });

  test("a message over the limit, also when the part that is too much was there before", async () => {
    const { conversationId, before } = await newMessage({
      role: Role.USER,
      content: "c".repeat(2_500_000),
    });
    await store.refuses(
      "updateMessage",
      {
        message: { conversationId, seq: 1n, payload: "p".repeat(2_500_000), payloadType: "text" },
        updateMask: ["payload", "payload_type"],
      },
      { reason: "MESSAGE_TOO_LARGE", fields: ["message"], metadata: { limit_bytes: "4194304" } },
    );
    expect(await get(conversationId)).toEqual(before);
  });

  test("a message that is not there, and a session that is not", async () => {
    const conversationId = await store.newSession();
    const message = { conversationId, seq: 1n, content: "c" };
    await store.refuses(
      "updateMessage",
      { message, updateMask: ["content"] },
      { reason: "MESSAGE_NOT_FOUND", metadata: { last_seq: "0" } },
    );
    const nowhere = (1n << 63n) - 1n;
    await store.refuses(
      "updateMessage",
      { message: { ...message, conversationId: nowhere }, updateMask: ["content"] },
      { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(nowhere) } },
    );
  });
});
