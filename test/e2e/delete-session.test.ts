// DeleteSession: a session and its messages are gone for good.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();

test("removes a session from every answer", async () => {
  const modelId = uniqueModel();
  const word = `word${randomUUID()}`;
  const conversationId = await store.newSession({ modelId });
  await store.call("addMessage", { conversationId, message: userMessage(word) });
  const answer = await store.call("deleteSession", { conversationId });
  expect(answer).toEqual({ deleted: true, replayed: false });

  const notFound = {
    reason: "SESSION_NOT_FOUND",
    metadata: { conversation_id: String(conversationId) },
  };
  await store.refuses("getSession", { conversationId }, notFound);
  await store.refuses("getMessage", { conversationId, seq: 1n }, notFound);
  await store.refuses("getMessages", { conversationId }, notFound);
  await store.refuses("streamMessages", { conversationId }, notFound);
  await store.refuses("getSessionStats", { conversationId }, notFound);
  await store.refuses("addMessage", { conversationId, message: userMessage("x") }, notFound);
  await store.refuses("addMessages", { conversationId, messages: [userMessage("x")] }, notFound);
  await store.refuses(
    "updateSession",
    { session: { id: conversationId }, updateMask: ["title"] },
    notFound,
  );
  expect((await store.call("listSessions", { modelId })).sessions).toEqual([]);
  expect((await store.call("searchMessages", { modelId, query: word })).results).toEqual([]);
});

test("answers deleted: false for a session that is not there", async () => {
  const conversationId = await store.newSession();
  await store.call("deleteSession", { conversationId });
  for (const id of [conversationId, (1n << 63n) - 1n, 1n << 53n]) {
    const answer = await store.call("deleteSession", { conversationId: id });
    expect(answer).toEqual({ deleted: false, replayed: false });
  }
});

test("lets one of many calls at once delete", async () => {
  const conversationId = await store.newConversation(100);
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => store.call("deleteSession", { conversationId })),
  );
  expect(answers.filter(({ deleted }) => deleted)).toHaveLength(1);
});

test("leaves no message behind that is appended at the same time", async () => {
  const conversationId = await store.newSession();
  const appends = Array.from({ length: 30 }, (_, index) =>
    store
      .call("addMessage", { conversationId, message: userMessage(String(index)) })
      .then(() => "appended")
      .catch((error: Error) => error.message),
  );
  const [{ deleted }, ...outcomes] = await Promise.all([
    store.call("deleteSession", { conversationId }),
    ...appends,
  ]);
  expect(deleted).toBe(true);
  const gone = `5 NOT_FOUND: session ${conversationId} does not exist`;
  for (const outcome of outcomes) expect(["appended", gone]).toContain(outcome);
  await store.refuses("getMessages", { conversationId }, { reason: "SESSION_NOT_FOUND" });
});

describe("request_id", () => {
  test("answers a repeat as the first call", async () => {
    const conversationId = await store.newConversation(2);
    const request = { conversationId, requestId: randomUUID() };
    expect(await store.call("deleteSession", request)).toEqual({ deleted: true, replayed: false });
    expect(await store.call("deleteSession", request)).toEqual({ deleted: true, replayed: true });
    const other = { conversationId, requestId: randomUUID() };
    expect(await store.call("deleteSession", other)).toEqual({ deleted: false, replayed: false });
  });

  test("answers many identical requests at once alike", async () => {
    const request = { conversationId: await store.newConversation(2), requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => store.call("deleteSession", request)),
    );
    expect(answers.every(({ deleted }) => deleted)).toBe(true);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
  });

  test("refuses the request_id of another write", async () => {
    const conversationId = await store.newSession();
    const requestId = randomUUID();
    await store.call("addMessage", { conversationId, message: userMessage("x"), requestId });
    const expected = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
    await store.refuses("deleteSession", { conversationId, requestId }, expected);
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.lastSeq).toBe(1n);
  });
});

test.each([
  [{ conversationId: 0n }, ["conversation_id"]],
  [{ conversationId: -7n }, ["conversation_id"]],
  [{ conversationId: -(1n << 63n) }, ["conversation_id"]],
  [{ conversationId: 1n, requestId: "r".repeat(129) }, ["request_id"]],
  [{ conversationId: 0n, requestId: "\0" }, ["conversation_id", "request_id"]],
])("refuses %o", async (request, fields) => {
  await store.refuses("deleteSession", request, { reason: "INVALID_FIELD", fields });
});
