// EraseOwner: afterwards a byte search of the database finds nothing of the person, and all that is
// others' is as it was.
import { execFile } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type AgentMessage, Role } from "../../gen/agentstore/v1/messages.js";
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { adminCall, allEvents, verifyAll } from "../harness/admin-stubs.js";
import { assertChangesTile } from "../harness/changes.js";
import { assertCountersAgree } from "../harness/counters.js";
import { assertLabelsAgree } from "../harness/labels.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { findInDump, rowsOf } from "../harness/remains.js";
import { startServer, type TestServer } from "../harness/server.js";
import { failureOf, newMessage, Stubs } from "../harness/stubs.js";

let database: TestDatabase;
let server: TestServer;
let stubs: Stubs;
/** What every text of the person holds, and no other. */
let secret: string;
let owner: string;

beforeEach(async () => {
  database = await createDatabase();
  server = await startServer({ databaseUrl: database.url });
  stubs = new Stubs(server.address);
  secret = `secret-${randomUUID()}`;
  owner = `${secret}@example.com`;
});

afterEach(async () => {
  await assertLabelsAgree(database.url);
  await assertChangesTile(database.url);
  stubs.close();
  await server.stop();
  await database.drop();
});

const erase = () => adminCall(stubs.channel, "eraseOwner", { ownerId: owner });
const dump = (text = secret) => withClient(database.url, (client) => findInDump(client, text));
const remains = (id: bigint) =>
  withClient(database.url, (client) =>
    rowsOf(client, id, ["audit_inbox", "audit_events", "session_changes"]),
  );

/** A message that says something in every field that can. */
const loud = (word: string) =>
  newMessage({
    role: Role.ASSISTANT,
    content: `${word} says\0 something`,
    name: word,
    toolCalls: [{ id: word, name: word, arguments: JSON.stringify({ word }) }],
    payload: JSON.stringify({ word }),
    payloadType: word,
    metadata: { [word]: word },
    embedding: { model: word, values: [1, 2] },
    usage: {
      inputTokens: 3n,
      outputTokens: 2n,
      cachedTokens: 1n,
      reasoningTokens: 1n,
      costMicros: 9n,
    },
  });

/** A session whose every text holds a word, with versions, snapshots and kept answers. */
async function loudSession(word: string, ownerId: string): Promise<bigint> {
  const { session } = await stubs.call("createSession", {
    modelId: "gpt-4",
    title: word,
    ownerId,
    tags: [word],
    metadata: { [word]: word },
    requestId: randomUUID(),
  });
  const conversationId = session!.id;
  await stubs.call("addMessages", {
    conversationId,
    messages: [loud(word), loud(word), loud(word), newMessage({ content: word })],
    state: { state: JSON.stringify({ word }) },
    requestId: randomUUID(),
  });
  await stubs.call("updateMessage", {
    message: { conversationId, seq: 2n, content: `${word} once more` } as AgentMessage,
    updateMask: ["content"],
    requestId: randomUUID(),
  });
  await stubs.call("deleteMessage", { conversationId, seq: 3n, requestId: randomUUID() });
  await stubs.call("createSnapshot", { conversationId, name: word, requestId: randomUUID() });
  await stubs.call("updateSession", {
    session: { ...session!, title: `${word}!` },
    updateMask: ["title"],
    requestId: randomUUID(),
  });
  return conversationId;
}

/** A fork that belongs to somebody else. */
async function forkOf(conversationId: bigint, ownerId: string, atSeq?: bigint): Promise<bigint> {
  const { session } = await stubs.call("forkSession", {
    conversationId,
    requestId: randomUUID(),
    ...(atSeq !== undefined && { atSeq }),
  });
  await stubs.call("updateSession", {
    session: { ...session!, ownerId },
    updateMask: ["owner_id"],
    requestId: randomUUID(),
  });
  return session!.id;
}

const sessionOf = async (conversationId: bigint) =>
  (await stubs.call("getSession", { conversationId })).session!;

async function messagesOf(conversationId: bigint): Promise<AgentMessage[]> {
  return (await stubs.call("getMessages", { conversationId, showDeleted: true })).messages;
}

test("nothing is left of the person, and the receipt says how much it was", async () => {
  const first = await loudSession(secret, owner);
  const second = await loudSession(secret, owner);
  const other = await loudSession("bystander", "somebody else");
  // Their answers outlive these sessions.
  const deleted = await loudSession(secret, owner);
  await stubs.call("deleteSession", { conversationId: deleted, requestId: randomUUID() });
  const before = await messagesOf(other);
  expect((await dump()).length).toBeGreaterThan(10);

  const receipt = await erase();
  expect(receipt).toEqual({
    sessions: 2n,
    messages: 8n,
    messageVersions: 4n,
    snapshots: 2n,
    states: 2n,
    keptAnswers: expect.any(BigInt),
    forks: 0n,
    emptiedMessages: 0n,
  });
  // Of each of the two: creation, append, edit, deletion, snapshot, update; of the third: creation.
  expect(receipt.keptAnswers).toBe(13n);
  expect(await dump()).toEqual([]);
  for (const id of [first, second]) expect(await remains(id)).toEqual({});
  expect(await messagesOf(other)).toEqual(before);
  await assertCountersAgree(database.url);
  // Again there is nothing to do.
  const again = await erase();
  expect(Object.values(again).every((count) => count === 0n)).toBe(true);
});

test("pg_dump finds nothing either", async ({ skip }) => {
  await loudSession(secret, owner);
  const run = async () => {
    const { stdout } = await promisify(execFile)(
      process.env.PG_DUMP ?? "pg_dump",
      ["--dbname", database.url],
      { maxBuffer: 1 << 28 },
    );
    return stdout;
  };
  const before = await run().catch((error: Error) => {
    skip(`there is no pg_dump of the server's version here: ${error.message.slice(0, 80)}`);
    return "";
  });
  expect(before).toContain(secret);
  await erase();
  const after = await run();
  expect(after).not.toContain(secret);
  expect(after).not.toContain(Buffer.from(secret).toString("hex"));
});

describe("other people's forks", () => {
  test("keep their own part, and of the rest only the places", async () => {
    const source = await loudSession(secret, owner);
    const fork = await forkOf(source, "friend", 3n);
    await stubs.call("addMessage", { conversationId: fork, message: loud("mine") });
    const [, , , mine] = await messagesOf(fork);
    const revision = (await sessionOf(fork)).revision;

    const receipt = await erase();
    expect(receipt).toMatchObject({ sessions: 1n, forks: 1n, emptiedMessages: 3n });
    expect(await dump()).toEqual([]);
    const left = await messagesOf(fork);
    expect(left.map(({ seq }) => seq)).toEqual([1n, 2n, 3n, 4n]);
    expect(left[3]).toEqual(mine);
    for (const message of left.slice(0, 3)) {
      expect(message).toMatchObject({
        content: "",
        name: "",
        toolCalls: [],
        payload: "",
        payloadType: "",
        metadata: undefined,
        usage: undefined,
        timestampMs: 0n,
        deletedAt: expect.any(Date),
      });
    }
    expect((await stubs.call("getMessages", { conversationId: fork })).messages).toEqual([mine]);
    const session = await sessionOf(fork);
    expect(session).toMatchObject({ ownerId: "friend", title: "", tags: [], metadata: undefined });
    expect(session.revision).toBeGreaterThan(revision);
    expect((await stubs.call("getSessionStats", { conversationId: fork })).stats).toMatchObject({
      totalMessages: 1n,
      totalUsage: { inputTokens: 3n },
    });
    await assertCountersAgree(database.url);
    // Nor does anything bring it back.
    await stubs.call("undeleteMessage", { conversationId: fork, seq: 1n });
    expect((await messagesOf(fork))[0]!.content).toBe("");
    await stubs.call("addMessage", {
      conversationId: fork,
      message: newMessage({ content: "on" }),
    });
    expect((await sessionOf(fork)).lastSeq).toBe(5n);
    await assertCountersAgree(database.url);
  });

  test("keep what they have written over: title, metadata, state, and snapshots of it", async () => {
    const source = await loudSession(secret, owner);
    const fork = await forkOf(source, "friend");
    await stubs.call("createSnapshot", { conversationId: fork, name: "with their state" });
    await stubs.call("updateState", { conversationId: fork, state: '"mine"' });
    await stubs.call("createSnapshot", { conversationId: fork, name: "with mine" });
    await stubs.call("updateSession", {
      session: { id: fork, title: "my own", metadata: { my: "own" } } as unknown as AgentSession,
      updateMask: ["title", "metadata"],
      requestId: randomUUID(),
    });
    const receipt = await erase();
    // The source's own and the one with its state.
    expect(receipt).toMatchObject({ snapshots: 2n, states: 1n, emptiedMessages: 4n });
    expect(await dump()).toEqual([]);
    expect(await sessionOf(fork)).toMatchObject({
      title: "my own",
      metadata: { my: "own" },
      tags: [],
    });
    expect((await stubs.call("getState", { conversationId: fork })).state!.state).toBe('"mine"');
    const { snapshots } = await stubs.call("listSnapshots", { conversationId: fork });
    expect(snapshots.map(({ name }) => name)).toEqual(["with mine"]);
    const tags = await stubs.call("listTags", {});
    expect(tags.tags).toEqual([]);
  });

  test("are emptied, too, when the session was deleted long before, and forks of forks", async () => {
    const source = await loudSession(secret, owner);
    const child = await forkOf(source, "child", 2n);
    await stubs.call("addMessage", { conversationId: child, message: loud("child's") });
    const grandchild = await forkOf(child, "grandchild");
    await stubs.call("addMessage", { conversationId: grandchild, message: loud("grandchild's") });
    await stubs.call("deleteSession", { conversationId: source });
    const receipt = await erase();
    expect(receipt).toMatchObject({ sessions: 0n, forks: 2n, emptiedMessages: 4n });
    expect(await dump()).toEqual([]);
    const contents = async (id: bigint) => (await messagesOf(id)).map(({ content }) => content);
    const said = (word: string) => `${word} says\0 something`;
    expect(await contents(child)).toEqual(["", "", said("child's")]);
    expect(await contents(grandchild)).toEqual(["", "", said("child's"), said("grandchild's")]);
    await assertCountersAgree(database.url);
  });

  test("of a fork that is erased keep what it had from others", async () => {
    const source = await loudSession("grandparent", "somebody");
    const middle = await forkOf(source, owner, 2n);
    await stubs.call("addMessage", { conversationId: middle, message: loud(secret) });
    const last = await forkOf(middle, "last");
    const receipt = await erase();
    expect(receipt).toMatchObject({ sessions: 1n, forks: 1n, emptiedMessages: 1n });
    expect(await dump()).toEqual([]);
    const contents = (await messagesOf(last)).map(({ content }) => content);
    expect(contents).toEqual(["grandparent says\0 something", "grandparent once more", ""]);
    expect(await messagesOf(source)).toHaveLength(4);
    await assertCountersAgree(database.url);
  });

  test("of the same owner go with everything else", async () => {
    const source = await loudSession(secret, owner);
    await forkOf(source, owner);
    expect(await erase()).toMatchObject({ sessions: 2n, forks: 0n, emptiedMessages: 0n });
    expect(await dump()).toEqual([]);
  });
});

test("a call that was cut short is repeated, and goes on where it was", async () => {
  const sessions: bigint[] = [];
  for (let count = 0; count < 5; count++) sessions.push(await loudSession(secret, owner));
  const fork = await forkOf(sessions[3]!, "friend");
  // A table of the operator's own holds the third one up.
  await withClient(database.url, async (client) => {
    await client.query("CREATE TABLE mine (session bigint REFERENCES conversations (id))");
    await client.query("INSERT INTO mine VALUES ($1)", [sessions[2]]);
  });
  const failure = await failureOf(erase());
  expect(failure.reason).toBe("SCHEMA_CONFLICT");
  expect(failure.message).not.toContain(secret);
  expect(await remains(sessions[0]!)).toEqual({});
  expect(Object.keys(await remains(sessions[2]!))).toContain("message_versions");
  await withClient(database.url, (client) => client.query("DELETE FROM mine"));
  expect(await erase()).toMatchObject({ sessions: 3n, forks: 1n });
  expect(await dump()).toEqual([]);
  expect((await sessionOf(fork)).lastSeq).toBe(4n);
  await assertCountersAgree(database.url);
});

test("two at once remove nothing twice", async () => {
  for (let count = 0; count < 8; count++) await loudSession(secret, owner);
  const receipts = await Promise.all([erase(), erase(), erase()]);
  const sum = (key: "sessions" | "messages") =>
    receipts.reduce((total, receipt) => total + receipt[key], 0n);
  expect([sum("sessions"), sum("messages")]).toEqual([8n, 32n]);
  expect(await dump()).toEqual([]);
});

test("answers about sessions that were deleted go, too, whenever they became the person's", async () => {
  const { session } = await stubs.call("createSession", {
    modelId: "gpt-4",
    title: secret,
    requestId: randomUUID(),
  });
  await stubs.call("updateSession", {
    session: { ...session!, ownerId: owner },
    updateMask: ["owner_id"],
    requestId: randomUUID(),
  });
  await stubs.call("deleteSession", { conversationId: session!.id, requestId: randomUUID() });
  expect((await dump()).length).toBeGreaterThan(0);
  expect(await erase()).toMatchObject({ sessions: 0n, keptAnswers: 1n });
  expect(await dump()).toEqual([]);
});

test("the audit log tells of it without naming the person", async () => {
  const id = await loudSession(secret, owner);
  await erase();
  const events = await allEvents(stubs.channel, { rpc: "EraseOwner" });
  const hash = createHash("sha256").update(owner).digest("hex");
  expect(events.map(({ conversationId, fields }) => ({ conversationId, fields }))).toEqual([
    { conversationId: id, fields: [] },
    { conversationId: 0n, fields: [`sha256:${hash}`] },
  ]);
  expect((await verifyAll(stubs.channel)).fault).toBeUndefined();
  expect(await dump()).toEqual([]);
});

test.each(["", "\0", "o".repeat(257)])("refuses the owner %j", async (ownerId) => {
  const failure = await failureOf(adminCall(stubs.channel, "eraseOwner", { ownerId }));
  expect(failure).toMatchObject({ reason: "INVALID_FIELD", metadata: { field: "owner_id" } });
});
