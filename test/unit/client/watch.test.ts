// Tests that a watch tells everything once and in order, whatever breaks it on the way.
import { once } from "node:events";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { AgentStoreClient } from "../../../client/index.js";
import {
  type AgentStoreClientOptions,
  AgentStoreError,
  CancelledError,
  InvalidFieldError,
  PositionExpiredError,
  RevisionAheadError,
  type SessionEvent,
  type SessionEventBatch,
  SessionNotFoundError,
  UnauthenticatedError,
  UnavailableError,
  type WatchSessionOptions,
} from "../../../client/index.js";
import { AgentSession } from "../../../gen/agentstore/v1/sessions.js";
import type {
  WatchSessionRequest,
  WatchSessionsRequest,
  SessionEvent as WireEvent,
} from "../../../gen/agentstore/v1/watch.js";
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
beforeEach(() => {
  // Without jitter there is no pause before an attempt.
  const random = vi.spyOn(Math, "random").mockReturnValue(0);
  closers.push(() => random.mockRestore());
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const start = (answers: Answers, options?: AgentStoreClientOptions) =>
  startWithClient(closers, answers, options);

const down = failure(status.UNAVAILABLE, "SHUTTING_DOWN");
const forever = new Promise<never>(() => {});

/** The event of the session 7 that gave it a revision: a message each, from revision 2 on. */
function appended(revision: bigint, content?: string): WireEvent {
  const value = stored(revision - 1n, content);
  return { conversationId: 7n, revision, event: { $case: "messageAppended", value } };
}

function mark($case: "caughtUp" | "heartbeat" | "fellBehind", revision: bigint): WireEvent {
  return { conversationId: 7n, revision, event: { $case, value: {} } };
}

function deleted(revision: bigint): WireEvent {
  return { conversationId: 7n, revision, event: { $case: "sessionDeleted", value: {} } };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** What is told, in short. */
async function told(store: AgentStoreClient, options?: WatchSessionOptions): Promise<string[]> {
  const events = await all(store.watchSession(7, options));
  return events.map(({ kind, revision }) => `${kind} ${revision}`);
}

describe("watchSession", () => {
  it("asks for what it was asked for and yields each event as the client's type", async () => {
    const requests: WatchSessionRequest[] = [];
    const session = AgentSession.fromPartial({ id: 7n, modelId: "gpt-4", state: 1 });
    const place = { conversationId: 7n };
    const { store } = await start({
      async watchSession(request, call) {
        requests.push(request);
        call.write({
          events: [
            { ...place, revision: 1n, event: { $case: "sessionChanged", value: session } },
            appended(2n),
            { ...place, revision: 3n, event: { $case: "messageUpdated", value: stored(1n) } },
          ],
        });
        call.write({
          events: [
            { ...place, revision: 4n, event: { $case: "messageDeleted", value: stored(1n) } },
            mark("caughtUp", 4n),
          ],
        });
        call.write({ events: [mark("heartbeat", 4n)] });
        call.write({ events: [mark("fellBehind", 4n), deleted(5n)] });
        await forever;
      },
    });
    const message = { ...stored(1n), role: "user" };
    expect(await all(store.watchSession(7, { after: 0 }))).toEqual([
      { kind: "session_changed", ...place, revision: 1n, session: { ...session, state: "active" } },
      { kind: "message_appended", ...place, revision: 2n, message },
      { kind: "message_updated", ...place, revision: 3n, message },
      { kind: "message_deleted", ...place, revision: 4n, message },
      { kind: "caught_up", ...place, revision: 4n },
      { kind: "fell_behind", ...place, revision: 4n },
      { kind: "session_deleted", ...place, revision: 5n },
    ]);
    await told(store);
    await told(store, { after: 12n });
    expect(requests).toEqual([
      { conversationId: 7n, afterRevision: 0n },
      { conversationId: 7n },
      { conversationId: 7n, afterRevision: 12n },
    ]);
  });

  it("passes over an event that it does not know, and goes on behind it", async () => {
    const asked: unknown[] = [];
    const { store } = await start({
      async watchSession({ afterRevision }, call) {
        asked.push(afterRevision);
        if (asked.length > 1) {
          call.write({ events: [deleted(4n)] });
          return;
        }
        call.write({ events: [appended(2n)] });
        // conversation_id 7, revision 3, and a field 99 with a message in it.
        const event = Buffer.from([0x08, 7, 0x10, 3, 0x9a, 0x06, 2, 0x08, 1]);
        call.write(Buffer.from([0x0a, event.length, ...event]) as never);
        throw down;
      },
    });
    expect(await told(store, { after: 1 })).toEqual([
      "message_appended 2",
      "interrupted 3",
      "reconnected 3",
      "session_deleted 4",
    ]);
    expect(asked).toEqual([1n, 3n]);
  });

  it("goes on behind the last event after every kind of break, and says so", async () => {
    const breaks = [
      (server: FakeServer) => (server.cut(), forever),
      () => Promise.reject(down),
      () => Promise.reject(bare(status.CANCELLED, "Call cancelled")),
      () => Promise.reject(bare(status.DEADLINE_EXCEEDED, "upstream request timeout")),
      () => Promise.reject(failure(status.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")),
      () =>
        Promise.reject(failure(status.UNAVAILABLE, "DATABASE_UNAVAILABLE", { retryDelayMs: 1 })),
      () => Promise.reject(failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryDelayMs: 1 })),
      // The stream ends as if all were told.
      () => Promise.resolve(),
    ];
    const count = BigInt(breaks.length);
    const asked: (bigint | undefined)[] = [];
    let seen = gate();
    const { server, store } = await start({
      async watchSession({ afterRevision }, call) {
        asked.push(afterRevision);
        const revision = (afterRevision ?? 1n) + 1n;
        if (afterRevision === undefined) call.write({ events: [mark("caughtUp", 1n)] });
        const next = breaks.shift();
        call.write({ events: [next ? appended(revision) : deleted(revision)] });
        await seen.opened;
        seen = gate();
        await next?.(server);
      },
    });
    const log: string[] = [];
    for await (const event of store.watchSession(7)) {
      log.push(`${event.kind} ${event.revision}`);
      if (event.kind === "interrupted") expect(event.error).toBeInstanceOf(AgentStoreError);
      if (event.kind === "message_appended") seen.open();
    }
    const expected = ["caught_up 1"];
    for (let revision = 2n; revision < count + 2n; revision++) {
      expected.push(`message_appended ${revision}`);
      expected.push(`interrupted ${revision}`, `reconnected ${revision}`);
    }
    expect(log).toEqual([...expected, `session_deleted ${count + 2n}`]);
    expect(asked).toEqual([undefined, ...Array.from({ length: 8 }, (_, n) => BigInt(n + 2))]);
  });

  it("has no gap and no double for any beginning, page size, breaks and appends meanwhile", async () => {
    interface Script {
      head: bigint;
      pageSize: number;
      breaks: { after: number; with: number; appends: number }[];
    }
    let script: Script;
    const errors = [down, bare(status.CANCELLED, "Call cancelled"), undefined];
    const { store } = await start({
      async watchSession({ afterRevision }, call) {
        let revision = afterRevision ?? script.head;
        let responses = 0;
        const next = script.breaks.shift();
        const say = (...events: WireEvent[]): boolean => {
          if (next && responses === next.after) return false;
          responses++;
          call.write({ events });
          return true;
        };
        for (let caughtUp = false; ; ) {
          const page: WireEvent[] = [];
          while (revision < script.head && page.length < script.pageSize) {
            page.push(appended(++revision));
          }
          if (!caughtUp && revision === script.head) {
            caughtUp = true;
            page.push(mark("caughtUp", revision));
          } else if (page.length === 0) {
            if (!next) page.push(deleted(revision + 1n));
            else page.push(mark("heartbeat", revision));
          }
          if (!say(...page)) {
            script.head += BigInt(next!.appends);
            const error = errors[next!.with];
            if (error) throw error;
            return;
          }
          if (page.at(-1)?.event?.$case === "sessionDeleted") return;
        }
      },
    });
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          head: fc.bigInt({ min: 1n, max: 15n }),
          after: fc.option(fc.bigInt({ min: 0n, max: 15n }), { nil: undefined }),
          pageSize: fc.integer({ min: 1, max: 6 }),
          breaks: fc.array(
            fc.record({
              after: fc.integer({ min: 0, max: 4 }),
              with: fc.integer({ min: 0, max: errors.length - 1 }),
              appends: fc.integer({ min: 0, max: 9 }),
            }),
            { maxLength: 4 },
          ),
        }),
        async ({ head, after: asked, pageSize, breaks }) => {
          const after = asked !== undefined && asked > head ? head : asked;
          script = { head, pageSize, breaks: structuredClone(breaks) };
          const events = await all(store.watchSession(7, { after }));
          const first = events.find(({ kind }) => kind === "caught_up");
          let last = after ?? first!.revision;
          let connected = true;
          for (const { kind, revision } of events) {
            if (kind === "message_appended") expect(revision).toBe(++last);
            else if (kind !== "session_deleted") expect(revision).toBe(last);
            if (kind === "interrupted") expect(connected).toBe(true);
            if (kind === "reconnected") expect(connected).toBe(false);
            if (kind === "interrupted" || kind === "reconnected") connected = !connected;
            else expect(connected).toBe(true);
          }
          expect(last).toBe(script.head);
          expect(events.at(-1)).toMatchObject({ kind: "session_deleted", revision: last + 1n });
        },
      ),
      { numRuns: 150 },
    );
  });

  it("goes on behind what came whole when the line breaks in the middle of a page", async () => {
    const large = "x".repeat(10_000);
    const { server, store } = await start({
      async watchSession({ afterRevision }, call) {
        let revision = afterRevision ?? 0n;
        while (revision < 40n) {
          const events = [1n, 2n, 3n, 4n].map((n) => appended(revision + n, large));
          revision += 4n;
          if (!call.write({ events })) await once(call, "drain");
        }
        call.write({ events: [deleted(41n)] });
        await forever;
      },
    });
    const revisions: bigint[] = [];
    let breaks = 0;
    server.cutAfter(65_000);
    for await (const { kind, revision } of store.watchSession(7, { after: 0 })) {
      if (kind === "message_appended") revisions.push(revision);
      if (kind === "interrupted" && ++breaks < 5) server.cutAfter(65_000);
    }
    expect(revisions).toEqual(Array.from({ length: 40 }, (_, n) => BigInt(n + 1)));
    expect(breaks).toBeGreaterThan(2);
  });

  it("takes silence for a lost connection, but not the time that the consumer takes", async () => {
    const asked: unknown[] = [];
    const { store } = await start({
      async watchSession({ afterRevision }, call) {
        asked.push(afterRevision);
        if (asked.length === 1) call.write({ events: [appended(2n)] });
        else call.write({ events: [appended(3n), deleted(4n)] });
        await forever;
      },
    });
    const log: string[] = [];
    for await (const event of store.watchSession(7, { after: 1, idleTimeoutMs: 300 })) {
      log.push(event.kind);
      if (event.kind === "interrupted") expect(event.error.message).toContain("stood still");
      if (event.kind === "message_appended") {
        await new Promise((resolve) => setTimeout(resolve, 600));
        expect(asked).toHaveLength(Number(event.revision) - 1);
      }
    }
    expect(log).toEqual([
      "message_appended",
      "interrupted",
      "reconnected",
      "message_appended",
      "session_deleted",
    ]);
  });

  it.each([
    [failure(status.NOT_FOUND, "SESSION_NOT_FOUND"), SessionNotFoundError],
    [failure(status.OUT_OF_RANGE, "REVISION_AHEAD"), RevisionAheadError],
    [failure(status.INVALID_ARGUMENT, "INVALID_FIELD"), InvalidFieldError],
    [failure(status.UNAUTHENTICATED, "UNAUTHENTICATED"), UnauthenticatedError],
  ])("throws what does not pass: %s", async (error, Class) => {
    let opened = 0;
    const { store } = await start({
      async watchSession() {
        opened++;
        throw error;
      },
    });
    await expect(told(store)).rejects.toBeInstanceOf(Class);
    expect(opened).toBe(1);
  });

  it("throws what does not pass in the middle, without a word of an interruption", async () => {
    const { store } = await start({
      async watchSession(_, call) {
        call.write({ events: [appended(2n)] });
        throw failure(status.UNAUTHENTICATED, "UNAUTHENTICATED");
      },
    });
    const log: string[] = [];
    const watching = (async () => {
      for await (const { kind } of store.watchSession(7)) log.push(kind);
    })();
    await expect(watching).rejects.toBeInstanceOf(UnauthenticatedError);
    expect(log).not.toContain("interrupted");
  });

  it("names what it cannot send before it sends anything", async () => {
    const { store } = await start({});
    expect(() => store.watchSession(1.5)).toThrow("conversation_id");
    expect(() => store.watchSession(7, { after: 0.5 })).toThrow("after_revision");
    expect(() => store.watchSession(7, { idleTimeoutMs: 0 })).toThrow(TypeError);
    expect(() => store.watchSessions({ tags: ["\ud800"] })).toThrow("tags[0]");
    expect(() => store.watchSessions({ after: 5 as never })).toThrow("after_position");
  });

  it("tells that the session is gone when it was removed while the watch was away", async () => {
    let opened = 0;
    const { store } = await start({
      async watchSession(_, call) {
        if (opened++ > 0) throw failure(status.NOT_FOUND, "SESSION_NOT_FOUND");
        call.write({ events: [mark("caughtUp", 4n)] });
        throw down;
      },
    });
    expect(await told(store)).toEqual(["caught_up 4", "interrupted 4", "session_deleted 4"]);
  });

  it("gives up a server that never answers, and none that has answered", async () => {
    let from = Number.POSITIVE_INFINITY;
    const { store } = await start(
      {
        async watchSession({ afterRevision }, call) {
          if (afterRevision === 0n) throw down;
          if (from === Number.POSITIVE_INFINITY) {
            from = Date.now();
            call.write({ events: [appended(2n)] });
          } else if (Date.now() > from + 400) {
            call.write({ events: [deleted(3n)] });
          }
          throw failure(status.UNAVAILABLE, "SHUTTING_DOWN", { retryDelayMs: 10 });
        },
      },
      { timeoutMs: 200 },
    );
    await expect(told(store, { after: 0 })).rejects.toBeInstanceOf(UnavailableError);
    expect(await told(store, { after: 1 })).toEqual([
      "message_appended 2",
      "interrupted 2",
      "reconnected 2",
      "session_deleted 3",
    ]);
  });

  it("counts a watch that ends right after its beginning as a failure, one that lives as none", async () => {
    let opened = 0;
    const { store } = await start(
      {
        async watchSession({ afterRevision = 1n }, call) {
          opened++;
          call.write({ events: [mark("caughtUp", afterRevision)] });
          if (opened <= 3) call.write({ events: [appended(afterRevision + 1n)] });
          if (opened === 4) call.write({ events: [mark("heartbeat", afterRevision)] });
          throw down;
        },
      },
      { maxAttempts: 3 },
    );
    await expect(told(store)).rejects.toBeInstanceOf(UnavailableError);
    expect(opened).toBe(6);
  });

  it("ends on the server when its consumer leaves", async () => {
    const heard = gate();
    const { store } = await start({
      async watchSession(_, call) {
        call.on("cancelled", heard.open);
        call.write({ events: [appended(2n), appended(3n)] });
        await forever;
      },
    });
    for await (const event of store.watchSession(7)) {
      expect(event.revision).toBe(2n);
      break;
    }
    await heard.opened;
  });

  it("ends at once when its signal aborts or the client closes, also within a page", async () => {
    let heard = gate();
    const { store } = await start({
      async watchSession({ afterRevision }, call) {
        call.on("cancelled", () => heard.open());
        if (afterRevision === 0n) call.write({ events: [mark("caughtUp", 1n)] });
        else call.write({ events: [appended(2n), appended(3n)] });
        await forever;
      },
    });
    const ended = async (
      options: WatchSessionOptions,
      end: () => void,
    ): Promise<{ log: bigint[]; thrown: unknown }> => {
      const log: bigint[] = [];
      heard = gate();
      const thrown = await (async () => {
        for await (const { revision } of store.watchSession(7, options)) {
          log.push(revision);
          end();
          // The server hears it while the consumer is still busy.
          await heard.opened;
        }
      })().catch((e: unknown) => e);
      return { log, thrown };
    };
    const controller = new AbortController();
    const { signal } = controller;
    const aborted = await ended({ signal }, () => controller.abort(new Error("enough")));
    expect(aborted.log).toEqual([2n]);
    expect(aborted.thrown).toBeInstanceOf(CancelledError);
    expect((aborted.thrown as CancelledError).cause).toEqual(new Error("enough"));
    await expect(told(store, { signal })).rejects.toBeInstanceOf(CancelledError);

    // Nothing more comes: what ends is the wait for it.
    const waiting = new AbortController();
    const watch = store.watchSession(7, { after: 0, signal: waiting.signal });
    await watch.next();
    const next = watch.next();
    waiting.abort();
    await expect(next).rejects.toBeInstanceOf(CancelledError);
    expect(await watch.next()).toEqual({ done: true, value: undefined });

    const closed = await ended({}, () => store.close());
    expect(closed.log).toEqual([2n]);
    expect(closed.thrown).toBeInstanceOf(CancelledError);
    await expect(told(store)).rejects.toBeInstanceOf(CancelledError);
  });

  it("ends while it waits for a server that is away", async () => {
    const controller = new AbortController();
    const { server, store } = await start({
      async watchSession(_, call) {
        call.write({ events: [mark("caughtUp", 1n)] });
        await forever;
      },
    });
    const watch = store.watchSession(7, { signal: controller.signal });
    expect((await watch.next()).value).toMatchObject({ kind: "caught_up" });
    await server.stop();
    expect((await watch.next()).value).toMatchObject({ kind: "interrupted" });
    const next = watch.next();
    controller.abort();
    await expect(next).rejects.toBeInstanceOf(CancelledError);
  });

  it("leaves no listener on the signal behind", async () => {
    const { store } = await start({
      async watchSession(_, call) {
        call.write({ events: [deleted(2n)] });
        await forever;
      },
    });
    const { signal } = new AbortController();
    const add = vi.spyOn(signal, "addEventListener");
    const remove = vi.spyOn(signal, "removeEventListener");
    for (let n = 0; n < 3; n++) await told(store, { signal });
    for await (const _ of store.watchSession(7, { signal })) break;
    expect(add.mock.calls.length).toBeGreaterThan(3);
    expect(remove.mock.calls.map(([, listener]) => listener)).toEqual(
      add.mock.calls.map(([, listener]) => listener),
    );
  });

  it("holds the server back while its consumer is slow", async () => {
    const PAGES = 300;
    let written = 0;
    const { store } = await start({
      getSession: async () => ({ session: AgentSession.fromPartial({ id: 7n }) }),
      async watchSession(_, call) {
        while (written < PAGES) {
          written++;
          const more = call.write({
            events: [appended(BigInt(written + 1), "x".repeat(100_000))],
          });
          if (!more) await once(call, "drain");
        }
        call.write({ events: [deleted(BigInt(PAGES + 2))] });
        await forever;
      },
    });
    let seen = 0;
    let most = 0;
    for await (const { kind } of store.watchSession(7)) {
      if (kind !== "message_appended") continue;
      seen++;
      // Time for the server to go on, were it not held back.
      for (let n = 0; seen < 20 && n < 10; n++) await store.getSession(7);
      most = Math.max(most, written - seen);
    }
    expect(seen).toBe(PAGES);
    expect(most).toBeLessThan(60);
  });
});

describe("watchSessions", () => {
  const position = (n: number): string => `position ${n}`;

  it("asks for what it was asked for, and again from where it stands", async () => {
    const requests: WatchSessionsRequest[] = [];
    const { store } = await start({
      async watchSessions(request, call) {
        requests.push(request);
        if (requests.length % 2 === 0) {
          call.write({ events: [deleted(3n)], position: position(3) });
          await forever;
        }
        call.write({ events: [appended(2n), mark("caughtUp", 0n)], position: position(1) });
        // Where only the position has moved, there is something to keep; where it has not, nothing.
        call.write({ events: [mark("heartbeat", 0n)], position: position(2) });
        call.write({ events: [], position: position(2) });
        throw down;
      },
    });
    const first = async (options: Parameters<AgentStoreClient["watchSessions"]>[0]) => {
      const batches: SessionEventBatch[] = [];
      for await (const batch of store.watchSessions(options)) {
        batches.push(batch);
        if (batch.position === position(3)) break;
      }
      return batches;
    };
    const labels = { modelId: "gpt-4", ownerId: "alice", tags: ["a", "b"] };
    const batches = await first(labels);
    expect(
      batches.map((batch) => ({ ...batch, events: batch.events.map(({ kind }) => kind) })),
    ).toEqual([
      { events: ["message_appended", "caught_up"], position: position(1) },
      { events: [], position: position(2) },
      { events: ["interrupted"], position: position(2) },
      { events: ["reconnected"], position: position(2) },
      { events: ["session_deleted"], position: position(3) },
    ]);
    await first({ after: "" });
    await first({ after: position(0) });
    const none = { modelId: "", ownerId: "", tags: [] };
    expect(requests).toEqual([
      labels,
      { ...labels, afterPosition: position(2) },
      { ...none, afterPosition: "" },
      { ...none, afterPosition: position(2) },
      { ...none, afterPosition: position(0) },
      { ...none, afterPosition: position(2) },
    ]);
  });

  it("loses nothing and tells nothing twice to a consumer that keeps the position", async () => {
    // Three events a response; a response is lost with its position, or neither is.
    const { server, store } = await start({
      async watchSessions({ afterPosition }, call) {
        for (let at = Number(afterPosition?.split(" ")[1] ?? 0); ; at++) {
          const events = [1, 2, 3].map((n) => appended(BigInt(3 * at + n), "x".repeat(5_000)));
          if (!call.write({ events, position: position(at + 1) })) await once(call, "drain");
          if (call.cancelled) return;
        }
      },
    });
    const revisions: bigint[] = [];
    let kept = "";
    // A consumer that ends within a batch and begins anew has some of it twice, and has to expect it.
    for (let life = 0; life < 4; life++) {
      server.cutAfter(40_000);
      let batches = 0;
      const worked: bigint[] = [];
      for await (const batch of store.watchSessions({ after: kept })) {
        worked.push(
          ...batch.events
            .filter(({ kind }) => kind === "message_appended")
            .map(({ revision }) => revision),
        );
        if (++batches === 12) break;
        revisions.push(...worked.splice(0));
        kept = batch.position;
      }
    }
    expect(revisions.length).toBeGreaterThan(60);
    expect(revisions).toEqual(revisions.map((_, n) => BigInt(n + 1)));
  });

  it("throws what does not pass", async () => {
    const { store } = await start({
      async watchSessions(_, call) {
        call.write({ events: [], position: position(1) });
        throw failure(status.OUT_OF_RANGE, "POSITION_EXPIRED");
      },
    });
    const batches: SessionEventBatch[] = [];
    const watching = (async () => {
      for await (const batch of store.watchSessions()) batches.push(batch);
    })();
    await expect(watching).rejects.toBeInstanceOf(PositionExpiredError);
    expect(batches.flatMap(({ events }): SessionEvent[] => events)).toEqual([]);
  });
});
