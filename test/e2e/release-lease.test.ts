// ReleaseLease: a lease given back, once.
import { expect, test } from "vitest";
import { useStore } from "./store.js";

const store = useStore();

test("says whether there was a lease to give back, and changes nothing of the session", async () => {
  const conversationId = await store.newConversation(1);
  const before = await store.call("getSession", { conversationId });
  const release = async (fencingToken: bigint) =>
    (await store.call("releaseLease", { conversationId, fencingToken })).released;
  expect(await release(1n)).toBe(false);
  await store.call("acquireLease", { conversationId, holder: "first" });
  expect(await release(2n)).toBe(false);
  expect(await release(1n)).toBe(true);
  expect(await release(1n)).toBe(false);
  expect(await store.call("getSession", { conversationId })).toEqual(before);
});

test("does not take the lease from who has it now", async () => {
  const conversationId = await store.newSession();
  await store.call("acquireLease", { conversationId, holder: "first" });
  await store.call("releaseLease", { conversationId, fencingToken: 1n });
  await store.call("acquireLease", { conversationId, holder: "second" });
  const request = { conversationId, fencingToken: 1n };
  expect(await store.call("releaseLease", request)).toEqual({ released: false });
  const fault = { reason: "LEASE_HELD" };
  await store.refuses("acquireLease", { conversationId, holder: "third" }, fault);
});

test.each([
  [{ conversationId: 0n }, ["conversation_id"]],
  [{ conversationId: -1n }, ["conversation_id"]],
  [{ fencingToken: 0n }, ["fencing_token"]],
  [{ fencingToken: -1n }, ["fencing_token"]],
])("refuses %o", async (change, fields) => {
  const conversationId = await store.newSession();
  const request = { conversationId, fencingToken: 1n, ...change };
  await store.refuses("releaseLease", request, { reason: "INVALID_FIELD", fields });
});

test("a session that is not there", async () => {
  const id = (1n << 63n) - 1n;
  await store.refuses(
    "releaseLease",
    { conversationId: id, fencingToken: 1n },
    { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(id) } },
  );
});
