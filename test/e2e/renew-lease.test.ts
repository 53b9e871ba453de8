// RenewLease: more time for the holder, and for nobody else.
import { expect, test } from "vitest";
import { useStore } from "./store.js";

const store = useStore();

test("lasts from now on, longer or shorter than before", async () => {
  const conversationId = await store.newSession();
  const { lease: first } = await store.call("acquireLease", { conversationId, holder: "w" });
  const renew = async (ttlMs: bigint) => {
    const { lease } = await store.call("renewLease", { conversationId, fencingToken: 1n, ttlMs });
    expect({ ...lease, expiresAt: first!.expiresAt }).toEqual(first);
    return lease!.expiresAt!.getTime() - first!.expiresAt!.getTime();
  };
  expect(await renew(3_600_000n)).toBeGreaterThan(3_500_000);
  expect(Math.abs(await renew(0n))).toBeLessThan(20_000);
  expect(await renew(1_000n)).toBeLessThan(0);
});

test("changes nothing of the session", async () => {
  const conversationId = await store.newConversation(1);
  await store.call("acquireLease", { conversationId, holder: "w" });
  const before = await store.call("getSession", { conversationId });
  await store.call("renewLease", { conversationId, fencingToken: 1n });
  expect(await store.call("getSession", { conversationId })).toEqual(before);
});

test("is refused when the lease was released or belongs to someone else", async () => {
  const conversationId = await store.newSession();
  const lost = (fencingToken: bigint, current: bigint) =>
    store.refuses(
      "renewLease",
      { conversationId, fencingToken },
      {
        reason: "LEASE_LOST",
        metadata: {
          conversation_id: String(conversationId),
          fencing_token: String(fencingToken),
          current_fencing_token: String(current),
        },
      },
    );
  await lost(1n, 0n);
  await store.call("acquireLease", { conversationId, holder: "first" });
  await lost(2n, 1n);
  await store.call("releaseLease", { conversationId, fencingToken: 1n });
  await lost(1n, 0n);
  await store.call("acquireLease", { conversationId, holder: "second" });
  await lost(1n, 2n);
  const { lease } = await store.call("renewLease", { conversationId, fencingToken: 2n });
  expect(lease!.holder).toBe("second");
});

test.each([
  [{ conversationId: 0n }, ["conversation_id"]],
  [{ conversationId: -1n }, ["conversation_id"]],
  [{ fencingToken: 0n }, ["fencing_token"]],
  [{ fencingToken: -1n }, ["fencing_token"]],
  [{ ttlMs: -1n }, ["ttl_ms"]],
  [{ ttlMs: 999n }, ["ttl_ms"]],
  [{ ttlMs: 3_600_001n }, ["ttl_ms"]],
])("refuses %o", async (change, fields) => {
  const conversationId = await store.newSession();
  await store.call("acquireLease", { conversationId, holder: "w" });
  const request = { conversationId, fencingToken: 1n, ...change };
  await store.refuses("renewLease", request, { reason: "INVALID_FIELD", fields });
});

test("a session that is not there", async () => {
  const id = (1n << 63n) - 1n;
  await store.refuses(
    "renewLease",
    { conversationId: id, fencingToken: 1n },
    { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(id) } },
  );
});
