// GetMessages: any range, in both orders, page by page.
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { type AgentMessage, MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { expectedSeqs, inPages, pageSizes, type Reading, readings, wholeRange } from "./reading.js";
import { userMessage, useStore } from "./store.js";

const store = useStore();

const COUNT = 23;
let conversationId: bigint;

beforeAll(async () => {
  conversationId = await store.newConversation(COUNT);
});

async function readAll(id: bigint, reading: Partial<Reading>, pageSize: number) {
  const pages: AgentMessage[][] = [];
  let pageToken = "";
  do {
    const request = { conversationId: id, ...reading, pageSize, pageToken };
    const answer = await store.call("getMessages", request);
    pages.push(answer.messages);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return pages;
}

const seqsOf = (pages: AgentMessage[][]) => pages.map((page) => page.map(({ seq }) => seq));

test("agrees with a model for any range, order, offset and page size", async () => {
  await fc.assert(
    fc.asyncProperty(readings(COUNT), pageSizes, async (reading, pageSize) => {
      const expected = inPages(expectedSeqs(COUNT, reading), pageSize);
      const pages = await readAll(conversationId, reading, pageSize);
      expect(seqsOf(pages)).toEqual(expected.length === 0 ? [[]] : expected);
      for (const { seq, content } of pages.flat()) expect(content).toBe(String(seq));
    }),
    { numRuns: 200 },
  );
});

test("starts with the oldest, a hundred to a page, unless asked otherwise", async () => {
  const id = await store.newConversation(101);
  const { messages, nextPageToken } = await store.call("getMessages", { conversationId: id });
  expect(messages.map(({ seq }) => seq)).toEqual(expectedSeqs(100, wholeRange));
  expect(nextPageToken).not.toBe("");
});

test("has up to 1,000 to a page", async () => {
  const id = await store.newConversation(1_001);
  const pages = await readAll(id, { order: MessageOrder.NEWEST_FIRST }, 1_000);
  expect(pages.map(({ length }) => length)).toEqual([1_000, 1]);
});

test("answers an empty page, and no token, for an empty session", async () => {
  const id = await store.newSession();
  const answer = await store.call("getMessages", { conversationId: id });
  expect(answer).toEqual({ messages: [], nextPageToken: "" });
});

test("gives no token with a last page that is full", async () => {
  const request = { conversationId, pageSize: COUNT };
  expect((await store.call("getMessages", request)).nextPageToken).toBe("");
});

test.each([MessageOrder.OLDEST_FIRST, MessageOrder.NEWEST_FIRST])(
  "reads to the end of the first page's time while messages arrive (order %i)",
  async (order) => {
    const id = await store.newConversation(7);
    const request = { conversationId: id, order, pageSize: 2, lastN: 6n };
    const seqs: bigint[] = [];
    let pageToken = "";
    do {
      const answer = await store.call("getMessages", { ...request, pageToken });
      seqs.push(...answer.messages.map(({ seq }) => seq));
      pageToken = answer.nextPageToken;
      await store.call("addMessage", { conversationId: id, message: userMessage("later") });
    } while (pageToken !== "");
    expect(seqs).toEqual(expectedSeqs(7, { ...wholeRange, order, lastN: 6n }));
  },
);

test("lets a token be used again, and with another page size", async () => {
  const first = await store.call("getMessages", { conversationId, pageSize: 5 });
  const request = { conversationId, pageToken: first.nextPageToken };
  for (const pageSize of [1, 5, 0, 1_000]) {
    const { messages } = await store.call("getMessages", { ...request, pageSize });
    const expected = expectedSeqs(COUNT, { ...wholeRange, afterSeq: 5n });
    expect(messages.map(({ seq }) => seq)).toEqual(expected.slice(0, pageSize || 100));
  }
});

test.each([MessageOrder.OLDEST_FIRST, MessageOrder.NEWEST_FIRST])(
  "ends pages of large messages early and skips none (order %i)",
  async (order) => {
    const id = await store.newSession();
    const kib = [700, 700, 1, 4_000, 1, 1, 1_100, 300, 300, 300, 300, 300];
    const messages = kib.map((size) => userMessage("x".repeat(size * 1024)));
    await store.call("addMessages", { conversationId: id, messages });
    const pages = await readAll(id, { order }, 1_000);
    const bounds = { ...wholeRange, order };
    expect(seqsOf(pages).flat()).toEqual(expectedSeqs(kib.length, bounds));
    for (const page of pages) {
      const before = page.slice(0, -1).reduce((sum, { content }) => sum + content.length, 0);
      expect(before).toBeLessThan(1024 * 1024);
    }
    expect(pages.length).toBeGreaterThanOrEqual(4);
  },
);

describe("refusals", () => {
  test.each([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ pageSize: -1 }, ["page_size"]],
    [{ pageSize: 1_001 }, ["page_size"]],
    [{ pageSize: 2 ** 31 - 1 }, ["page_size"]],
    [{ pageSize: -(2 ** 31) }, ["page_size"]],
    [{ afterSeq: -1n }, ["after_seq"]],
    [{ beforeSeq: -1n }, ["before_seq"]],
    [{ lastN: -1n }, ["last_n"]],
    [{ offset: -(1n << 63n) }, ["offset"]],
    [{ order: 7 as MessageOrder }, ["order"]],
    [{ order: -1 as MessageOrder }, ["order"]],
    [{ pageSize: -1, afterSeq: -1n, offset: -1n }, ["page_size", "after_seq", "offset"]],
  ])("%o", async (change, fields) => {
    const expected = { reason: "INVALID_FIELD", fields };
    await store.refuses("getMessages", { conversationId, ...change }, expected);
  });

  test("an unknown session, never as an empty page", async () => {
    const id = (1n << 63n) - 1n;
    const metadata = { conversation_id: String(id) };
    for (const more of [{}, { afterSeq: 5n }, { offset: 100n }, { lastN: 1n }]) {
      await store.refuses(
        "getMessages",
        { conversationId: id, ...more },
        { reason: "SESSION_NOT_FOUND", metadata },
      );
    }
  });

  test("a token whose session was deleted", async () => {
    const id = await store.newConversation(3);
    const { nextPageToken } = await store.call("getMessages", { conversationId: id, pageSize: 1 });
    await store.call("deleteSession", { conversationId: id });
    await store.refuses(
      "getMessages",
      { conversationId: id, pageSize: 1, pageToken: nextPageToken },
      { reason: "SESSION_NOT_FOUND" },
    );
  });
});
