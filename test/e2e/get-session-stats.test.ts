// GetSessionStats: counts and sums that agree with the messages.
import { fromBinary } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { fieldsOf, int } from "../harness/wire.js";
import { useStore } from "./store.js";

const store = useStore();

const NO_USAGE = {
  inputTokens: 0n,
  outputTokens: 0n,
  cachedTokens: 0n,
  reasoningTokens: 0n,
  costMicros: 0n,
};

test("is all zero for a session without messages", async () => {
  const conversationId = await store.newSession();
  const { stats } = await store.call("getSessionStats", { conversationId });
  expect(stats).toEqual({
    totalMessages: 0n,
    userMessages: 0n,
    assistantMessages: 0n,
    systemMessages: 0n,
    toolMessages: 0n,
    totalCharacters: 0n,
    firstMessageTime: undefined,
    lastMessageTime: undefined,
    totalUsage: NO_USAGE,
  });
});

test("counts roles, characters, tokens and costs, and finds the first and last time", async () => {
  const conversationId = await store.newSession();
  const usage = {
    inputTokens: 10n,
    outputTokens: 7n,
    cachedTokens: 3n,
    reasoningTokens: 2n,
    costMicros: 10n ** 15n,
  };
  const messages = [
    { role: Role.SYSTEM, content: "é", timestampMs: 5_000n },
    { role: Role.USER, content: "e\u0301🙂", timestampMs: -1n },
    { role: Role.USER, content: "漢字\0", timestampMs: 4_000n },
    { role: Role.ASSISTANT, content: "", timestampMs: 9_000n, usage },
    { role: Role.ASSISTANT, content: "\r\n", timestampMs: 8_000n, usage },
    { role: Role.ASSISTANT, content: "x", timestampMs: 8_000n, usage: {} },
    { role: Role.TOOL, content: "\uFEFF", timestampMs: 7_000n },
  ];
  await store.call("addMessages", { conversationId, messages: messages.slice(0, 3) });
  for (const message of messages.slice(3)) {
    await store.call("addMessage", { conversationId, message });
  }
  const { stats } = await store.call("getSessionStats", { conversationId });
  expect(stats).toEqual({
    totalMessages: 7n,
    userMessages: 2n,
    assistantMessages: 3n,
    systemMessages: 1n,
    toolMessages: 1n,
    totalCharacters: 1n + 3n + 3n + 0n + 2n + 1n + 1n,
    firstMessageTime: new Date(-1),
    lastMessageTime: new Date(9_000),
    totalUsage: {
      inputTokens: 20n,
      outputTokens: 14n,
      cachedTokens: 6n,
      reasoningTokens: 4n,
      costMicros: 2n * 10n ** 15n,
    },
  });
});

test("keeps sums beyond 2^53 exact", async () => {
  const conversationId = await store.newSession();
  const usage = { inputTokens: 10n ** 15n };
  const message = { role: Role.ASSISTANT, usage };
  await store.call("addMessages", {
    conversationId,
    messages: [
      ...Array.from({ length: 20 }, () => message),
      { ...message, usage: { inputTokens: 1n } },
    ],
  });
  const { stats } = await store.call("getSessionStats", { conversationId });
  expect(stats!.totalUsage).toEqual({ ...NO_USAGE, inputTokens: 20n * 10n ** 15n + 1n });
});

test("shows the edges of time", async () => {
  const conversationId = await store.newSession();
  const first = -62_135_596_800_000n;
  const last = 253_402_300_799_999n;
  for (const timestampMs of [0n, last, first]) {
    const message = { role: Role.USER, content: "x", timestampMs };
    await store.call("addMessage", { conversationId, message });
  }
  const { stats } = await store.call("getSessionStats", { conversationId });
  expect(stats!.firstMessageTime?.toISOString()).toBe("0001-01-01T00:00:00.000Z");
  expect(stats!.lastMessageTime?.toISOString()).toBe("9999-12-31T23:59:59.999Z");
});

test.each([
  [-1n, -1n, 999_000_000],
  [-1_000n, -1n, 0],
  [-1_234_567_890_123n, -1_234_567_891n, 877_000_000],
  [1_999n, 1n, 999_000_000],
])("are valid on the wire: %s ms", async (timestampMs, seconds, nanos) => {
  const conversationId = await store.newSession();
  await store.call("addMessage", { conversationId, message: { role: Role.USER, timestampMs } });
  const raw = await store.raw();
  const { messages } = await raw.call("GetSessionStats", int(1, conversationId));
  const [stats] = fieldsOf(messages[0]!, 1);
  for (const field of [6, 7]) {
    const time = fromBinary(TimestampSchema, fieldsOf(stats!, field)[0]!);
    expect(time).toMatchObject({ seconds, nanos });
  }
});

test.each([[0n], [-1n], [-(1n << 63n)]])("refuses the id %s", async (conversationId) => {
  const expected = { reason: "INVALID_FIELD", fields: ["conversation_id"] };
  await store.refuses("getSessionStats", { conversationId }, expected);
});

test("answers NOT_FOUND for an unknown id", async () => {
  const conversationId = (1n << 63n) - 1n;
  await store.refuses(
    "getSessionStats",
    { conversationId },
    { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(conversationId) } },
  );
});
