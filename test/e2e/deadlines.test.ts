// Deadlines and cancels: the call ends, and a write is made once or not at all.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { bytes, frame, int, message } from "../harness/wire.js";
import { failure, unpack } from "./faults.js";
import { userMessage, useStore } from "./store.js";

const store = useStore();

describe.each(["0n", "1n", "0S", "999999u"])("a deadline that has passed: %s", (timeout) => {
  // The last one is a second less a microsecond, as a check that the others fail for their time.
  const passed = timeout !== "999999u";

  test.each([
    ["GetSession", (id: bigint) => int(1, id)],
    ["StreamMessages", (id: bigint) => int(1, id)],
    ["AddMessage", (id: bigint) => message(int(1, id), bytes(2, int(1, 2)))],
    ["DeleteSession", (id: bigint) => int(1, id)],
  ])("%s", async (rpc, request) => {
    const conversationId = await store.newSession();
    const raw = await store.raw();
    const answer = await raw.send(
      `/agentstore.v1.AgentStore/${rpc}`,
      frame(request(conversationId)),
      { "grpc-timeout": timeout },
    );
    const fault = unpack(answer.code, answer.text, answer.details);
    if (!passed) {
      expect(fault.code).toBe("OK");
      return;
    }
    expect(fault.code).toBe("DEADLINE_EXCEEDED");
    // The transport may notice first; it has no reasons.
    expect([undefined, "DEADLINE_EXCEEDED"]).toContain(fault.reason);
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.lastSeq).toBe(0n);
  });
});

test("a client's deadline that has passed ends the call", async () => {
  const conversationId = await store.newSession();
  const extras = { deadline: new Date(Date.now() - 1_000) };
  const late = [
    store.call("getSession", { conversationId }, extras),
    store.call("addMessage", { conversationId, message: userMessage("x") }, extras),
    store.pages({ conversationId }, extras),
  ];
  const faults = await Promise.all(late.map((call) => failure(call)));
  for (const { code } of faults) expect(code).toBe("DEADLINE_EXCEEDED");
  const { session } = await store.call("getSession", { conversationId });
  expect(session!.lastSeq).toBe(0n);
});

test("a write whose deadline passes at any time is made once, when it is repeated", async () => {
  const conversationId = await store.newSession();
  const attempts = Array.from({ length: 40 }, (_, index) => ({
    request: { conversationId, message: userMessage(String(index)), requestId: randomUUID() },
    deadline: index % 20,
  }));
  const outcomes = await Promise.all(
    attempts.map(({ request, deadline }) =>
      store.call("addMessage", request, { deadline }).then(
        () => "OK",
        async (error: unknown) => (await failure(Promise.reject(error as Error))).code,
      ),
    ),
  );
  expect(outcomes.filter((code) => !["OK", "DEADLINE_EXCEEDED"].includes(code))).toEqual([]);
  for (const { request } of attempts) await store.call("addMessage", request);
  const { messages } = await store.call("getMessages", { conversationId });
  expect(messages.map(({ seq }) => seq)).toEqual(attempts.map((_, index) => BigInt(index + 1)));
  const contents = messages.map(({ content }) => Number(content)).sort((a, b) => a - b);
  expect(contents).toEqual(attempts.map((_, index) => index));
});

test("a deadline ends a stream whose reader has stopped", async () => {
  const conversationId = await store.newSession();
  // Pages too large for the buffers between the server and its reader.
  const large = Array.from({ length: 15 }, () => userMessage("x".repeat(1_100_000)));
  await store.call("addMessages", { conversationId, messages: large });
  const raw = await store.raw();
  const answer = await raw.send(
    "/agentstore.v1.AgentStore/StreamMessages",
    (stream) => {
      stream.end(frame(int(1, conversationId)));
      stream.once("data", () => {
        stream.pause();
        // Well past the deadline, of which only the server knows.
        void sleep(1_500).then(() => stream.resume());
      });
    },
    { "grpc-timeout": "500m" },
  );
  expect(unpack(answer.code, answer.text, answer.details).code).toBe("DEADLINE_EXCEEDED");
  expect(answer.messages.length).toBeLessThan(large.length);
  await store.answers();
});

test("a write that is cancelled at any time is made once, when it is repeated", async () => {
  const conversationId = await store.newSession();
  const raw = await store.raw();
  for (let index = 0; index < 20; index++) {
    const requestId = randomUUID();
    const body = message(
      int(1, conversationId),
      bytes(2, int(1, 2), bytes(2, String(index))),
      bytes(3, requestId),
    );
    await raw.send("/agentstore.v1.AgentStore/AddMessage", (stream) => {
      stream.end(frame(body));
      void sleep(index / 4).then(() => stream.close(8));
    });
    const again = { conversationId, message: userMessage(String(index)), requestId };
    await store.call("addMessage", again);
  }
  const { messages } = await store.call("getMessages", { conversationId });
  expect(messages.map(({ content }) => content)).toEqual(
    Array.from({ length: 20 }, (_, index) => String(index)),
  );
});
