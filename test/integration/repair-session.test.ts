// RepairSession beside writers that do not wait for it.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { assertCountersAgree } from "../harness/counters.js";
import { holdSession, untilBlocked } from "../harness/postgres-watch.js";
import { type ServerPair, startServerPair } from "../harness/server-pair.js";
import { newMessage } from "../harness/stubs.js";
import { transcript } from "../harness/transcripts.js";

let pair: ServerPair;

beforeAll(async () => {
  pair = await startServerPair();
});

afterAll(() => pair.stop());

function assistant(...ids: string[]): NewMessage {
  const toolCalls = ids.map((id) => ({ id, name: "look", arguments: "{}" }));
  return newMessage({ role: Role.ASSISTANT, toolCalls });
}

const result = (toolCallId: string) =>
  newMessage({ role: Role.TOOL, toolCallId, content: "result" });

async function session(...messages: NewMessage[]): Promise<bigint> {
  const conversationId = await pair.createSession();
  if (messages.length > 0) await pair.one.call("addMessages", { conversationId, messages });
  return conversationId;
}

test("a result that comes in before the repair is written is not answered for", async () => {
  const conversationId = await session(assistant("a", "b"));
  const hold = await holdSession(pair.databaseUrl, conversationId);
  const late = pair.one.call("addMessages", {
    conversationId,
    messages: [result("a"), assistant("c")],
  });
  await untilBlocked(pair.databaseUrl, 1);
  // The repair has seen that a has no answer, and waits behind the one that brings it.
  const repair = pair.two.call("repairSession", { conversationId, requestId: "repair" });
  await untilBlocked(pair.databaseUrl, 2);
  await hold.release();
  await late;
  const { messages } = await repair;
  expect(messages.map(({ seq, toolCallId }) => [Number(seq), toolCallId])).toEqual([
    [4, "b"],
    [5, "c"],
  ]);
  expect((await pair.two.call("loadContext", { conversationId })).unpairedToolCalls).toEqual([]);
  await assertCountersAgree(pair.databaseUrl);
});

test("repairs and appends at once leave each call with one answer", async () => {
  const conversationId = await session(assistant("a", "b", "c", "d"));
  await Promise.all(
    Array.from({ length: 12 }, (_, n) => {
      const stubs = pair.both[n % 2]!;
      return n % 3 === 0
        ? stubs.call("repairSession", { conversationId })
        : stubs.call("addMessage", { conversationId, message: newMessage({ content: `${n}` }) });
    }),
  );
  const { messages } = await pair.one.call("getMessages", { conversationId });
  const answers = messages.filter(({ role }) => role === Role.TOOL);
  expect(answers.map(({ toolCallId }) => toolCallId)).toEqual(["a", "b", "c", "d"]);
});

test("any transcript is whole after one repair, and a second one finds nothing", async () => {
  await fc.assert(
    fc.asyncProperty(transcript(15), async (messages) => {
      const conversationId = await session(...messages);
      const load = () => pair.one.call("loadContext", { conversationId, maxMessages: 1_000 });
      const { unpairedToolCalls } = await load();
      const repaired = await pair.two.call("repairSession", { conversationId });
      const answered = repaired.messages.map(({ toolCallId, name }) => ({ toolCallId, name }));
      expect(answered).toEqual(unpairedToolCalls.map(({ seq: _, ...call }) => call));
      expect((await load()).unpairedToolCalls).toEqual([]);
      const again = await pair.one.call("repairSession", { conversationId });
      expect(again.messages).toEqual([]);
    }),
    { numRuns: 60 },
  );
  await assertCountersAgree(pair.databaseUrl);
});
