// RepairSession: an answer for each tool call that was interrupted, and nothing else.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { type Part, userMessage, useStore } from "./store.js";

const store = useStore();

const tool = (toolCallId: string) => ({ role: Role.TOOL, toolCallId, content: "result" });

function assistant(...ids: string[]): Part<NewMessage> {
  const toolCalls = ids.map((id) => ({ id, name: `tool ${id}`, arguments: "{}" }));
  return { role: Role.ASSISTANT, toolCalls };
}

async function session(...messages: Part<NewMessage>[]): Promise<bigint> {
  const conversationId = await store.newSession();
  await store.call("addMessages", { conversationId, messages });
  return conversationId;
}

async function unpaired(conversationId: bigint) {
  return (await store.call("loadContext", { conversationId })).unpairedToolCalls;
}

test("closes parallel calls of which some have results, over several turns", async () => {
  const conversationId = await session(
    userMessage("go"),
    assistant("a", "b", "c"),
    tool("b"),
    userMessage("never mind"),
    assistant("d"),
    tool("d"),
    assistant("e", "e \0 \u{1F642}"),
  );
  const { messages, replayed } = await store.call("repairSession", { conversationId });
  expect(replayed).toBe(false);
  expect(messages.map(({ toolCallId }) => toolCallId)).toEqual(["a", "c", "e", "e \0 \u{1F642}"]);
  for (const [index, message] of messages.entries()) {
    expect(message).toMatchObject({
      conversationId,
      seq: BigInt(8 + index),
      role: Role.TOOL,
      name: `tool ${message.toolCallId}`,
      metadata: { interrupted: true },
    });
    expect(message.content).toMatch(/interrupted.*not known/);
  }
  const stored = await store.call("getMessages", { conversationId, afterSeq: 7n });
  expect(stored.messages).toEqual(messages);
  const { stats } = await store.call("getSessionStats", { conversationId });
  expect(stats).toMatchObject({ totalMessages: 11n, toolMessages: 6n });
  expect(await unpaired(conversationId)).toEqual([]);
});

test("appends and raises nothing where there is nothing to close, and run again", async () => {
  const whole = await session(assistant("a"), tool("a"));
  const broken = await session(assistant("a"));
  await store.call("repairSession", { conversationId: broken });
  for (const conversationId of [whole, broken, await store.newSession()]) {
    const before = await store.call("getSession", { conversationId });
    for (const requestId of ["", randomUUID()]) {
      const request = { conversationId, requestId };
      const answer = await store.call("repairSession", request);
      expect(answer).toEqual({ messages: [], replayed: false });
    }
    expect(await store.call("getSession", { conversationId })).toEqual(before);
  }
});

test("closes calls without ids, and an id that was used twice", async () => {
  const conversationId = await session(assistant("", ""), assistant("a"), assistant("a", ""));
  const { messages } = await store.call("repairSession", { conversationId });
  expect(messages.map(({ toolCallId }) => toolCallId)).toEqual(["", "", "a", "a", ""]);
  expect(await store.call("repairSession", { conversationId })).toMatchObject({ messages: [] });
});

test("closes 1,000 calls at a time", async () => {
  const ids = Array.from({ length: 600 }, (_, index) => `c${index}`);
  const conversationId = await session(assistant(...ids), assistant(...ids));
  const answers = [];
  for (let round = 0; round < 3; round++) {
    answers.push(await store.call("repairSession", { conversationId }));
  }
  expect(answers.map(({ messages }) => messages.length)).toEqual([1_000, 200, 0]);
});

describe("request_id", () => {
  test("replays the first answer and writes nothing", async () => {
    const conversationId = await session(assistant("a", "b"));
    const request = { conversationId, requestId: randomUUID() };
    const first = await store.call("repairSession", request);
    expect(first.messages).toHaveLength(2);
    expect(await store.call("repairSession", request)).toEqual({ ...first, replayed: true });
    // Also when there is something new to close.
    await store.call("addMessage", { conversationId, message: assistant("c") });
    expect(await store.call("repairSession", request)).toEqual({ ...first, replayed: true });
    expect(await unpaired(conversationId)).toHaveLength(1);
  });

  test("of many at once repairs once, with and without one", async () => {
    for (const requestId of ["", randomUUID()]) {
      const conversationId = await session(assistant("a", "b", "c"));
      const answers = await Promise.all(
        Array.from({ length: 10 }, () =>
          store.call("repairSession", { conversationId, requestId }),
        ),
      );
      const { session: after } = await store.call("getSession", { conversationId });
      expect(after!.lastSeq).toBe(4n);
      const wrote = answers.filter(({ messages, replayed }) => messages.length > 0 && !replayed);
      expect(wrote).toHaveLength(1);
      if (requestId === "") continue;
      for (const { messages } of answers) expect(messages).toEqual(wrote[0]!.messages);
    }
  });

  test("refuses that of another write to the session", async () => {
    const conversationId = await session(assistant("a"));
    const requestId = randomUUID();
    await store.call("addMessage", { conversationId, message: userMessage("x"), requestId });
    const fault = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
    await store.refuses("repairSession", { conversationId, requestId }, fault);
    await store.call("repairSession", { conversationId });
    await store.refuses("repairSession", { conversationId, requestId }, fault);
  });
});

describe("a lease", () => {
  test("that is lost refuses the repair, also where there is nothing to close", async () => {
    for (const conversationId of [await session(assistant("a")), await session(userMessage("x"))]) {
      await store.call("acquireLease", { conversationId, holder: "w" });
      await store.call("releaseLease", { conversationId, fencingToken: 1n });
      const before = await store.call("getSession", { conversationId });
      const request = { conversationId, fencingToken: 1n };
      await store.refuses("repairSession", request, { reason: "LEASE_LOST" });
      expect(await store.call("getSession", { conversationId })).toEqual(before);
    }
  });

  test("that is held lets it through, and a replay needs none", async () => {
    const conversationId = await session(assistant("a"));
    await store.call("acquireLease", { conversationId, holder: "w" });
    const request = { conversationId, fencingToken: 1n, requestId: randomUUID() };
    const first = await store.call("repairSession", request);
    expect(first.messages).toHaveLength(1);
    await store.call("releaseLease", { conversationId, fencingToken: 1n });
    expect(await store.call("repairSession", request)).toEqual({ ...first, replayed: true });
  });
});

describe("refusals", () => {
  test.each([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ requestId: "\0" }, ["request_id"]],
    [{ fencingToken: -1n }, ["fencing_token"]],
  ])("%o", async (change, fields) => {
    const conversationId = await session(assistant("a"));
    const request = { conversationId, ...change };
    await store.refuses("repairSession", request, { reason: "INVALID_FIELD", fields });
    expect(await unpaired(conversationId)).toHaveLength(1);
  });

  test("a session that is not there", async () => {
    const id = (1n << 63n) - 1n;
    for (const requestId of ["", randomUUID()]) {
      await store.refuses(
        "repairSession",
        { conversationId: id, requestId },
        { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(id) } },
      );
    }
  });
});
