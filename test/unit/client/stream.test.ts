// Tests that a stream comes out whole, whatever breaks it on the way.
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { AgentStoreClient } from "../../../client/index.js";
import {
  type AgentStoreClientOptions,
  CancelledError,
  DeadlineExceededError,
  SessionNotFoundError,
  type StreamMessagesOptions,
  UnavailableError,
} from "../../../client/index.js";
import { MessageOrder, type StreamMessagesRequest } from "../../../gen/agentstore/v1/messages.js";
import {
  type Answers,
  bare,
  type FakeServer,
  failure,
  gate,
  startWithClient,
  status,
  stored,
} from "./fake-server.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const start = (answers: Answers, options?: AgentStoreClientOptions) =>
  startWithClient(closers, answers, options);

const page = (...seqs: bigint[]) => ({
  messages: seqs.map((seq) => stored(seq)),
  lastSeq: seqs.at(-1) ?? 0n,
});

/** The seqs that the contract promises for a request, in order. */
function promised(request: StreamMessagesRequest, lastSeq: bigint): bigint[] {
  let seqs = Array.from({ length: Number(lastSeq) }, (_, index) => BigInt(index + 1));
  if (request.afterSeq > 0n) seqs = seqs.filter((seq) => seq > request.afterSeq);
  if (request.beforeSeq > 0n) seqs = seqs.filter((seq) => seq < request.beforeSeq);
  if (request.lastN > 0n) seqs = seqs.slice(-Number(request.lastN));
  return request.order === MessageOrder.NEWEST_FIRST ? seqs.reverse() : seqs;
}

async function seqsOf(store: AgentStoreClient, options?: StreamMessagesOptions): Promise<bigint[]> {
  const seqs: bigint[] = [];
  for await (const message of store.streamMessages(7, options)) seqs.push(message.seq);
  return seqs;
}

describe("streamMessages", () => {
  it("asks for what it was asked for and yields each message as the client's type", async () => {
    const requests: StreamMessagesRequest[] = [];
    const { store } = await start({
      async streamMessages(request, call) {
        requests.push(request);
        call.write(page(4n, 3n));
        call.write(page(2n));
      },
    });
    const pages = [];
    const options = {
      afterSeq: 1,
      beforeSeq: 5n,
      order: "newest_first",
      lastN: 3,
      pageSize: 2,
      showDeleted: true,
    } as const;
    for await (const each of store.streamPages(7, options)) pages.push(each);
    expect(requests).toEqual([
      {
        conversationId: 7n,
        afterSeq: 1n,
        beforeSeq: 5n,
        lastN: 3n,
        pageSize: 2,
        order: MessageOrder.NEWEST_FIRST,
        showDeleted: true,
      },
    ]);
    expect(pages.map(({ lastSeq }) => lastSeq)).toEqual([3n, 2n]);
    expect(pages[0]?.messages[0]).toEqual({ ...stored(4n), role: "user" });
  });

  it("takes up behind the last page after every kind of break", async () => {
    const breaks = [
      (server: FakeServer) => (server.cut(), new Promise<never>(() => {})),
      () => Promise.reject(failure(status.UNAVAILABLE, "SHUTTING_DOWN")),
      () => Promise.reject(bare(status.CANCELLED, "Call cancelled")),
      () =>
        Promise.reject(failure(status.UNAVAILABLE, "DATABASE_UNAVAILABLE", { retryDelayMs: 1 })),
    ];
    const asked: bigint[] = [];
    const { server, store } = await start({
      async streamMessages(request, call) {
        asked.push(request.afterSeq);
        const next = request.afterSeq + 1n;
        if (next > 6n) return;
        call.write(page(next));
        await sent;
        await breaks.shift()?.(server);
        call.write(page(next + 1n));
      },
    });
    const seqs: bigint[] = [];
    let sent = new Promise<void>(() => {});
    let send = (): void => {};
    const rearm = (): void => {
      sent = new Promise((resolve) => {
        send = resolve;
      });
    };
    rearm();
    for await (const message of store.streamMessages(7)) {
      seqs.push(message.seq);
      send();
      rearm();
    }
    expect(seqs).toEqual([1n, 2n, 3n, 4n, 5n, 6n]);
    expect(asked).toEqual([0n, 1n, 2n, 3n, 4n]);
  });

  it("has no gap and no double for any range, page size, breaks and appends meanwhile", async () => {
    let script: { breaks: number[]; appends: number; lastSeq: bigint; atFirstPage?: bigint };
    const { store } = await start({
      async streamMessages(request, call) {
        const seqs = promised(request, script.lastSeq);
        const breakAfter = script.breaks.shift();
        for (let at = 0, pages = 0; at < seqs.length; at += request.pageSize, pages++) {
          if (pages === breakAfter) {
            script.lastSeq += BigInt(script.appends);
            throw failure(status.UNAVAILABLE, "SHUTTING_DOWN", { retryDelayMs: 0 });
          }
          script.atFirstPage ??= script.lastSeq;
          call.write(page(...seqs.slice(at, at + request.pageSize)));
        }
        if (breakAfter !== undefined) throw failure(status.UNAVAILABLE, "SHUTTING_DOWN");
      },
    });
    // Without jitter there is no pause before an attempt.
    const random = vi.spyOn(Math, "random").mockReturnValue(0);
    closers.push(() => random.mockRestore());
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          lastSeq: fc.integer({ min: 0, max: 20 }),
          afterSeq: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 22 })),
          beforeSeq: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 22 })),
          lastN: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 10 })),
          pageSize: fc.integer({ min: 1, max: 7 }),
          order: fc.constantFrom("oldest_first", "newest_first"),
          breaks: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
          appends: fc.integer({ min: 0, max: 12 }),
        }),
        async ({ lastSeq, breaks, appends, ...range }) => {
          script = { breaks: [...breaks], appends, lastSeq: BigInt(lastSeq) };
          const order =
            range.order === "newest_first" ? MessageOrder.NEWEST_FIRST : MessageOrder.OLDEST_FIRST;
          const request = {
            conversationId: 7n,
            pageSize: range.pageSize,
            afterSeq: BigInt(range.afterSeq),
            beforeSeq: BigInt(range.beforeSeq),
            lastN: BigInt(range.lastN),
            showDeleted: false,
            order,
          };
          const seen = await seqsOf(store, range);
          // What was there when the first page was sent comes whole, in order and once. What a
          // stream that resumed brings besides was appended meanwhile: it follows without a gap,
          // and there is no more of all than last_n allows.
          const there = promised(request, script.atFirstPage ?? script.lastSeq);
          expect(seen.slice(0, there.length)).toEqual(there);
          const appended = promised({ ...request, lastN: 0n }, script.lastSeq).filter(
            (seq) => seq > (there.at(-1) ?? script.lastSeq),
          );
          const besides = seen.slice(there.length);
          expect(besides).toEqual(
            request.order === MessageOrder.NEWEST_FIRST ? [] : appended.slice(0, besides.length),
          );
          if (range.lastN > 0) expect(seen.length).toBeLessThanOrEqual(range.lastN);
        },
      ),
      { numRuns: 400 },
    );
  });

  it.each([
    ["oldest_first", [page(4n, 5n), page(6n)], { afterSeq: 5n, beforeSeq: 0n, lastN: 0n }],
    ["newest_first", [page(9n, 8n), page(7n)], { afterSeq: 0n, beforeSeq: 8n, lastN: 1n }],
  ] as const)("asks only for what is left of last_n, %s", async (order, pages, again) => {
    const requests: StreamMessagesRequest[] = [];
    const { store } = await start({
      async streamMessages(request, call) {
        call.write(pages[requests.length] ?? page());
        requests.push(request);
        if (requests.length === 1) throw failure(status.UNAVAILABLE, "SHUTTING_DOWN");
      },
    });
    expect(await seqsOf(store, { order, lastN: 3 })).toHaveLength(3);
    expect(requests).toMatchObject([{ afterSeq: 0n, beforeSeq: 0n, lastN: 3n }, again]);
  });

  it("does not take up again after an error that does not pass", async () => {
    let opened = 0;
    const { store } = await start({
      async streamMessages(_, call) {
        opened++;
        call.write(page(1n));
        throw failure(status.NOT_FOUND, "SESSION_NOT_FOUND");
      },
    });
    await expect(seqsOf(store)).rejects.toBeInstanceOf(SessionNotFoundError);
    expect(opened).toBe(1);
  });

  it("gives up when nothing arrives any more, and counts anew after each page", async () => {
    const down = failure(status.UNAVAILABLE, "SHUTTING_DOWN");
    let opened = 0;
    const { store } = await start(
      {
        async streamMessages(request, call) {
          opened++;
          // Fails before and behind each page, and for ever behind page 3.
          if (opened % 2 !== 0 || request.afterSeq === 3n) throw down;
          call.write(page(request.afterSeq + 1n));
          throw down;
        },
      },
      { maxAttempts: 3 },
    );
    const seen: bigint[] = [];
    const reading = (async () => {
      for await (const message of store.streamMessages(7)) seen.push(message.seq);
    })();
    await expect(reading).rejects.toBeInstanceOf(UnavailableError);
    expect(seen).toEqual([1n, 2n, 3n]);
  });

  it("takes up again when it stands still, and gives up when it does so again", async () => {
    const asked: bigint[] = [];
    const { store } = await start({
      async streamMessages(request, call) {
        asked.push(request.afterSeq);
        if (asked.length > 2) return new Promise(() => {});
        call.write(page(request.afterSeq + 1n));
        return new Promise(() => {});
      },
    });
    const seen: bigint[] = [];
    const reading = (async () => {
      for await (const { seq } of store.streamMessages(7, { idleTimeoutMs: 300 })) seen.push(seq);
    })();
    await expect(reading).rejects.toThrow(/stood still/);
    expect(seen).toEqual([1n, 2n]);
    expect(asked.slice(0, 3)).toEqual([0n, 1n, 2n]);
  });

  it("does not count the time that the consumer takes", async () => {
    let opened = 0;
    const { store } = await start({
      async streamMessages(_, call) {
        opened++;
        call.write(page(1n));
        call.write(page(2n));
      },
    });
    const seen: bigint[] = [];
    for await (const { seq } of store.streamMessages(7, { idleTimeoutMs: 100 })) {
      seen.push(seq);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(seen).toEqual([1n, 2n]);
    expect(opened).toBe(1);
  });

  it("ends on the server when its consumer leaves", async () => {
    const heard = gate();
    const { store } = await start({
      async streamMessages(_, call) {
        call.on("cancelled", heard.open);
        call.write(page(1n));
        await new Promise(() => {});
      },
    });
    for await (const message of store.streamMessages(7)) {
      expect(message.seq).toBe(1n);
      break;
    }
    await heard.opened;
  });

  it("ends when its signal aborts, the client closes or its time is up", async () => {
    const { store } = await start({
      async streamMessages(_, call) {
        call.write(page(1n));
        await new Promise(() => {});
      },
    });
    const controller = new AbortController();
    const reading = (async () => {
      for await (const _ of store.streamMessages(7, { signal: controller.signal })) {
        controller.abort(new Error("enough"));
      }
    })();
    const thrown = await reading.catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(CancelledError);
    expect((thrown as CancelledError).cause).toEqual(new Error("enough"));
    await expect(seqsOf(store, { timeoutMs: 200 })).rejects.toBeInstanceOf(DeadlineExceededError);
    const closing = (async () => {
      for await (const _ of store.streamMessages(7)) store.close();
    })();
    await expect(closing).rejects.toBeInstanceOf(CancelledError);
    await expect(seqsOf(store)).rejects.toBeInstanceOf(CancelledError);
  });
});
