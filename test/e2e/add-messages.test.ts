// AddMessages: all messages in their order, or none.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { oddMessages, stored } from "./odd-messages.js";
import { userMessage, useStore } from "./store.js";

const store = useStore();

const MIB = 1024 * 1024;

async function stateOf(conversationId: bigint) {
  const { session } = await store.call("getSession", { conversationId });
  return { lastSeq: session!.lastSeq, revision: session!.revision };
}

function numbered(count: number) {
  return Array.from({ length: count }, (_, index) => userMessage(String(index + 1)));
}

test("keeps every field of every message, in order", async () => {
  const conversationId = await store.newConversation(1);
  const given = Object.values(oddMessages);
  const { messages, replayed } = await store.call("addMessages", {
    conversationId,
    messages: given,
  });
  expect(replayed).toBe(false);
  const expected = given.map((message, index) =>
    stored(message, {
      id: messages[index]!.id,
      conversationId,
      seq: BigInt(index + 2),
      revision: BigInt(index + 3),
      timestampMs: message.timestampMs ?? messages[index]!.timestampMs,
    }),
  );
  expect(messages).toEqual(expected);
  expect(new Set(messages.map(({ id }) => id)).size).toBe(given.length);
  // Those without a time have one in common.
  const times = messages.filter((_, index) => given[index]!.timestampMs === undefined);
  expect(new Set(times.map(({ timestampMs }) => timestampMs)).size).toBe(1);
  const read = await store.call("getMessages", { conversationId, afterSeq: 1n });
  expect(read.messages).toEqual(expected);
});

test.each([1, 2, 1_000])("takes %i messages", async (count) => {
  const conversationId = await store.newSession();
  const { messages } = await store.call("addMessages", {
    conversationId,
    messages: numbered(count),
  });
  expect(messages.map(({ seq, content }) => [seq, content])).toEqual(
    Array.from({ length: count }, (_, index) => [BigInt(index + 1), String(index + 1)]),
  );
  const lastSeq = BigInt(count);
  expect(await stateOf(conversationId)).toEqual({ lastSeq, revision: lastSeq + 1n });
});

test("takes a request of many MiB, and answers with all of it", async () => {
  const conversationId = await store.newSession();
  const messages = Array.from({ length: 5 }, (_, index) =>
    userMessage(String(index).repeat(4 * MIB - 100)),
  );
  const answer = await store.call("addMessages", { conversationId, messages });
  expect(answer.messages.every(({ content }, index) => content === messages[index]!.content)).toBe(
    true,
  );
});

test("keeps the batches of many callers together", async () => {
  const conversationId = await store.newSession();
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, batch) =>
      store.call("addMessages", {
        conversationId,
        messages: Array.from({ length: 10 }, (__, index) => userMessage(`${batch}.${index}`)),
      }),
    ),
  );
  const read = await store.call("getMessages", { conversationId, pageSize: 1_000 });
  expect(read.messages).toHaveLength(200);
  for (const { messages } of answers) {
    const start = Number(messages[0]!.seq) - 1;
    expect(read.messages.slice(start, start + 10)).toEqual(messages);
  }
});

describe("request_id", () => {
  test("replays the first answer and writes nothing, also after later appends", async () => {
    const conversationId = await store.newSession();
    const request = {
      conversationId,
      messages: Object.values(oddMessages),
      requestId: randomUUID(),
    };
    const first = await store.call("addMessages", request);
    await store.appendNumbered(conversationId, 1, 3);
    const before = await stateOf(conversationId);
    const again = await store.call("addMessages", request);
    expect(again).toEqual({ ...first, replayed: true });
    expect(await stateOf(conversationId)).toEqual(before);
  });

  test("lets one of many identical requests at once write", async () => {
    const conversationId = await store.newSession();
    const request = { conversationId, messages: numbered(50), requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => store.call("addMessages", request)),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    for (const { messages } of answers) expect(messages).toEqual(answers[0]!.messages);
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 50n, revision: 51n });
  });

  test("refuses other messages, more of them, fewer or in another order", async () => {
    const conversationId = await store.newSession();
    const messages = numbered(3);
    const requestId = randomUUID();
    await store.call("addMessages", { conversationId, messages, requestId });
    const others = [
      numbered(2),
      numbered(4),
      messages.toReversed(),
      [...numbered(2), userMessage("x")],
    ];
    for (const other of others) {
      await store.refuses(
        "addMessages",
        { conversationId, messages: other, requestId },
        { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
      );
    }
    expect((await stateOf(conversationId)).lastSeq).toBe(3n);
  });
});

test("honours expected_last_seq; a repeat after success answers success", async () => {
  const conversationId = await store.newSession();
  const request = {
    conversationId,
    messages: numbered(3),
    expectedLastSeq: 0n,
    requestId: randomUUID(),
  };
  const first = await store.call("addMessages", request);
  expect(await store.call("addMessages", request)).toEqual({ ...first, replayed: true });
  const next = { conversationId, messages: numbered(2) };
  await store.call("addMessages", { ...next, expectedLastSeq: 3n });
  for (const wrong of [0n, 3n, 4n, 6n]) {
    await store.refuses(
      "addMessages",
      { ...next, expectedLastSeq: wrong },
      {
        reason: "LAST_SEQ_MISMATCH",
        metadata: { expected_last_seq: String(wrong), last_seq: "5" },
      },
    );
  }
  expect((await stateOf(conversationId)).lastSeq).toBe(5n);
});

describe("refusals write nothing at all", () => {
  const good = userMessage("good");

  test.each([
    ["no messages", [], ["messages"]],
    ["1,001 messages", numbered(1_001), ["messages"]],
    ["a message without role in the middle", [good, { content: "x" }, good], ["messages[1].role"]],
    [
      "several faults",
      [
        good,
        { role: Role.USER, toolCallId: "1" },
        { role: 99 as Role, usage: { inputTokens: -1n } },
      ],
      ["messages[1].tool_call_id", "messages[2].role", "messages[2].usage.input_tokens"],
    ],
    ["NaN at the end", [good, { ...good, metadata: { a: Number.NaN } }], ["messages[1].metadata"]],
  ])("%s", async (_, messages, fields) => {
    const conversationId = await store.newSession();
    const expected = { reason: "INVALID_FIELD", fields };
    await store.refuses("addMessages", { conversationId, messages }, expected);
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 0n, revision: 1n });
  });

  test("names some of very many faults", async () => {
    const conversationId = await store.newSession();
    const messages = Array.from({ length: 1_000 }, () => ({ content: "x" }));
    const fields = Array.from({ length: 20 }, (_, index) => `messages[${index}].role`);
    const expected = { reason: "INVALID_FIELD", fields };
    await store.refuses("addMessages", { conversationId, messages }, expected);
  });

  test("a message that is too large", async () => {
    const conversationId = await store.newSession();
    const messages = [good, good, userMessage("x".repeat(5 * MIB))];
    const expected = { reason: "MESSAGE_TOO_LARGE", fields: ["messages[2]"] };
    await store.refuses("addMessages", { conversationId, messages }, expected);
    expect(await stateOf(conversationId)).toEqual({ lastSeq: 0n, revision: 1n });
  });

  test.each([[0n], [-1n], [-(1n << 63n)]])("the id %s", async (conversationId) => {
    const expected = { reason: "INVALID_FIELD", fields: ["conversation_id"] };
    await store.refuses("addMessages", { conversationId, messages: [good] }, expected);
  });

  test("an unknown id", async () => {
    const conversationId = (1n << 63n) - 1n;
    await store.refuses(
      "addMessages",
      { conversationId, messages: [good] },
      { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(conversationId) } },
    );
  });
});
