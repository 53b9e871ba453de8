// GetMessage: one message by its place.
import { expect, test } from "vitest";
import { useStore } from "./store.js";

const store = useStore();

test("returns each message of a session as the page does", async () => {
  const conversationId = await store.newConversation(5);
  const { messages } = await store.call("getMessages", { conversationId });
  for (const expected of messages) {
    const { message } = await store.call("getMessage", { conversationId, seq: expected.seq });
    expect(message).toEqual(expected);
  }
});

test.each([[4n], [1n << 53n], [(1n << 63n) - 1n]])("has no seq %s", async (seq) => {
  const conversationId = await store.newConversation(3);
  await store.refuses(
    "getMessage",
    { conversationId, seq },
    {
      reason: "MESSAGE_NOT_FOUND",
      metadata: { conversation_id: String(conversationId), seq: String(seq), last_seq: "3" },
    },
  );
});

test("tells an empty session from none", async () => {
  const conversationId = await store.newSession();
  await store.refuses(
    "getMessage",
    { conversationId, seq: 1n },
    { reason: "MESSAGE_NOT_FOUND", metadata: { last_seq: "0" } },
  );
  await store.refuses(
    "getMessage",
    { conversationId: (1n << 63n) - 1n, seq: 1n },
    { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String((1n << 63n) - 1n) } },
  );
});

test.each([
  [{ conversationId: 1n, seq: 0n }, ["seq"]],
  [{ conversationId: 1n, seq: -1n }, ["seq"]],
  [{ conversationId: 0n, seq: 1n }, ["conversation_id"]],
  [{ conversationId: -(1n << 63n), seq: -(1n << 63n) }, ["conversation_id", "seq"]],
])("refuses %o", async (request, fields) => {
  await store.refuses("getMessage", request, { reason: "INVALID_FIELD", fields });
});
