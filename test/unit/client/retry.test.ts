// Tests what the client repeats, what it does not, and that a repeated write is the same write.
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  AgentStoreClient,
  type AgentStoreClientOptions,
  type AgentStoreError,
  CancelledError,
  DeadlineExceededError,
  InternalError,
  InvalidFieldError,
  LastSeqMismatchError,
  OverloadedError,
  UnavailableError,
  type WriteInfo,
} from "../../../client/index.js";
import type { AddMessageRequest } from "../../../gen/agentstore/v1/messages.js";
import { SessionStats } from "../../../gen/agentstore/v1/sessions.js";
import {
  type Answers,
  bare,
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

/** An addMessage that fails with what `failures` holds, one after the other, and then succeeds. */
function failing(failures: (ServiceError | (() => ServiceError))[]): {
  requests: AddMessageRequest[];
  callIds: unknown[];
  answers: Answers;
} {
  const requests: AddMessageRequest[] = [];
  const callIds: unknown[] = [];
  return {
    requests,
    callIds,
    answers: {
      addMessage(request, call) {
        requests.push(request);
        callIds.push(call.metadata.get("x-request-id")[0]);
        const next = failures[requests.length - 1];
        if (next !== undefined) throw typeof next === "function" ? next() : next;
        return {
          message: stored(1n, request.message?.content),
          stateEtag: "",
          replayed: requests.length > 1,
        };
      },
    },
  };
}

describe("a call that fails for a reason that passes", () => {
  it.each([
    ["the server is shutting down", failure(status.UNAVAILABLE, "SHUTTING_DOWN")],
    [
      "the database is away",
      failure(status.UNAVAILABLE, "DATABASE_UNAVAILABLE", { retryDelayMs: 5 }),
    ],
    ["a write conflict", failure(status.ABORTED, "WRITE_CONFLICT")],
    ["the server is full", failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryDelayMs: 5 })],
    ["a proxy has no server", bare(status.UNAVAILABLE, "upstream connect error")],
    ["something in between cancelled", bare(status.CANCELLED, "Call cancelled")],
  ])("is repeated as the same write: %s", async (_, error) => {
    const { requests, callIds, answers } = failing([error, error]);
    const { store } = await start(answers);
    const written: WriteInfo[] = [];
    const message = await store.addMessage(7, "user", "Hello", {
      onWritten: (info) => written.push(info),
    });
    expect(message.content).toBe("Hello");
    expect(requests).toHaveLength(3);
    expect(requests[0]?.requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(requests[1]).toEqual(requests[0]);
    expect(requests[2]).toEqual(requests[0]);
    expect(new Set(callIds).size).toBe(1);
    expect(written).toEqual([{ requestId: requests[0]?.requestId, replayed: true, attempts: 3 }]);
  });

  it.each([
    [
      "LAST_SEQ_MISMATCH",
      failure(status.ABORTED, "LAST_SEQ_MISMATCH", { metadata: { last_seq: "7" } }),
      LastSeqMismatchError,
    ],
    ["INVALID_FIELD", failure(status.INVALID_ARGUMENT, "INVALID_FIELD"), InvalidFieldError],
    [
      "INTERNAL",
      failure(status.INTERNAL, "INTERNAL", { metadata: { incident_id: "x" } }),
      InternalError,
    ],
    ["CANCELLED by the server", failure(status.CANCELLED, "CANCELLED"), CancelledError],
    [
      "OVERLOADED without a delay",
      failure(status.RESOURCE_EXHAUSTED, "OVERLOADED"),
      OverloadedError,
    ],
    ["a bare INTERNAL", bare(status.INTERNAL, "it broke"), InternalError],
  ])("is not repeated when repeating does not help: %s", async (_, error, expected) => {
    const { requests, answers } = failing([error]);
    const { store } = await start(answers);
    await expect(store.addMessage(7, "user", "Hello")).rejects.toBeInstanceOf(expected);
    expect(requests).toHaveLength(1);
  });

  it("waits as long as the server asks for", async () => {
    const delay = 300;
    const error = failure(status.UNAVAILABLE, "DATABASE_UNAVAILABLE", { retryDelayMs: delay });
    const times: number[] = [];
    const { answers } = failing([() => (times.push(Date.now()), error)]);
    const { store } = await start(answers);
    await store.addMessage(7, "user", "Hello");
    // Timers may fire a millisecond early; that the delay is not waited for would show as under 100.
    expect(Date.now() - (times[0] ?? 0)).toBeGreaterThanOrEqual(delay - 5);
  });

  it("fails at once when the delay goes beyond the deadline", async () => {
    const error = failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryDelayMs: 3_600_000 });
    const { requests, answers } = failing([error, error]);
    const { store } = await start(answers);
    const thrown = await store.addMessage(7, "user", "Hello").catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(OverloadedError);
    expect(thrown).toMatchObject({
      retryDelayMs: 3_600_000,
      attempts: 1,
      requestId: requests[0]?.requestId,
    });
    expect(requests).toHaveLength(1);
  });

  it("is sent maxAttempts times and no more", async () => {
    const error = bare(status.UNAVAILABLE, "upstream connect error");
    const { requests, answers } = failing([error, error, error, error]);
    const { store } = await start(answers, { maxAttempts: 3 });
    const thrown = await store.addMessage(7, "user", "Hello").catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(UnavailableError);
    expect(thrown).toMatchObject({ attempts: 3, reason: "" });
    expect(requests).toHaveLength(3);
  });

  it("keeps to a request_id of the caller's and refuses an empty one", async () => {
    const { requests, answers } = failing([failure(status.UNAVAILABLE, "SHUTTING_DOWN")]);
    const { store } = await start(answers);
    await store.addMessage(7, "user", "Hello", { requestId: "mine" });
    expect(requests.map((request) => request.requestId)).toEqual(["mine", "mine"]);
    await expect(store.addMessage(7, "user", "Hello", { requestId: "" })).rejects.toMatchObject({
      violations: [{ field: "request_id" }],
    });
  });
});

const HEADERS = { ":status": 200, "content-type": "application/grpc+proto" };

function halfAnAnswer(stream: http2.ServerHttp2Stream): void {
  stream.respond(HEADERS);
  stream.write(Buffer.from([0, 0, 0, 0, 2, 8]), () => stream.session?.destroy());
}

describe("a connection that is lost", () => {
  it("in the middle of a call is made again, and the call repeated", async () => {
    const requests: AddMessageRequest[] = [];
    const { server, store } = await start({
      async addMessage(request) {
        requests.push(request);
        if (requests.length <= 2) {
          // Carried out, but the answer is lost.
          server.cut();
          await new Promise(() => {});
        }
        return { message: stored(1n), stateEtag: "", replayed: true };
      },
    });
    await store.addMessage(7, "user", "Hello", { expectedLastSeq: 0 });
    expect(requests).toHaveLength(3);
    expect(requests[2]).toEqual(requests[0]);
    expect(requests[0]?.expectedLastSeq).toBe(0n);
  });

  it.each<[string, (stream: http2.ServerHttp2Stream) => unknown]>([
    ["the socket breaks", (stream) => stream.session?.destroy()],
    ["the stream is reset without a code", (stream) => stream.close(0)],
    ["the stream is reset by a protocol error", (stream) => stream.close(1)],
    ["the stream is reset by an internal error", (stream) => stream.close(2)],
    ["the stream is refused", (stream) => stream.close(7)],
    ["the stream is cancelled", (stream) => stream.close(8)],
    ["the session is shut down by an error", (stream) => stream.session?.destroy(new Error(), 2)],
    ["the answer has no status", (stream) => (stream.respond(HEADERS), stream.end())],
    ["the answer is half a message", halfAnAnswer],
    ["a proxy answers 503", (stream) => stream.respond({ ":status": 503 }, { endStream: true })],
  ])("is made again and the call repeated, whatever of its end is seen: %s", async (_, end) => {
    let calls = 0;
    const server = http2.createServer();
    server.on("session", (session) => session.on("error", () => {}));
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      if (++calls <= 2) return end(stream);
      stream.respond(HEADERS, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      // A DeleteSessionResponse that says deleted.
      return stream.end(Buffer.from([0, 0, 0, 0, 2, 8, 1]));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const store = new AgentStoreClient(`agentstore://127.0.0.1:${port}`);
    closers.push(
      () => store.close(),
      () => server.close(),
    );
    expect(await store.deleteSession(7)).toBe(true);
    expect(calls).toBe(3);
  });

  it("to a server that is not there is given up soon, and says what to do", async () => {
    const { server, store } = await start({});
    await server.stop();
    const thrown = (await store.getSession(1).catch((e: unknown) => e)) as UnavailableError;
    expect(thrown).toBeInstanceOf(UnavailableError);
    expect(thrown.attempts).toBe(4);
    expect(thrown.message).toContain(`127.0.0.1:${server.port}`);
    expect(thrown.message).toContain("ECONNREFUSED");
    expect(thrown.message).toContain("agentstore serve");
  });

  it.each([
    ["has answered", () => ({ stats: SessionStats.fromPartial({}) })],
    [
      "has said why it did not",
      () => {
        throw failure(status.NOT_FOUND, "SESSION_NOT_FOUND");
      },
    ],
  ])("to a server that %s before is tried until the deadline", async (_, getSessionStats) => {
    const random = vi.spyOn(Math, "random").mockReturnValue(0.5);
    closers.push(() => random.mockRestore());
    const { server, store } = await start({ getSessionStats });
    await store.getSessionStats(1).catch(() => {});
    await server.stop();
    const thrown = await store.getSession(1, { timeoutMs: 2_000 }).catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(UnavailableError);
    expect((thrown as UnavailableError).attempts).toBeGreaterThan(4);
  });
});

describe("a deadline", () => {
  it("holds for the whole call, its retries included", async () => {
    const error = failure(status.UNAVAILABLE, "SHUTTING_DOWN");
    let calls = 0;
    const { store } = await start({
      getSession() {
        calls++;
        throw error;
      },
    });
    // With a deadline for each attempt this would never end.
    const thrown = await store.getSession(1, { timeoutMs: 400 }).catch((e: unknown) => e);
    // It may come while the server is asked or while the next attempt is waited for.
    expect(["UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain((thrown as AgentStoreError).code);
    expect(calls).toBeGreaterThan(1);
  });

  it("that passes without an answer is a DeadlineExceededError", async () => {
    const { server, store } = await start({ getSession: () => new Promise(() => {}) });
    const thrown = (await store.getSession(1, { timeoutMs: 50 }).catch((e: unknown) => e)) as Error;
    expect(thrown).toBeInstanceOf(DeadlineExceededError);
    expect(thrown.message).toContain(`127.0.0.1:${server.port}`);
    await expect(store.getSession(1, { timeoutMs: 0 })).rejects.toBeInstanceOf(TypeError);
  });
});

describe("a call is cancelled", () => {
  it("by its signal while the server works, and the server hears of it", async () => {
    const called = gate();
    const heard = gate();
    const { store } = await start({
      getSession(_, call) {
        call.on("cancelled", heard.open);
        called.open();
        return new Promise(() => {});
      },
    });
    const controller = new AbortController();
    const reading = store.getSession(1, { signal: controller.signal });
    await called.opened;
    controller.abort("enough");
    const thrown = (await reading.catch((e: unknown) => e)) as CancelledError;
    expect(thrown).toBeInstanceOf(CancelledError);
    expect(thrown).toMatchObject({ name: "AbortError", code: "CANCELLED", cause: "enough" });
    await heard.opened;
  });

  it("by its signal while it waits for its next attempt", async () => {
    const called = gate();
    const { requests, answers } = failing([
      () => {
        called.open();
        return failure(status.UNAVAILABLE, "DATABASE_UNAVAILABLE", { retryDelayMs: 20_000 });
      },
    ]);
    const { store } = await start(answers);
    const controller = new AbortController();
    const writing = store.addMessage(1, "user", "Hello", { signal: controller.signal });
    await called.opened;
    controller.abort();
    await expect(writing).rejects.toBeInstanceOf(CancelledError);
    expect(requests).toHaveLength(1);
  });

  it("by a signal that bounds many at once, without a warning", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on("warning", onWarning);
    closers.push(() => process.off("warning", onWarning));
    const { store } = await start({ getSession: () => new Promise(() => {}) });
    const controller = new AbortController();
    const { signal } = controller;
    const calls = Array.from({ length: 20 }, () => store.getSession(1, { signal }));
    const settled = Promise.allSettled(calls);
    await store.waitForReady();
    controller.abort();
    for (const { status: end } of await settled) expect(end).toBe("rejected");
    expect(warnings).toEqual([]);
  });

  it("by a signal that has aborted before, without being sent", async () => {
    let calls = 0;
    const { store } = await start({
      getSession: () => {
        calls++;
        throw failure(status.NOT_FOUND, "SESSION_NOT_FOUND");
      },
    });
    const signal = AbortSignal.abort();
    await expect(store.getSession(1, { signal })).rejects.toBeInstanceOf(CancelledError);
    await expect(store.getSession(1)).rejects.toMatchObject({ reason: "SESSION_NOT_FOUND" });
    expect(calls).toBe(1);
  });

  it("when the client is closed, as is every later one", async () => {
    const called = gate();
    const { store } = await start({
      getSession() {
        called.open();
        return new Promise(() => {});
      },
    });
    const reading = store.getSession(1);
    await called.opened;
    await store[Symbol.asyncDispose]();
    await expect(reading).rejects.toBeInstanceOf(CancelledError);
    await expect(store.getSession(1)).rejects.toBeInstanceOf(CancelledError);
  });
});

describe("waitForReady", () => {
  it("resolves when the server is there and fails when it is not", async () => {
    const { server, store } = await start({});
    await store.waitForReady();
    const other = new AgentStoreClient(server.url);
    closers.push(() => other.close());
    await server.stop();
    await expect(other.waitForReady({ timeoutMs: 50 })).rejects.toBeInstanceOf(UnavailableError);
    for (const signal of [AbortSignal.abort(), AbortSignal.timeout(20)]) {
      await expect(other.waitForReady({ signal })).rejects.toBeInstanceOf(CancelledError);
    }
  });
});
