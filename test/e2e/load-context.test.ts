// LoadContext: the leading system messages and the newest messages that fit.
import { describe, expect, test } from "vitest";
import { type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { type Part, userMessage, useStore } from "./store.js";

const store = useStore();

const system = (content: string) => ({ role: Role.SYSTEM, content });
const tool = (toolCallId: string, content = "result") => ({ role: Role.TOOL, toolCallId, content });

function assistant(...ids: string[]): Part<NewMessage> {
  return {
    role: Role.ASSISTANT,
    toolCalls: ids.map((id) => ({ id, name: "look", arguments: "" })),
  };
}

async function session(...messages: Part<NewMessage>[]): Promise<bigint> {
  const conversationId = await store.newSession();
  await store.call("addMessages", { conversationId, messages });
  return conversationId;
}

async function load(conversationId: bigint, budget: object = {}) {
  const context = await store.call("loadContext", { conversationId, ...budget });
  return { ...context, seqs: context.messages.map(({ seq }) => Number(seq)) };
}

test("loads a whole short session as it is stored", async () => {
  const id = await session(
    system("Be brief."),
    userMessage("你好 \0 \u{1F642}"),
    {
      role: Role.ASSISTANT,
      toolCalls: [{ id: "c1", name: "look", arguments: '{"a": 1.0}' }],
      payload: '{"role":"assistant"}',
      payloadType: "test",
      metadata: { a: [1] },
      usage: { inputTokens: 5n, outputTokens: 7n },
    },
    tool("c1"),
    { role: Role.ASSISTANT, content: "Done." },
  );
  const context = await load(id);
  const stored = await store.call("getMessages", { conversationId: id });
  expect(context.messages).toEqual(stored.messages);
  expect(context.session).toEqual((await store.call("getSession", { conversationId: id })).session);
  expect(context).toMatchObject({ omittedMessages: 0n, unpairedToolCalls: [] });
  expect(context.characters).toBe(BigInt(9 + 6 + 4 + 10 + 6 + 5));
  // 9 and 13 bytes, 7 as the model said, 6 and 5 bytes.
  expect(context.tokens).toBe(BigInt(3 + 4 + 7 + 2 + 2));
});

test("an empty session has an empty context", async () => {
  const id = await store.newSession();
  expect(await load(id, { maxMessages: 1, maxTokens: 1n, maxCharacters: 1n })).toMatchObject({
    messages: [],
    omittedMessages: 0n,
    characters: 0n,
    tokens: 0n,
    unpairedToolCalls: [],
  });
});

test("brings 100 messages unless asked otherwise, 1,000 at the most", async () => {
  const id = await store.newConversation(1_100);
  const first = await load(id);
  expect([first.seqs[0], first.seqs.length, first.omittedMessages]).toEqual([1_001, 100, 1_000n]);
  const most = await load(id, { maxMessages: 1_000 });
  expect([most.seqs[0], most.seqs.length]).toEqual([101, 1_000]);
  expect((await load(id, { maxMessages: 1 })).seqs).toEqual([1_100]);
});

test("keeps the leading system messages, and no later ones, beside the newest", async () => {
  const id = await session(
    system("one"),
    system("two"),
    userMessage("three"),
    system("four"),
    userMessage("five"),
    userMessage("six"),
  );
  expect((await load(id, { maxMessages: 4 })).seqs).toEqual([1, 2, 5, 6]);
  expect((await load(id, { maxMessages: 2 })).seqs).toEqual([1, 2]);
  expect((await load(id, { maxCharacters: 13n })).seqs).toEqual([1, 2, 5, 6]);
  expect((await load(id, { maxCharacters: 12n })).seqs).toEqual([1, 2, 6]);
  expect((await load(id, { maxTokens: 3n })).seqs).toEqual([1, 2, 6]);
  const least = await load(id, { maxCharacters: 8n });
  expect(least).toMatchObject({ seqs: [1, 2], omittedMessages: 4n, characters: 6n });
});

test("a session of system messages alone", async () => {
  const id = await session(system("one"), system("two"), system("three"));
  expect((await load(id, { maxMessages: 3 })).seqs).toEqual([1, 2, 3]);
});

describe("turns", () => {
  test("come whole or not at all, answered in any order and late", async () => {
    const id = await session(
      userMessage("go"),
      assistant("a", "b"),
      tool("b"),
      userMessage("still there?"),
      tool("a"),
      { role: Role.ASSISTANT, content: "yes" },
    );
    expect((await load(id)).seqs).toEqual([1, 2, 3, 4, 5, 6]);
    expect((await load(id, { maxMessages: 5 })).seqs).toEqual([2, 3, 4, 5, 6]);
    expect((await load(id, { maxMessages: 4 })).seqs).toEqual([4, 6]);
    expect((await load(id, { maxMessages: 2 })).seqs).toEqual([6]);
    expect((await load(id, { maxCharacters: 35n })).seqs).toEqual([2, 3, 4, 5, 6]);
    expect((await load(id, { maxCharacters: 34n })).seqs).toEqual([4, 6]);
  });

  test("the newest one may be too large", async () => {
    const id = await session(
      system("s"),
      userMessage("go"),
      assistant("a"),
      tool("a", "x".repeat(99)),
    );
    expect((await load(id, { maxTokens: 10n })).seqs).toEqual([1]);
  });

  test("a result whose call never was is left out", async () => {
    const id = await session(tool("x"), userMessage("one"), tool("y"), userMessage("two"));
    expect((await load(id)).seqs).toEqual([2, 4]);
  });

  test("calls without an answer are reported", async () => {
    const id = await session(
      assistant("old"),
      userMessage("go"),
      assistant("a", "b", "c"),
      tool("b"),
      userMessage("well?"),
    );
    const call = (seq: bigint, toolCallId: string) => ({ seq, toolCallId, name: "look" });
    const newest = [call(3n, "a"), call(3n, "c")];
    expect((await load(id)).unpairedToolCalls).toEqual([call(1n, "old"), ...newest]);
    expect((await load(id, { maxMessages: 4 })).unpairedToolCalls).toEqual(newest);
    expect((await load(id, { maxMessages: 1 })).unpairedToolCalls).toEqual([]);
  });
});

describe("a budget that the leading system messages exceed", () => {
  test.each([
    [{ maxMessages: 1 }, "max_messages", "2"],
    [{ maxCharacters: 9n }, "max_characters", "10"],
    [{ maxTokens: 3n }, "max_tokens", "4"],
  ])("%o", async (budget, field, needed) => {
    const id = await session(system("hello"), system("world"), userMessage("x"));
    const metadata = { field, needed };
    await store.refuses(
      "loadContext",
      { conversationId: id, ...budget },
      { reason: "BUDGET_TOO_SMALL", fields: [field], metadata },
    );
  });
});

describe("refusals", () => {
  test.each([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ maxMessages: -1 }, ["max_messages"]],
    [{ maxMessages: 1_001 }, ["max_messages"]],
    [{ maxCharacters: -1n }, ["max_characters"]],
    [{ maxTokens: -1n }, ["max_tokens"]],
    [{ maxMessages: -1, maxTokens: -1n }, ["max_messages", "max_tokens"]],
  ])("%o", async (change, fields) => {
    const conversationId = await store.newConversation(1);
    const request = { conversationId, ...change };
    await store.refuses("loadContext", request, { reason: "INVALID_FIELD", fields });
  });

  test("a session that is not there", async () => {
    const id = (1n << 63n) - 1n;
    await store.refuses(
      "loadContext",
      { conversationId: id },
      { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(id) } },
    );
  });

  test("no budget is too large to be one", async () => {
    const id = await store.newConversation(3);
    const most = (1n << 63n) - 1n;
    expect((await load(id, { maxCharacters: most, maxTokens: most })).seqs).toEqual([1, 2, 3]);
  });
});

test("leaves deleted messages out, wherever they stand", async () => {
  const id = await session(
    system("gone"),
    system("Be brief."),
    userMessage("1"),
    userMessage("2"),
    userMessage("3"),
    userMessage("4"),
  );
  for (const seq of [1n, 4n, 6n]) await store.call("deleteMessage", { conversationId: id, seq });
  expect(await load(id)).toMatchObject({ seqs: [2, 3, 5], omittedMessages: 0n });
  expect(await load(id, { maxMessages: 3 })).toMatchObject({ seqs: [2, 3, 5] });
  expect(await load(id, { maxMessages: 2 })).toMatchObject({ seqs: [2, 5], omittedMessages: 1n });
  for (const seq of [3n, 5n]) await store.call("deleteMessage", { conversationId: id, seq });
  expect(await load(id)).toMatchObject({ seqs: [2], omittedMessages: 0n });
});
