// GetSession: one session, as it is now.
import { expect, test } from "vitest";
import { uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();

test("shows the session as its messages and updates have left it", async () => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({ modelId, title: "t" });
  const { session: fresh } = await store.call("getSession", { conversationId });
  expect(fresh).toMatchObject({ id: conversationId, modelId, revision: 1n, lastSeq: 0n });
  const added = await store.call("addMessages", {
    conversationId,
    messages: [userMessage("a"), userMessage("b"), userMessage("c")],
  });
  const { session: grown } = await store.call("getSession", { conversationId });
  expect(grown!.lastSeq).toBe(3n);
  expect(grown!.revision).toBe(added.messages.at(-1)!.revision);
  expect(grown!.createdAt).toEqual(fresh!.createdAt);
  expect(grown!.updatedAt!.getTime()).toBeGreaterThanOrEqual(fresh!.updatedAt!.getTime());
});

test.each([[1n << 53n], [(1n << 53n) + 1n], [(1n << 63n) - 1n]])(
  "answers NOT_FOUND for the unknown id %s, and names it",
  async (conversationId) => {
    await store.refuses(
      "getSession",
      { conversationId },
      {
        reason: "SESSION_NOT_FOUND",
        metadata: { conversation_id: String(conversationId) },
      },
    );
  },
);

test.each([[0n], [-1n], [-(1n << 63n)]])("refuses the id %s", async (conversationId) => {
  await store.refuses(
    "getSession",
    { conversationId },
    { reason: "INVALID_FIELD", fields: ["conversation_id"] },
  );
});
