// The view of an append: how much of the messages comes back.
import { expect, test } from "vitest";
import { MessageView, Role } from "../../gen/agentstore/v1/messages.js";
import { expectFault, failure } from "./faults.js";
import { oddMessages, stored } from "./odd-messages.js";
import { userMessage, useStore } from "./store.js";

const store = useStore();

const full = oddMessages["every field, odd text"]!;

test("KEYS answers with what the server gave the messages, and nothing else", async () => {
  const conversationId = await store.newSession();
  const { message } = await store.call("addMessage", {
    conversationId,
    message: full,
    view: MessageView.KEYS,
  });
  const place = { conversationId, role: Role.UNSPECIFIED, timestampMs: -1n, version: 0n };
  const first = { id: message!.id, seq: 1n, revision: 2n, ...place };
  expect(message).toEqual(stored({}, first));
  expect(message!.id).toBeGreaterThan(0n);
  const { messages } = await store.call("addMessages", {
    conversationId,
    messages: [full, full],
    view: MessageView.KEYS,
  });
  expect(messages).toEqual([
    stored({}, { id: messages[0]!.id, seq: 2n, revision: 3n, ...place }),
    stored({}, { id: messages[1]!.id, seq: 3n, revision: 4n, ...place }),
  ]);
  // What is kept is all of it.
  const read = await store.call("getMessages", { conversationId });
  const keys = [first, ...messages].map(({ id, seq, revision }) => ({ id, seq, revision }));
  expect(read.messages).toEqual(
    keys.map((key) => stored(full, { ...key, conversationId, timestampMs: -1n })),
  );
});

test.each([MessageView.UNSPECIFIED, MessageView.FULL])("view %i answers with all", async (view) => {
  const conversationId = await store.newSession();
  const message = userMessage("hello");
  const one = await store.call("addMessage", { conversationId, message, view });
  expect(one.message!.content).toBe("hello");
  const several = await store.call("addMessages", { conversationId, messages: [message], view });
  expect(several.messages[0]!.content).toBe("hello");
});

test("a repeat is answered in its own view", async () => {
  const conversationId = await store.newSession();
  const write = { conversationId, message: userMessage("hello"), requestId: "r" };
  const batch = { conversationId, messages: [userMessage("a"), full], requestId: "s" };
  for (const first of [MessageView.KEYS, MessageView.FULL]) {
    await store.call("addMessage", { ...write, view: first });
    await store.call("addMessages", { ...batch, view: first });
  }
  const all = (await store.call("getMessages", { conversationId })).messages;
  expect(all).toHaveLength(3);
  const keys = all.map(({ id, seq, revision, timestampMs }) =>
    stored(
      {},
      { id, conversationId, seq, revision, timestampMs, role: Role.UNSPECIFIED, version: 0n },
    ),
  );
  const repeated = async (view: MessageView) => {
    const one = await store.call("addMessage", { ...write, view });
    const several = await store.call("addMessages", { ...batch, view });
    expect([one.replayed, several.replayed]).toEqual([true, true]);
    return [one.message!, ...several.messages];
  };
  expect(await repeated(MessageView.KEYS)).toEqual(keys);
  expect(await repeated(MessageView.FULL)).toEqual(all);
});

test("a view that is none is refused", async () => {
  const conversationId = await store.newSession();
  const write = { conversationId, message: userMessage("hello") };
  const view = 7 as MessageView;
  const fault = await failure(store.call("addMessage", { ...write, view }));
  expectFault(fault, { reason: "INVALID_FIELD", fields: ["view"] });
  expect(fault.text).toContain("must be one of FULL, KEYS");
  const batch = { conversationId, messages: [userMessage("hello")], view };
  const batchFault = await failure(store.call("addMessages", batch));
  expectFault(batchFault, { reason: "INVALID_FIELD", fields: ["view"] });
});
