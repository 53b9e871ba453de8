// A state that comes with an append shares its fate, whatever becomes of the others in its group.
import { afterAll, beforeAll, expect, test } from "vitest";
import { Database } from "../../server/db/database.js";
import type { Append } from "../../server/messages/append.js";
import { appendGroup } from "../../server/messages/append-group.js";
import { SessionHeads } from "../../server/messages/session-heads.js";
import { awaitSession, lockSessions } from "../../server/messages/sql.js";
import { withClient } from "../harness/postgres.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

let server: TestServer;
let stubs: Stubs;
let db: Database;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
  db = new Database(server.databaseUrl, { poolSize: 2 });
});

afterAll(async () => {
  stubs.close();
  await db.close();
  await server.stop();
});

async function newSession(): Promise<bigint> {
  return (await stubs.call("createSession", { modelId: "gpt-4" })).session!.id;
}

function appendOf(conversationId: bigint, fields: Partial<Append>): Append {
  return {
    conversationId,
    tenant: "default",
    by: "test",
    requestId: "",
    fingerprint: Buffer.alloc(0),
    fencingToken: 0n,
    messages: [newMessage({ content: "m" })],
    ...fields,
  };
}

const heads = new SessionHeads();
const group = async (appends: Append[]) => {
  const signal = AbortSignal.timeout(30_000);
  return (await appendGroup(db, heads, appends, lockSessions, signal)).outcomes;
};
const stateOf = async (conversationId: bigint) =>
  (await stubs.call("getState", { conversationId })).state!;
const lastSeqOf = async (conversationId: bigint) =>
  (await stubs.call("getSession", { conversationId })).session!.lastSeq;

test("a refused neighbour takes neither messages nor state with it", async () => {
  const [taken, refused, plain] = [await newSession(), await newSession(), await newSession()];
  const outcomes = await group([
    appendOf(refused, { state: { state: '"no"', expectedEtag: "not this one" } }),
    appendOf(taken, { state: { state: '"yes"', expectedEtag: "" } }),
    appendOf(plain, {}),
  ]);
  expect(outcomes.map(({ kind }) => kind)).toEqual(["refused", "appended", "appended"]);
  expect(await stateOf(refused)).toMatchObject({ state: "", etag: "" });
  expect(await stateOf(taken)).toMatchObject({ state: '"yes"' });
  expect(await Promise.all([refused, taken, plain].map(lastSeqOf))).toEqual([0n, 1n, 1n]);
});

test("appends of one session in one group see each other's states", async () => {
  const id = await newSession();
  const outcomes = await group([
    appendOf(id, { state: { state: "1", expectedEtag: "" } }),
    appendOf(id, { state: { state: "2", expectedEtag: "" } }),
    appendOf(id, {}),
    appendOf(id, { state: { state: "3" } }),
  ]);
  expect(outcomes.map(({ kind }) => kind)).toEqual(["appended", "refused", "appended", "appended"]);
  const last = outcomes[3] as { stateEtag: string };
  expect(await stateOf(id)).toMatchObject({ state: "3", etag: last.stateEtag, revision: 4n });
  expect(await lastSeqOf(id)).toBe(3n);
});

test("where the state cannot be written, neither are the messages", async () => {
  const id = await newSession();
  await withClient(server.databaseUrl, (client) =>
    client.query(`ALTER TABLE session_states ADD CONSTRAINT no_more CHECK (state <> '"refused"')`),
  );
  const write = appendOf(id, { state: { state: '"refused"' } });
  await expect(group([write])).rejects.toMatchObject({ reason: "SCHEMA_CONFLICT" });
  const single = appendGroup(db, heads, [write], awaitSession, AbortSignal.timeout(30_000));
  await expect(single).rejects.toMatchObject({ reason: "SCHEMA_CONFLICT" });
  expect(await lastSeqOf(id)).toBe(0n);
  // The queue of the server: the neighbour in the group is written all the same.
  const other = await newSession();
  const [one, two] = await Promise.allSettled([
    stubs.call("addMessage", {
      conversationId: id,
      message: newMessage({ content: "a" }),
      state: { state: '"refused"' },
    }),
    stubs.call("addMessage", {
      conversationId: other,
      message: newMessage({ content: "b" }),
      state: { state: '"fine"' },
    }),
  ]);
  expect([one.status, two.status]).toEqual(["rejected", "fulfilled"]);
  expect([await lastSeqOf(id), await lastSeqOf(other)]).toEqual([0n, 1n]);
  expect(await stateOf(other)).toMatchObject({ state: '"fine"' });
});
