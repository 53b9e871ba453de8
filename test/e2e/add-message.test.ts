// AddMessage: what it keeps, replays and expects of the session.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { failure } from "./faults.js";
import { oddMessages, stored } from "./odd-messages.js";
import { type Part, userMessage, useStore } from "./store.js";

const store = useStore();

const MIB = 1024 * 1024;
// The largest content of a message with a role and nothing else: 4 MiB less the
// role's 2 bytes and the content's tag and length.
const LARGEST = 4 * MIB - 2 - 1 - 4;

async function stateOf(conversationId: bigint) {
  const { session } = await store.call("getSession", { conversationId });
  return { lastSeq: session!.lastSeq, revision: session!.revision };
}

describe("a message", () => {
  test.each(Object.entries(oddMessages))("comes back exactly: %s", async (_, given) => {
    const conversationId = await store.newConversation(1);
    const { message, replayed } = await store.call("addMessage", {
      conversationId,
      message: given,
    });
    expect(replayed).toBe(false);
    const place = { id: message!.id, conversationId, seq: 2n, revision: 3n };
    const now = BigInt(Date.now());
    if (given.timestampMs === undefined) {
      // The server's clock and this one may differ by a little where it runs elsewhere.
      expect(Math.abs(Number(message!.timestampMs - now))).toBeLessThan(600_000);
    }
    const timestampMs = given.timestampMs ?? message!.timestampMs;
    const expected = stored(given, { ...place, timestampMs });
    expect(message).toEqual(expected);
    expect(message!.id).toBeGreaterThan(0n);

    const one = await store.call("getMessage", { conversationId, seq: 2n });
    expect(one.message).toEqual(expected);
    const page = await store.call("getMessages", { conversationId, afterSeq: 1n });
    expect(page.messages).toEqual([expected]);
    const pages = await store.pages({ conversationId, afterSeq: 1n });
    expect(pages.flatMap(({ messages }) => messages)).toEqual([expected]);
  });

  test.each([
    ["ASCII", "x".repeat(LARGEST)],
    ["three-byte characters", "漢".repeat(Math.floor(LARGEST / 3))],
    ["U+0000", "\0".repeat(LARGEST)],
  ])("may have 4 MiB: %s", async (_, content) => {
    const conversationId = await store.newSession();
    const added = await store.call("addMessage", { conversationId, message: userMessage(content) });
    expect(added.message!.content === content).toBe(true);
    const read = await store.call("getMessage", { conversationId, seq: 1n });
    expect(read.message!.content === content).toBe(true);
  });

  test("may have 4 MiB of arguments", async () => {
    const conversationId = await store.newSession();
    const call = { id: "1", name: "f", arguments: "\\".repeat(4 * MIB - 100) };
    const message = { role: Role.ASSISTANT, toolCalls: [call] };
    await store.call("addMessage", { conversationId, message });
    const read = await store.call("getMessage", { conversationId, seq: 1n });
    expect(read.message!.toolCalls[0]!.arguments === call.arguments).toBe(true);
  });
});

test("gives the seqs 1, 2, 3 … to appends at the same time, one each", async () => {
  const conversationId = await store.newSession();
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      store.call("addMessage", { conversationId, message: userMessage(String(index)) }),
    ),
  );
  const { messages } = await store.call("getMessages", { conversationId });
  expect(messages.map(({ seq }) => seq)).toEqual(
    Array.from({ length: 100 }, (_, index) => BigInt(index + 1)),
  );
  for (const { message } of answers) expect(messages[Number(message!.seq) - 1]).toEqual(message);
});

describe("request_id", () => {
  test("replays the first answer and writes nothing", async () => {
    const conversationId = await store.newSession();
    for (const message of Object.values(oddMessages)) {
      const request = { conversationId, message, requestId: randomUUID() };
      const first = await store.call("addMessage", request);
      const before = await stateOf(conversationId);
      const again = await store.call("addMessage", request);
      expect(again).toEqual({ ...first, replayed: true });
      expect(await stateOf(conversationId)).toEqual(before);
    }
  });

  test("lets one of many identical requests at once write", async () => {
    const conversationId = await store.newSession();
    const request = { conversationId, message: userMessage("once"), requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => store.call("addMessage", request)),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    for (const { message } of answers) expect(message).toEqual(answers[0]!.message);
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 1n, revision: 2n });
  });

  test.each([
    [{ message: { content: "other" } }],
    [{ message: { role: Role.SYSTEM } }],
    [{ message: { timestampMs: 0n } }],
    [{ message: { name: "n" } }],
    [{ message: { payload: "p", payloadType: "t" } }],
    [{ message: { metadata: {} } }],
    [{ message: { usage: {} } }],
    [{ expectedLastSeq: 0n, message: {} }],
  ])("refuses another body: %o", async (change) => {
    const conversationId = await store.newSession();
    const request = { conversationId, message: userMessage("x"), requestId: randomUUID() };
    await store.call("addMessage", request);
    const other = { ...request, ...change, message: { ...request.message, ...change.message } };
    const expected = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
    await store.refuses("addMessage", other, expected);
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 1n, revision: 2n });
  });

  test("refuses the same message as a batch of one", async () => {
    const conversationId = await store.newSession();
    const requestId = randomUUID();
    await store.call("addMessage", { conversationId, message: userMessage("x"), requestId });
    await store.refuses(
      "addMessages",
      { conversationId, messages: [userMessage("x")], requestId },
      { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
    );
  });

  test("belongs to its session alone", async () => {
    const requestId = randomUUID();
    for (const conversationId of [await store.newSession(), await store.newSession()]) {
      const request = { conversationId, message: userMessage("x"), requestId };
      expect((await store.call("addMessage", request)).replayed).toBe(false);
    }
  });

  test("of a refused call is free again", async () => {
    const conversationId = await store.newSession();
    const requestId = randomUUID();
    const request = { conversationId, message: userMessage("x"), requestId };
    await store.refuses(
      "addMessage",
      { ...request, expectedLastSeq: 1n },
      { reason: "LAST_SEQ_MISMATCH" },
    );
    expect((await store.call("addMessage", request)).replayed).toBe(false);
  });

  test("may have 128 characters of any kind", async () => {
    const conversationId = await store.newSession();
    const requestId = "🙂".repeat(128);
    const request = { conversationId, message: userMessage("x"), requestId };
    await store.call("addMessage", request);
    expect((await store.call("addMessage", request)).replayed).toBe(true);
  });
});

describe("expected_last_seq", () => {
  test("0 means an empty session, and a repeat after success answers success", async () => {
    const conversationId = await store.newSession();
    const request = {
      conversationId,
      message: userMessage("first"),
      expectedLastSeq: 0n,
      requestId: randomUUID(),
    };
    const first = await store.call("addMessage", request);
    expect(await store.call("addMessage", request)).toEqual({ ...first, replayed: true });
    await store.refuses(
      "addMessage",
      { ...request, requestId: "" },
      {
        reason: "LAST_SEQ_MISMATCH",
        metadata: {
          conversation_id: String(conversationId),
          expected_last_seq: "0",
          last_seq: "1",
        },
      },
    );
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 1n, revision: 2n });
  });

  test("appends where it is right and names the current one where it is not", async () => {
    const conversationId = await store.newConversation(5);
    const message = userMessage("x");
    const { message: added } = await store.call("addMessage", {
      conversationId,
      message,
      expectedLastSeq: 5n,
    });
    expect(added!.seq).toBe(6n);
    for (const expectedLastSeq of [5n, 7n, (1n << 63n) - 1n]) {
      await store.refuses(
        "addMessage",
        { conversationId, message, expectedLastSeq },
        {
          reason: "LAST_SEQ_MISMATCH",
          metadata: { expected_last_seq: String(expectedLastSeq), last_seq: "6" },
        },
      );
    }
    expect((await stateOf(conversationId)).lastSeq).toBe(6n);
  });

  test("lets one of many appends at once win", async () => {
    const conversationId = await store.newConversation(1);
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => {
        const request = { conversationId, message: userMessage("x"), expectedLastSeq: 1n };
        return store.call("addMessage", request).then(
          () => "won",
          async (error: unknown) => (await failure(Promise.reject(error as Error))).reason,
        );
      }),
    );
    expect(outcomes.filter((outcome) => outcome === "won")).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === "LAST_SEQ_MISMATCH")).toHaveLength(19);
  });
});

describe("refusals", () => {
  const long = "x".repeat(1_025);
  const call = { id: "1", name: "f", arguments: "{}" };

  test.each<[string, Part<NewMessage> | undefined, string[]]>([
    ["no message", undefined, ["message"]],
    ["no role", { content: "x" }, ["message.role"]],
    ["role 5", { role: 5 as Role }, ["message.role"]],
    ["role 99", { role: 99 as Role }, ["message.role"]],
    ["role -1", { role: -1 as Role }, ["message.role"]],
    ["a long name", { role: Role.USER, name: long }, ["message.name"]],
    ["a huge name", { role: Role.USER, name: "x".repeat(3 * MIB) }, ["message.name"]],
    ["a tool_call_id of a user", { role: Role.USER, toolCallId: "1" }, ["message.tool_call_id"]],
    ["a long tool_call_id", { role: Role.TOOL, toolCallId: long }, ["message.tool_call_id"]],
    ["tool_calls of a user", { role: Role.USER, toolCalls: [call] }, ["message.tool_calls"]],
    ["tool_calls of a tool", { role: Role.TOOL, toolCalls: [call] }, ["message.tool_calls"]],
    [
      "1,001 tool_calls",
      { role: Role.ASSISTANT, toolCalls: Array.from({ length: 1_001 }, () => call) },
      ["message.tool_calls"],
    ],
    [
      "a long tool call id and name",
      { role: Role.ASSISTANT, toolCalls: [call, { id: long, name: long }] },
      ["message.tool_calls[1].id", "message.tool_calls[1].name"],
    ],
    ["a payload without type", { role: Role.USER, payload: "p" }, ["message.payload_type"]],
    [
      "a long payload_type",
      { role: Role.USER, payloadType: "t".repeat(257) },
      ["message.payload_type"],
    ],
    [
      "a time in 1 BC",
      { role: Role.USER, timestampMs: -62_135_596_800_001n },
      ["message.timestamp_ms"],
    ],
    [
      "a time in the year 10000",
      { role: Role.USER, timestampMs: 253_402_300_800_000n },
      ["message.timestamp_ms"],
    ],
    ["the least time", { role: Role.USER, timestampMs: -(1n << 63n) }, ["message.timestamp_ms"]],
    ["U+0000 in metadata", { role: Role.USER, metadata: { a: "\0" } }, ["message.metadata"]],
    ["NaN in metadata", { role: Role.USER, metadata: { a: Number.NaN } }, ["message.metadata"]],
    [
      "300 KiB of metadata",
      { role: Role.USER, metadata: { a: "x".repeat(300 * 1024) } },
      ["message.metadata"],
    ],
    [
      "negative usage",
      { role: Role.USER, usage: { inputTokens: -1n, costMicros: -1n } },
      ["message.usage.input_tokens", "message.usage.cost_micros"],
    ],
    [
      "huge usage",
      {
        role: Role.USER,
        usage: {
          outputTokens: (1n << 63n) - 1n,
          cachedTokens: 10n ** 15n + 1n,
          reasoningTokens: -(1n << 63n),
        },
      },
      [
        "message.usage.output_tokens",
        "message.usage.cached_tokens",
        "message.usage.reasoning_tokens",
      ],
    ],
  ])("%s", async (_, message, fields) => {
    const conversationId = await store.newSession();
    const expected = { reason: "INVALID_FIELD", fields };
    await store.refuses("addMessage", { conversationId, message }, expected);
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 0n, revision: 1n });
  });

  test.each([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ conversationId: -(1n << 63n) }, ["conversation_id"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ requestId: "r\0" }, ["request_id"]],
    [{ expectedLastSeq: -1n }, ["expected_last_seq"]],
    [
      { conversationId: 0n, expectedLastSeq: -1n, message: {} },
      ["conversation_id", "expected_last_seq", "message.role"],
    ],
  ])("%o", async (change, fields) => {
    const conversationId = await store.newSession();
    await store.refuses(
      "addMessage",
      { conversationId, message: userMessage("x"), ...change },
      { reason: "INVALID_FIELD", fields },
    );
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 0n, revision: 1n });
  });

  test.each<[string, Part<NewMessage>]>([
    ["content one byte too long", userMessage("x".repeat(LARGEST + 1))],
    ["5 MiB of content", userMessage("x".repeat(5 * MIB))],
    ["short in characters, not in bytes", userMessage("漢".repeat(2 * MIB))],
    ["a payload", { role: Role.USER, payload: "x".repeat(4 * MIB), payloadType: "t" }],
    [
      "arguments",
      { role: Role.ASSISTANT, toolCalls: [{ id: "1", name: "f", arguments: "x".repeat(4 * MIB) }] },
    ],
  ])("MESSAGE_TOO_LARGE names the limit: %s", async (_, message) => {
    const conversationId = await store.newSession();
    const fault = await store.refuses(
      "addMessage",
      { conversationId, message },
      { reason: "MESSAGE_TOO_LARGE", fields: ["message"] },
    );
    // Of a server whose operator has set another limit, that one.
    expect(fault.metadata.limit_bytes).toMatch(/^\d+$/);
    expect(fault.text).toContain(fault.metadata.limit_bytes);
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 0n, revision: 1n });
  });

  test.each([[(1n << 53n) + 1n], [(1n << 63n) - 1n]])(
    "the unknown id %s",
    async (conversationId) => {
      const metadata = { conversation_id: String(conversationId) };
      for (const more of [{}, { expectedLastSeq: 0n }, { requestId: randomUUID() }]) {
        await store.refuses(
          "addMessage",
          { conversationId, message: userMessage("x"), ...more },
          { reason: "SESSION_NOT_FOUND", metadata },
        );
      }
    },
  );
});
