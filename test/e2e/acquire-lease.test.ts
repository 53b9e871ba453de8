// AcquireLease: one holder at a time, by a token that only rises; and what the token is for.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { userMessage, useStore } from "./store.js";

const store = useStore();

test("gives the lease to the first who asks, and changes nothing of the session", async () => {
  const conversationId = await store.newConversation(2);
  const before = await store.call("getSession", { conversationId });
  const from = Date.now();
  const { lease, replayed } = await store.call("acquireLease", {
    conversationId,
    holder: "worker \u{1F642}",
  });
  expect(replayed).toBe(false);
  expect(lease).toEqual({
    conversationId,
    holder: "worker \u{1F642}",
    fencingToken: 1n,
    expiresAt: expect.any(Date),
  });
  // Half a minute, whatever the two clocks think of each other.
  const ms = lease!.expiresAt!.getTime() - from;
  expect(ms).toBeGreaterThan(10_000);
  expect(ms).toBeLessThan(50_000);
  expect(await store.call("getSession", { conversationId })).toEqual(before);
});

test("lasts as long as was asked for", async () => {
  const ends = await Promise.all(
    [1_000n, 3_600_000n].map(async (ttlMs) => {
      const conversationId = await store.newSession();
      const answer = await store.call("acquireLease", { conversationId, holder: "w", ttlMs });
      return answer.lease!.expiresAt!.getTime();
    }),
  );
  const apart = ends[1]! - ends[0]!;
  expect(apart).toBeGreaterThan(3_500_000);
  expect(apart).toBeLessThan(3_700_000);
});

test.each(["another", "worker"])("is refused while it is held, also to %o", async (holder) => {
  const conversationId = await store.newSession();
  const { lease } = await store.call("acquireLease", { conversationId, holder: "worker" });
  const fault = await store.refuses(
    "acquireLease",
    { conversationId, holder },
    {
      reason: "LEASE_HELD",
      metadata: {
        conversation_id: String(conversationId),
        holder: "worker",
        expires_at: lease!.expiresAt!.toISOString(),
      },
    },
  );
  expect(fault.retryAfterMs).toBeGreaterThan(0);
  expect(fault.retryAfterMs).toBeLessThanOrEqual(30_000);
});

test("tokens rise by one with each acquisition, after releases too", async () => {
  const conversationId = await store.newSession();
  for (let token = 1n; token <= 4n; token++) {
    const { lease } = await store.call("acquireLease", { conversationId, holder: `w${token}` });
    expect(lease!.fencingToken).toBe(token);
    await store.call("releaseLease", { conversationId, fencingToken: token });
  }
});

test("one of many at once gets it", async () => {
  const conversationId = await store.newSession();
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, (_, n) =>
      store.call("acquireLease", { conversationId, holder: `w${n}` }),
    ),
  );
  const held = outcomes.filter(({ status }) => status === "fulfilled");
  expect(held).toHaveLength(1);
});

describe("request_id", () => {
  test("replays the first answer, also when the lease is long gone", async () => {
    const conversationId = await store.newSession();
    const request = { conversationId, holder: "w", ttlMs: 5_000n, requestId: randomUUID() };
    const first = await store.call("acquireLease", request);
    expect(await store.call("acquireLease", request)).toEqual({ ...first, replayed: true });
    await store.call("releaseLease", { conversationId, fencingToken: 1n });
    await store.call("acquireLease", { conversationId, holder: "other" });
    expect(await store.call("acquireLease", request)).toEqual({ ...first, replayed: true });
  });

  test("of many identical requests at once acquires once", async () => {
    const conversationId = await store.newSession();
    const request = { conversationId, holder: "w", requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => store.call("acquireLease", request)),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(new Set(answers.map(({ lease }) => lease!.fencingToken))).toEqual(new Set([1n]));
  });

  test.each([{ holder: "other" }, { ttlMs: 2_000n }])(
    "refuses another body: %o",
    async (change) => {
      const conversationId = await store.newSession();
      const request = { conversationId, holder: "w", requestId: randomUUID() };
      await store.call("acquireLease", request);
      await store.refuses(
        "acquireLease",
        { ...request, ...change },
        { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
      );
    },
  );

  test("is not kept for a lease that was refused", async () => {
    const conversationId = await store.newSession();
    await store.call("acquireLease", { conversationId, holder: "first" });
    const request = { conversationId, holder: "second", requestId: randomUUID() };
    await store.refuses("acquireLease", request, { reason: "LEASE_HELD" });
    await store.call("releaseLease", { conversationId, fencingToken: 1n });
    const { lease, replayed } = await store.call("acquireLease", request);
    expect([lease!.fencingToken, replayed]).toEqual([2n, false]);
  });
});

describe("an append that carries the token", () => {
  const appends = {
    addMessage: { message: userMessage("fenced") },
    addMessages: { messages: [userMessage("fenced"), userMessage("fenced too")] },
  };
  const names = Object.keys(appends) as (keyof typeof appends)[];

  test.each(names)("goes in while the lease is held: %s", async (name) => {
    const conversationId = await store.newSession();
    await store.call("acquireLease", { conversationId, holder: "w" });
    const request = { conversationId, ...appends[name], fencingToken: 1n };
    expect((await store.call(name, request)).replayed).toBe(false);
  });

  test.each(names)("is refused once someone else has acquired the lease: %s", async (name) => {
    const conversationId = await store.newSession();
    await store.call("acquireLease", { conversationId, holder: "old" });
    await store.call("releaseLease", { conversationId, fencingToken: 1n });
    const request = { conversationId, ...appends[name], fencingToken: 1n };
    const metadata = { conversation_id: String(conversationId), fencing_token: "1" };
    await store.refuses(name, request, {
      reason: "LEASE_LOST",
      metadata: { ...metadata, current_fencing_token: "0" },
    });
    await store.call("acquireLease", { conversationId, holder: "new" });
    await store.refuses(name, request, {
      reason: "LEASE_LOST",
      metadata: { ...metadata, current_fencing_token: "2" },
    });
    const { session } = await store.call("getSession", { conversationId });
    expect([session!.lastSeq, session!.revision]).toEqual([0n, 1n]);
  });

  test.each(names)("is refused with a token that was never given: %s", async (name) => {
    const conversationId = await store.newSession();
    for (const fencingToken of [1n, (1n << 63n) - 1n]) {
      const request = { conversationId, ...appends[name], fencingToken };
      await store.refuses(name, request, { reason: "LEASE_LOST" });
    }
  });

  test.each(names)("is not needed to append: %s", async (name) => {
    const conversationId = await store.newSession();
    await store.call("acquireLease", { conversationId, holder: "w" });
    await store.call(name, { conversationId, ...appends[name] });
  });

  test.each(names)("must not be negative: %s", async (name) => {
    const conversationId = await store.newSession();
    await store.refuses(
      name,
      { conversationId, ...appends[name], fencingToken: -1n },
      { reason: "INVALID_FIELD", fields: ["fencing_token"] },
    );
  });

  test.each(names)("replays what it did before, whatever the token: %s", async (name) => {
    const conversationId = await store.newSession();
    await store.call("acquireLease", { conversationId, holder: "old" });
    const request = {
      conversationId,
      ...appends[name],
      fencingToken: 1n,
      requestId: randomUUID(),
    };
    const first = await store.call(name, request);
    await store.call("releaseLease", { conversationId, fencingToken: 1n });
    await store.call("acquireLease", { conversationId, holder: "new" });
    for (const fencingToken of [1n, 2n, 0n]) {
      const again = await store.call(name, { ...request, fencingToken });
      expect(again).toEqual({ ...first, replayed: true });
    }
  });

  test("hears of a lost lease before it hears of a wrong last_seq", async () => {
    const conversationId = await store.newSession();
    const request = { conversationId, ...appends.addMessage, expectedLastSeq: 7n };
    await store.refuses("addMessage", { ...request, fencingToken: 1n }, { reason: "LEASE_LOST" });
    await store.call("acquireLease", { conversationId, holder: "w" });
    await store.refuses(
      "addMessage",
      { ...request, fencingToken: 1n },
      { reason: "LAST_SEQ_MISMATCH" },
    );
  });
});

describe("refusals", () => {
  test.each([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ holder: "" }, ["holder"]],
    [{ holder: "h".repeat(257) }, ["holder"]],
    [{ holder: "\u{1F642}".repeat(257) }, ["holder"]],
    [{ holder: "a\0b" }, ["holder"]],
    [{ ttlMs: -1n }, ["ttl_ms"]],
    [{ ttlMs: 1n }, ["ttl_ms"]],
    [{ ttlMs: 999n }, ["ttl_ms"]],
    [{ ttlMs: 3_600_001n }, ["ttl_ms"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ requestId: "\0" }, ["request_id"]],
    [{ holder: "", ttlMs: 1n }, ["holder", "ttl_ms"]],
  ])("%# %o", async (change, fields) => {
    const conversationId = await store.newSession();
    const request = { conversationId, holder: "w", ...change };
    await store.refuses("acquireLease", request, { reason: "INVALID_FIELD", fields });
    const { lease } = await store.call("acquireLease", {
      conversationId,
      holder: "\u{1F642}".repeat(256),
    });
    expect(lease!.fencingToken).toBe(1n);
  });

  test("a session that is not there", async () => {
    const id = (1n << 63n) - 1n;
    for (const requestId of ["", randomUUID()]) {
      await store.refuses(
        "acquireLease",
        { conversationId: id, holder: "w", requestId },
        { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(id) } },
      );
    }
  });
});
