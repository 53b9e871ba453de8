// Snapshots by policy: right after the change that makes one due, once over several servers.
import { afterAll, beforeAll, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import type { SessionSnapshot } from "../../gen/agentstore/v1/snapshots.js";
import { withClient } from "../harness/postgres.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

let first: TestServer;
let second: TestServer;
let one: Stubs;
let two: Stubs;

beforeAll(async () => {
  first = await startServer();
  second = await startServer({ databaseUrl: first.databaseUrl });
  one = new Stubs(first.address);
  two = new Stubs(second.address);
});

afterAll(async () => {
  one?.close();
  two?.close();
  await second?.stop();
  await first?.stop();
});

async function newSession(
  policy?: { everyMessages?: bigint; everyMinutes?: bigint },
  modelId = "model",
): Promise<bigint> {
  const { id } = (await one.call("createSession", { modelId })).session!;
  if (policy) await setPolicy(id, policy);
  return id;
}

async function setPolicy(
  id: bigint,
  policy: { everyMessages?: bigint; everyMinutes?: bigint },
  stubs = one,
): Promise<void> {
  const snapshotPolicy = { everyMessages: 0n, everyMinutes: 0n, ...policy };
  const session = { id, snapshotPolicy } as never;
  await stubs.call("updateSession", { session, updateMask: ["snapshot_policy"] });
}

async function append(conversationId: bigint, count: number, stubs = one): Promise<void> {
  for (let index = 0; index < count; index++) {
    const message = newMessage({ content: "hello", role: Role.USER });
    await stubs.call("addMessage", { conversationId, message });
  }
}

async function snapshots(conversationId: bigint): Promise<SessionSnapshot[]> {
  return (await one.call("listSnapshots", { conversationId })).snapshots;
}

/** Waits until the snapshots of a session have these last_seqs, newest first. */
async function expectSnapshots(conversationId: bigint, lastSeqs: bigint[]): Promise<void> {
  await expect
    .poll(async () => (await snapshots(conversationId)).map(({ lastSeq }) => lastSeq))
    .toEqual(lastSeqs);
}

/** Waits until what the server does behind the calls has looked at a later change. */
async function settled(): Promise<void> {
  const id = await newSession({ everyMessages: 1n });
  await append(id, 1);
  await expectSnapshots(id, [1n]);
}

async function execute(sql: string, values: unknown[]): Promise<void> {
  await withClient(first.databaseUrl, (client) => client.query(sql, values));
}

test("one is taken for every so many messages, by system and without a name", async () => {
  const id = await newSession({ everyMessages: 3n });
  await append(id, 2);
  await settled();
  await expectSnapshots(id, []);
  await append(id, 1);
  await expectSnapshots(id, [3n]);
  await append(id, 3);
  await expectSnapshots(id, [6n, 3n]);
  const [newest] = await snapshots(id);
  const { session } = await one.call("getSession", { conversationId: id });
  expect(newest).toMatchObject({
    byPolicy: true,
    name: "",
    createdBy: "system",
    revision: session!.revision,
    messageCount: 6n,
  });
});

test("one that is taken by hand counts for the policy too", async () => {
  const id = await newSession({ everyMessages: 3n });
  await append(id, 2);
  await one.call("createSnapshot", { conversationId: id });
  await append(id, 2);
  await settled();
  await expectSnapshots(id, [2n]);
  await append(id, 1);
  await expectSnapshots(id, [5n, 2n]);
});

test("one is taken for every so many minutes in which the session changes", async () => {
  const id = await newSession({ everyMinutes: 30n });
  await append(id, 1);
  await settled();
  await expectSnapshots(id, []);
  await execute("UPDATE conversations SET created_at = now() - interval '31 min' WHERE id = $1", [
    id,
  ]);
  // Any change will do, not only an append.
  const message = { conversationId: id, seq: 1n, content: "edited" } as never;
  await one.call("updateMessage", { message, updateMask: ["content"] });
  await expectSnapshots(id, [1n]);
  await append(id, 1);
  await settled();
  await expectSnapshots(id, [1n]);
  await execute("UPDATE conversations SET snapshot_at = now() - interval '31 min' WHERE id = $1", [
    id,
  ]);
  await one.call("updateState", { conversationId: id, state: "1" });
  await expectSnapshots(id, [2n, 1n]);
});

test("a policy of the model holds for sessions without one of their own", async () => {
  await execute(
    `INSERT INTO model_policies (tenant_id, model_id, every_messages, updated_at)
     VALUES ('default', 'with-policy', 2, now()), ('other', 'without', 1, now())`,
    [],
  );
  // This server knows that there are policies; which ones, it reads at each change.
  await settled();
  const plain = await newSession(undefined, "with-policy");
  const off = await newSession({}, "with-policy");
  const own = await newSession({ everyMessages: 3n }, "with-policy");
  const other = await newSession(undefined, "without");
  for (const id of [plain, off, own, other]) await append(id, 3);
  await expectSnapshots(own, [3n]);
  await settled();
  expect((await snapshots(plain)).length).toBe(1);
  await expectSnapshots(off, []);
  await expectSnapshots(other, []);
});

test("a policy that is set makes what is there due at once; one that is cleared ends it", async () => {
  const id = await newSession();
  await append(id, 5);
  await setPolicy(id, { everyMessages: 5n });
  await expectSnapshots(id, [5n]);
  const session = { id } as never;
  const { session: cleared } = await one.call("updateSession", {
    session,
    updateMask: ["snapshot_policy"],
  });
  expect(cleared!.snapshotPolicy).toBeUndefined();
  await append(id, 5);
  await settled();
  await expectSnapshots(id, [5n]);
});

test("two servers under load take each one once", async () => {
  const id = await newSession({ everyMessages: 10n });
  await setPolicy(id, { everyMessages: 10n }, two);
  await Promise.all([append(id, 60, one), append(id, 60, two)]);
  // What was due at the end has been taken when no more are.
  await expect.poll(async () => (await snapshots(id))[0]?.lastSeq ?? 0n).toBeGreaterThan(110n);
  const lastSeqs = (await snapshots(id)).map(({ lastSeq }) => Number(lastSeq)).reverse();
  expect(lastSeqs[0]).toBeGreaterThanOrEqual(10);
  for (const [index, lastSeq] of lastSeqs.slice(1).entries()) {
    expect(lastSeq - lastSeqs[index]!).toBeGreaterThanOrEqual(10);
  }
});

test("beyond 100, the oldest that a policy took makes room, and those by hand stay", async () => {
  const id = await newSession();
  const { snapshot: byHand } = await one.call("createSnapshot", { conversationId: id });
  await execute(
    `INSERT INTO session_snapshots
       (conversation_id, name, by_policy, revision, last_seq, message_count, created_by, created_at)
     SELECT $1, '', true, 1, 0, 0, 'system', now() FROM generate_series(1, 99)`,
    [id],
  );
  const before = (await snapshots(id)).map((snapshot) => snapshot.id).reverse();
  expect(before).toHaveLength(100);
  await setPolicy(id, { everyMessages: 1n });
  await append(id, 1);
  await expect.poll(async () => (await snapshots(id))[0]!.lastSeq).toBe(1n);
  const after = (await snapshots(id)).map((snapshot) => snapshot.id).reverse();
  expect(after).toHaveLength(100);
  expect(after.slice(0, 99)).toEqual(before.filter((_, index) => index !== 1));
  expect(after[0]).toBe(byHand!.id);
});

test("where 100 were taken by hand, a policy takes none, and does not try at every change", async () => {
  const id = await newSession();
  await execute(
    `INSERT INTO session_snapshots
       (conversation_id, name, by_policy, revision, last_seq, message_count, created_by, created_at)
     SELECT $1, '', false, 1, 0, 0, 'me', now() FROM generate_series(1, 100)`,
    [id],
  );
  await setPolicy(id, { everyMessages: 2n });
  await append(id, 2);
  await expect
    .poll(async () => {
      return await withClient(first.databaseUrl, async (client) => {
        const sql = "SELECT snapshot_seq::int AS seq FROM conversations WHERE id = $1";
        return (await client.query<{ seq: number }>(sql, [id])).rows;
      });
    })
    .toEqual([{ seq: 2 }]);
  expect((await snapshots(id)).every(({ byPolicy }) => !byPolicy)).toBe(true);
});
