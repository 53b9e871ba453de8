// StreamMessages: any range, in both orders, as pages that a reader can resume after.
import { status } from "@grpc/grpc-js";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { MessageOrder, type StreamMessagesResponse } from "../../gen/agentstore/v1/messages.js";
import { failure, faultOf } from "./faults.js";
import { expectedSeqs, inPages, pageSizes, readings, wholeRange } from "./reading.js";
import { userMessage, useStore } from "./store.js";

const store = useStore();

const COUNT = 23;
let conversationId: bigint;

beforeAll(async () => {
  conversationId = await store.newConversation(COUNT);
});

const seqsOf = (pages: StreamMessagesResponse[]) =>
  pages.map(({ messages }) => messages.map(({ seq }) => seq));

test("agrees with a model for any range, order and page size", async () => {
  await fc.assert(
    fc.asyncProperty(readings(COUNT), pageSizes, async ({ offset: _, ...reading }, pageSize) => {
      const pages = await store.pages({ conversationId, ...reading, pageSize });
      const expected = expectedSeqs(COUNT, { ...reading, offset: 0n });
      expect(seqsOf(pages)).toEqual(inPages(expected, pageSize));
      for (const { messages, lastSeq } of pages) {
        expect(lastSeq).toBe(messages.at(-1)!.seq);
        for (const { seq, content } of messages) expect(content).toBe(String(seq));
      }
    }),
    { numRuns: 150 },
  );
});

test("streams the same messages as GetMessages reads", async () => {
  const { messages } = await store.call("getMessages", { conversationId });
  const pages = await store.pages({ conversationId, pageSize: 4 });
  expect(pages.flatMap((page) => page.messages)).toEqual(messages);
});

test("has a hundred messages in a page unless asked otherwise", async () => {
  const id = await store.newConversation(201);
  const pages = await store.pages({ conversationId: id });
  expect(pages.map(({ messages }) => messages.length)).toEqual([100, 100, 1]);
});

test("resumes after any page, oldest first", async () => {
  const pages = await store.pages({ conversationId, pageSize: 4, lastN: 18n });
  for (const [index, { lastSeq }] of pages.entries()) {
    const rest = await store.pages({
      conversationId,
      pageSize: 4,
      lastN: 18n,
      afterSeq: lastSeq,
    });
    expect(rest).toEqual(pages.slice(index + 1));
  }
});

test("resumes after any page, newest first", async () => {
  const order = MessageOrder.NEWEST_FIRST;
  const pages = await store.pages({ conversationId, pageSize: 4, order, lastN: 18n });
  let seen = 0;
  for (const [index, { messages, lastSeq }] of pages.entries()) {
    seen += messages.length;
    if (seen === 18) break;
    const lastN = BigInt(18 - seen);
    const request = { conversationId, pageSize: 4, order, lastN, beforeSeq: lastSeq };
    expect(await store.pages(request)).toEqual(pages.slice(index + 1));
  }
  expect(seen).toBe(18);
});

test("resumes with nothing where the last page was seen", async () => {
  const order = MessageOrder.NEWEST_FIRST;
  const bounds = { conversationId, order, afterSeq: 3n };
  const lastSeq = (await store.pages(bounds)).at(-1)!.lastSeq;
  expect(lastSeq).toBe(4n);
  expect(await store.pages({ ...bounds, beforeSeq: lastSeq })).toEqual([]);
});

test("streams nothing for an empty session or range", async () => {
  const empty = await store.newSession();
  expect(await store.pages({ conversationId: empty })).toEqual([]);
  expect(await store.pages({ conversationId, afterSeq: BigInt(COUNT) })).toEqual([]);
  expect(await store.pages({ conversationId, beforeSeq: 1n })).toEqual([]);
});

test.each([MessageOrder.OLDEST_FIRST, MessageOrder.NEWEST_FIRST])(
  "ends with what was the last message when it began (order %i)",
  async (order) => {
    const id = await store.newConversation(30);
    const seqs: bigint[] = [];
    for await (const page of store.stream({ conversationId: id, order, pageSize: 3 })) {
      const { messages } = page as StreamMessagesResponse;
      seqs.push(...messages.map(({ seq }) => seq));
      await store.call("addMessage", { conversationId: id, message: userMessage("later") });
    }
    expect(seqs).toEqual(expectedSeqs(30, { ...wholeRange, order }));
  },
);

test("ends pages of large messages early and skips none", async () => {
  const id = await store.newSession();
  const messages = Array.from({ length: 8 }, (_, index) =>
    userMessage(String(index).repeat(600 * 1024)),
  );
  await store.call("addMessages", { conversationId: id, messages });
  const pages = await store.pages({ conversationId: id, pageSize: 1_000 });
  expect(seqsOf(pages)).toEqual(inPages(expectedSeqs(8, wholeRange), 2));
});

test("delivers a long session to a reader that dawdles, and to many at once", async () => {
  const id = await store.newConversation(3_000);
  const read = async (pageSize: number) => {
    const seqs: bigint[] = [];
    for await (const page of store.stream({ conversationId: id, pageSize })) {
      seqs.push(...(page as StreamMessagesResponse).messages.map(({ seq }) => seq));
      // Other work between two pages.
      await store.call("getSession", { conversationId: id });
    }
    return seqs;
  };
  const expected = expectedSeqs(3_000, wholeRange);
  const all = await Promise.all([97, 250, 500, 1_000, 300].map(read));
  for (const seqs of all) expect(seqs).toEqual(expected);
});

test("fails where its session is deleted under it, rather than end early without a word", async () => {
  const id = await store.newSession();
  // More, and larger, pages than the buffers between the server and a reader that has stopped can hold:
  // grpc-js keeps 16 for it, whatever their size.
  const large = Array.from({ length: 40 }, () => userMessage("x".repeat(1_100_000)));
  await store.call("addMessages", { conversationId: id, messages: large });
  const stream = store.stream({ conversationId: id });
  const seqs: bigint[] = [];
  const fault = await failure(
    (async () => {
      for await (const page of stream) {
        seqs.push((page as StreamMessagesResponse).lastSeq);
        if (seqs.length === 1) await store.call("deleteSession", { conversationId: id });
      }
    })(),
  );
  expect(fault).toMatchObject({ code: "NOT_FOUND", reason: "SESSION_NOT_FOUND" });
  expect(seqs.length).toBeLessThan(large.length);
  expect(seqs).toEqual(expectedSeqs(seqs.length, wholeRange));
});

test("stops when the reader cancels", async () => {
  const id = await store.newConversation(2_000);
  const stream = store.stream({ conversationId: id, pageSize: 1 });
  let pages = 0;
  const error = await (async () => {
    for await (const _ of stream) if (++pages === 3) stream.cancel();
  })().catch((thrown: unknown) => thrown);
  expect(faultOf(error).code).toBe(status[status.CANCELLED]);
  expect(pages).toBeLessThan(2_000);
  await store.answers();
});

describe("refusals", () => {
  test.each([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ pageSize: -1 }, ["page_size"]],
    [{ pageSize: 1_001 }, ["page_size"]],
    [{ afterSeq: -1n }, ["after_seq"]],
    [{ beforeSeq: -(1n << 63n) }, ["before_seq"]],
    [{ lastN: -1n }, ["last_n"]],
    [{ order: 7 as MessageOrder }, ["order"]],
    [{ pageSize: -1, lastN: -1n }, ["page_size", "last_n"]],
  ])("%o", async (change, fields) => {
    const expected = { reason: "INVALID_FIELD", fields };
    await store.refuses("streamMessages", { conversationId, ...change }, expected);
  });

  test("an unknown session, never as an empty stream", async () => {
    const id = (1n << 63n) - 1n;
    for (const more of [{}, { afterSeq: 5n }, { lastN: 1n }]) {
      await store.refuses(
        "streamMessages",
        { conversationId: id, ...more },
        { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(id) } },
      );
    }
  });
});
