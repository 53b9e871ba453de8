// Much at once: every call gets an answer, and the server goes on.
import { describe, expect, test } from "vitest";
import { type Fault, failure } from "./faults.js";
import { userMessage, useStore } from "./store.js";

const store = useStore();

const MIB = 1024 * 1024;

/** Waits for calls: how many went well, and the faults of the others. */
async function settle(calls: Promise<unknown>[]): Promise<{ ok: number; faults: Fault[] }> {
  const faults: Fault[] = [];
  let ok = 0;
  for (const outcome of await Promise.allSettled(calls)) {
    if (outcome.status === "fulfilled") ok++;
    else faults.push(await failure(Promise.reject(outcome.reason as Error)));
  }
  return { ok, faults };
}

/** A server that has too much to do says so, and when to come again. */
function expectOverloaded(faults: Fault[]): void {
  for (const { code, reason, retryAfterMs } of faults) {
    expect({ code, reason }).toEqual({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
    expect(retryAfterMs).toBeGreaterThan(0);
  }
}

test("a thousand appends at once on one connection", async () => {
  const conversationId = await store.newSession();
  const { ok, faults } = await settle(
    Array.from({ length: 1_000 }, (_, index) =>
      store.call("addMessage", { conversationId, message: userMessage(String(index)) }),
    ),
  );
  expectOverloaded(faults);
  const { session } = await store.call("getSession", { conversationId });
  expect(session!.lastSeq).toBe(BigInt(ok));
  expect(ok).toBeGreaterThan(0);
  const { messages } = await store.call("getMessages", { conversationId, pageSize: 1_000 });
  expect(messages.map(({ seq }) => seq)).toEqual(messages.map((_, index) => BigInt(index + 1)));
  expect(new Set(messages.map(({ content }) => content)).size).toBe(ok);
});

test("a thousand calls of all kinds at once, half of them bad", async () => {
  const conversationId = await store.newConversation(50);
  const kinds = [
    () => store.call("getSession", { conversationId }),
    () => store.call("getMessages", { conversationId, pageSize: 10 }),
    () => store.pages({ conversationId, pageSize: 7 }),
    () => store.call("getSessionStats", { conversationId }),
    () => store.call("getSession", { conversationId: 0n }),
    () => store.call("getMessages", { conversationId, pageToken: "x" }),
    () => store.pages({ conversationId: (1n << 63n) - 1n }),
    () => store.call("getMessage", { conversationId, seq: 51n }),
  ];
  const { ok, faults } = await settle(
    Array.from({ length: 1_000 }, (_, index) => kinds[index % kinds.length]!()),
  );
  const expected = [
    "INVALID_FIELD",
    "INVALID_PAGE_TOKEN",
    "SESSION_NOT_FOUND",
    "MESSAGE_NOT_FOUND",
  ];
  const others = faults.filter(({ reason }) => !expected.includes(reason!));
  expectOverloaded(others);
  for (const reason of expected) {
    expect(faults.filter((fault) => fault.reason === reason).length).toBeLessThanOrEqual(125);
  }
  expect(ok + others.length).toBeGreaterThanOrEqual(500);
  await store.answers();
});

describe("a request beyond what the transport takes", () => {
  test("of 70 MiB is RESOURCE_EXHAUSTED, and nothing is written", async () => {
    const conversationId = await store.newSession();
    const messages = Array.from({ length: 18 }, () => userMessage("x".repeat(4 * MIB - 100)));
    const fault = await failure(store.call("addMessages", { conversationId, messages }));
    expect(fault.code).toBe("RESOURCE_EXHAUSTED");
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.lastSeq).toBe(0n);
  });

  test("on another RPC too", async () => {
    const title = "x".repeat(70 * MIB);
    const fault = await failure(store.call("createSession", { modelId: "m", title }));
    expect(fault.code).toBe("RESOURCE_EXHAUSTED");
    await store.answers();
  });
});
