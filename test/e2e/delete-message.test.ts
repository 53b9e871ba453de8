// DeleteMessage and UndeleteMessage: a message goes and comes back, and its place stays.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MessageOrder, Role } from "../../gen/agentstore/v1/messages.js";
import { expectedSeqs, inPages, pageSizes, readings, wholeRange } from "./reading.js";
import { uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();

async function remove(conversationId: bigint, ...seqs: number[]): Promise<void> {
  for (const seq of seqs) await store.call("deleteMessage", { conversationId, seq: BigInt(seq) });
}

async function contents(conversationId: bigint, fields: object = {}): Promise<string[]> {
  const { messages } = await store.call("getMessages", { conversationId, ...fields });
  return messages.map(({ content }) => content);
}

test("a deleted message keeps its place, is left out, and is shown when asked for", async () => {
  const conversationId = await store.newConversation(3);
  const key = { conversationId, seq: 2n };
  const before = (await store.call("getMessage", key)).message!;
  const { message, replayed } = await store.call("deleteMessage", key);
  expect(replayed).toBe(false);
  expect(message).toEqual({ ...before, version: 2n, revision: 5n, deletedAt: expect.any(Date) });
  expect(await contents(conversationId)).toEqual(["1", "3"]);
  expect(await contents(conversationId, { showDeleted: true })).toEqual(["1", "2", "3"]);
  const [page] = await store.pages({ conversationId });
  expect(page!.messages.map(({ seq }) => seq)).toEqual([1n, 3n]);
  const [all] = await store.pages({ conversationId, showDeleted: true });
  expect(all!.messages[1]).toEqual(message);
  await store.refuses("getMessage", key, {
    reason: "MESSAGE_DELETED",
    metadata: { conversation_id: String(conversationId), seq: "2" },
  });
  expect((await store.call("getMessage", { ...key, showDeleted: true })).message).toEqual(message);
  await store.appendNumbered(conversationId, 4, 4);
  const { session } = await store.call("getSession", { conversationId });
  expect(session).toMatchObject({ lastSeq: 4n, revision: 6n });

  const back = await store.call("undeleteMessage", key);
  expect(back).toEqual({
    message: { ...before, version: 3n, revision: 7n, deletedAt: undefined },
    replayed: false,
  });
  expect(await contents(conversationId)).toEqual(["1", "2", "3", "4"]);
});

test("the session follows: counters, times, preview, its place in lists, search", async () => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({ modelId });
  const usage = { inputTokens: 5n, costMicros: 7n };
  for (const [content, timestampMs, role] of [
    ["the first one", 1_000n, Role.SYSTEM],
    ["the second one", 3_000n, Role.USER],
    ["the third one", 2_000n, Role.ASSISTANT],
  ] as const) {
    const message = { role, content, timestampMs, usage };
    await store.call("addMessage", { conversationId, message });
  }
  const facts = async () => ({
    stats: (await store.call("getSessionStats", { conversationId })).stats,
    list: (await store.call("listSessions", { modelId })).sessions[0],
    found: (await store.call("searchMessages", { modelId, query: "one" })).results.length,
  });
  const whole = await facts();
  await remove(conversationId, 1, 2);
  const part = await facts();
  expect(part).toMatchObject({
    stats: {
      totalMessages: 1n,
      userMessages: 0n,
      assistantMessages: 1n,
      systemMessages: 0n,
      firstMessageTime: new Date(2_000),
      lastMessageTime: new Date(2_000),
      totalCharacters: 13n,
      totalUsage: { inputTokens: 5n, costMicros: 7n },
    },
    list: { messageCount: 1n, firstMessage: "the third one", lastMessageTime: new Date(2_000) },
    found: 1,
  });
  await remove(conversationId, 3);
  const none = await facts();
  expect(none).toMatchObject({ stats: { totalMessages: 0n, totalCharacters: 0n }, found: 0 });
  expect(none.stats!.firstMessageTime).toBeUndefined();
  expect(none.list!.firstMessage).toBeUndefined();
  expect(none.list!.lastMessageTime).toBeUndefined();
  // The first message after all are gone is what the list shows.
  await store.call("addMessage", { conversationId, message: userMessage("a new one") });
  expect((await facts()).list).toMatchObject({ messageCount: 1n, firstMessage: "a new one" });
  await remove(conversationId, 4);
  for (const seq of [3n, 1n, 2n]) await store.call("undeleteMessage", { conversationId, seq });
  const again = await facts();
  expect(again.stats).toEqual(whole.stats);
  expect(again.list).toMatchObject({
    messageCount: 3n,
    firstMessage: "the first one",
    lastMessageTime: whole.list!.lastMessageTime,
  });
  expect(again.found).toBe(3);
});

describe("pages of a session with deleted messages", () => {
  const COUNT = 40;
  test.each([
    ["here and there", [2, 3, 7, 20, 21, 22, 38]],
    ["at the beginning", [1, 2, 3, 4, 5]],
    ["at the end", [36, 37, 38, 39, 40]],
    ["all but one", Array.from({ length: COUNT }, (_, index) => index + 1).filter((n) => n !== 9)],
    ["all", Array.from({ length: COUNT }, (_, index) => index + 1)],
  ])("%s hold what is left, in full pages, and the last one says so", async (_, deleted) => {
    const conversationId = await store.newConversation(COUNT);
    await remove(conversationId, ...deleted);
    const hidden = new Set(deleted.map(BigInt));
    await fc.assert(
      fc.asyncProperty(
        readings(COUNT),
        pageSizes,
        fc.boolean(),
        async (reading, pageSize, showDeleted) => {
          const expected = expectedSeqs(COUNT, reading, showDeleted ? new Set() : hidden);
          const seqs: bigint[][] = [];
          let pageToken = "";
          do {
            const request = { conversationId, ...reading, pageSize, pageToken, showDeleted };
            const page = await store.call("getMessages", request);
            seqs.push(page.messages.map(({ seq }) => seq));
            pageToken = page.nextPageToken;
          } while (pageToken !== "");
          expect(seqs).toEqual(expected.length > 0 ? inPages(expected, pageSize) : [[]]);
          const { afterSeq, beforeSeq, lastN, order } = reading;
          const range = { afterSeq, beforeSeq, lastN, order };
          const streamed = await store.pages({ conversationId, ...range, pageSize, showDeleted });
          const all = expectedSeqs(
            COUNT,
            { ...reading, offset: 0n },
            showDeleted ? new Set() : hidden,
          );
          expect(streamed.map(({ messages }) => messages.map(({ seq }) => seq))).toEqual(
            inPages(all, pageSize),
          );
        },
      ),
      { numRuns: 40 },
    );
  });

  test("a token leads on when what is left of its range is deleted meanwhile", async () => {
    const conversationId = await store.newConversation(4);
    const first = await store.call("getMessages", { conversationId, pageSize: 2 });
    await remove(conversationId, 3, 4);
    const request = { conversationId, pageSize: 2, pageToken: first.nextPageToken };
    expect(await store.call("getMessages", request)).toEqual({ messages: [], nextPageToken: "" });
  });

  test("a token belongs to its show_deleted", async () => {
    const conversationId = await store.newConversation(4);
    const { nextPageToken } = await store.call("getMessages", { conversationId, pageSize: 2 });
    await store.refuses(
      "getMessages",
      { conversationId, pageToken: nextPageToken, showDeleted: true },
      { reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] },
    );
  });

  test("the newest ones of a range count without the deleted ones", async () => {
    const conversationId = await store.newConversation(10);
    await remove(conversationId, 9, 10, 5);
    const read = (fields: object) => contents(conversationId, { ...wholeRange, ...fields });
    expect(await read({ lastN: 4n })).toEqual(["4", "6", "7", "8"]);
    expect(await read({ lastN: 4n, showDeleted: true })).toEqual(["7", "8", "9", "10"]);
    expect(await read({ offset: 4n, pageSize: 2 })).toEqual(["6", "7"]);
    expect(await read({ offset: 1n, order: MessageOrder.NEWEST_FIRST, pageSize: 3 })).toEqual([
      "7",
      "6",
      "4",
    ]);
  });
});

test("of 20 callers at once exactly one deletes", async () => {
  const conversationId = await store.newConversation(1);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, () => store.call("deleteMessage", { conversationId, seq: 1n })),
  );
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  const shown = { conversationId, seq: 1n, showDeleted: true };
  expect((await store.call("getMessage", shown)).message).toMatchObject({ version: 2n });
});

describe("request_id", () => {
  test.each(["deleteMessage", "undeleteMessage"] as const)(
    "of %s replays the first answer and writes nothing",
    async (rpc) => {
      const conversationId = await store.newConversation(1);
      if (rpc === "undeleteMessage") await remove(conversationId, 1);
      const request = { conversationId, seq: 1n, requestId: randomUUID() };
      const first = await store.call(rpc, request);
      const other = rpc === "deleteMessage" ? "undeleteMessage" : "deleteMessage";
      await store.call(other, { conversationId, seq: 1n });
      expect(await store.call(rpc, request)).toEqual({ ...first, replayed: true });
      const { session } = await store.call("getSession", { conversationId });
      expect(session!.revision).toBe(first.message!.revision + 1n);
      const expected = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
      await store.refuses(rpc, { ...request, seq: 2n }, expected);
      await store.refuses(other, request, expected);
    },
  );
});

describe("refusals", () => {
  test("what is deleted is not deleted or edited again; what is not, is not brought back", async () => {
    const conversationId = await store.newConversation(1);
    const key = { conversationId, seq: 1n };
    const metadata = { conversation_id: String(conversationId), seq: "1" };
    await store.refuses("undeleteMessage", key, {
      reason: "MESSAGE_NOT_DELETED",
      metadata,
    });
    await remove(conversationId, 1);
    const expected = { reason: "MESSAGE_DELETED", metadata };
    await store.refuses("deleteMessage", key, expected);
    await store.refuses(
      "updateMessage",
      { message: { ...key, content: "c" }, updateMask: ["content"] },
      expected,
    );
    await store.refuses("getMessage", { ...key, version: 1n }, expected);
  });

  test.each(["deleteMessage", "undeleteMessage"] as const)("fields of %s", async (rpc) => {
    for (const [request, fields] of [
      [{ seq: 1n }, ["conversation_id"]],
      [{ conversationId: 1n }, ["seq"]],
      [{ conversationId: -1n, seq: -1n }, ["conversation_id", "seq"]],
      [{ conversationId: 1n, seq: 1n, requestId: "\0" }, ["request_id"]],
      [{ conversationId: 1n, seq: 1n, requestId: "r".repeat(129) }, ["request_id"]],
      [{ conversationId: 1n, seq: 1n, expectedRevision: 0n }, ["expected_revision"]],
    ] as const) {
      await store.refuses(rpc, request, { reason: "INVALID_FIELD", fields: [...fields] });
    }
    const conversationId = await store.newConversation(1);
    await store.refuses(
      rpc,
      { conversationId, seq: 2n },
      { reason: "MESSAGE_NOT_FOUND", metadata: { seq: "2", last_seq: "1" } },
    );
    await store.refuses(
      rpc,
      { conversationId: (1n << 63n) - 1n, seq: 1n },
      { reason: "SESSION_NOT_FOUND" },
    );
    await store.refuses(
      rpc,
      { conversationId, seq: 1n, expectedRevision: 7n },
      { reason: "REVISION_MISMATCH", metadata: { revision: "2" } },
    );
  });
});
