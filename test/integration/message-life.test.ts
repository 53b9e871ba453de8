// The life of messages over two servers at once: histories, counters, the audit log, what is left.
import { randomInt } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentStoreError } from "../../client/errors.js";
import { AgentMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { RestoreMode } from "../../gen/agentstore/v1/snapshots.js";
import { Database, statement } from "../../server/db/database.js";
import { assertCountersAgree } from "../harness/counters.js";
import { withClient } from "../harness/postgres.js";
import { type ServerPair, startServerPair } from "../harness/server-pair.js";
import { failureOf, newMessage, type Stubs } from "../harness/stubs.js";

let pair: ServerPair;

beforeEach(async () => {
  pair = await startServerPair();
});

afterEach(() => pair.stop());

async function rows<Row>(sql: string, values: unknown[] = []): Promise<Row[]> {
  return await withClient(pair.databaseUrl, async (client) => {
    return (await client.query(sql, values)).rows as Row[];
  });
}

async function append(conversationId: bigint, ...contents: string[]): Promise<void> {
  const messages = contents.map((content) => newMessage({ content, role: Role.USER }));
  await pair.one.call("addMessages", { conversationId, messages });
}

function edited(conversationId: bigint, seq: bigint, content: string): AgentMessage {
  return AgentMessage.fromPartial({ conversationId, seq, content } as never);
}

test("counters and histories agree after editors of all kinds have raced", async () => {
  const sessions = await Promise.all(Array.from({ length: 3 }, () => pair.createSession()));
  for (const id of sessions) await append(id, ..."abcdefgh".split(""));
  const refusals = new Set<string>();
  const editor = async (stub: Stubs) => {
    for (let round = 0; round < 20; round++) {
      const conversationId = sessions[randomInt(sessions.length)]!;
      await change(stub, conversationId).catch((error: AgentStoreError) =>
        refusals.add(error.reason),
      );
    }
  };
  await Promise.all(Array.from({ length: 12 }, (_, n) => editor(pair.both[n % 2]!)));
  expect(await assertCountersAgree(pair.databaseUrl)).toBeGreaterThanOrEqual(3);
  const possible = new Set(["MESSAGE_DELETED", "MESSAGE_NOT_DELETED", "VERSION_NOT_FOUND"]);
  expect([...refusals].filter((reason) => !possible.has(reason))).toEqual([]);
}, 60_000);

async function change(stub: Stubs, conversationId: bigint): Promise<void> {
  const seq = BigInt(randomInt(1, 9));
  const key = { conversationId, seq };
  switch (randomInt(9)) {
    case 0:
    case 1: {
      const message = edited(conversationId, seq, "x".repeat(randomInt(300)));
      message.timestampMs = BigInt(randomInt(1_000_000));
      message.role = [Role.USER, Role.SYSTEM][randomInt(2)]!;
      const updateMask = ["content", "timestamp_ms", "role", "usage"];
      await stub.call("updateMessage", { message, updateMask });
      return;
    }
    case 2:
    case 3:
      await stub.call("deleteMessage", key);
      return;
    case 4:
      await stub.call("undeleteMessage", key);
      return;
    case 5:
      await stub.call("revertMessage", { ...key, version: BigInt(randomInt(1, 4)) });
      return;
    case 6:
      await stub.call("addMessage", { conversationId, message: newMessage({ content: "more" }) });
      return;
    case 7:
      await stub.call("forkSession", { conversationId });
      return;
    default: {
      const { snapshot } = await stub.call("createSnapshot", { conversationId });
      await change(stub, conversationId).catch(() => {});
      const snapshotId = snapshot!.id;
      const mode = RestoreMode.ROLL_BACK;
      await stub.call("restoreSnapshot", { conversationId, snapshotId, mode });
    }
  }
}

test("each change leaves one audit event, a replay and a refusal none", async () => {
  const id = await pair.createSession();
  await append(id, "a", "b");
  const key = { conversationId: id, seq: 1n };
  const message = edited(id, 1n, "changed");
  const requestId = "once";
  for (const stub of pair.both) {
    await stub.call("updateMessage", { message, updateMask: ["content", "name"], requestId });
  }
  await pair.one.call("deleteMessage", key);
  await failureOf(pair.one.call("deleteMessage", key));
  await pair.one.call("undeleteMessage", key);
  await pair.one.call("revertMessage", { ...key, version: 1n });
  const { session: fork } = await pair.one.call("forkSession", { conversationId: id, atSeq: 1n });
  const { snapshot } = await pair.one.call("createSnapshot", { conversationId: id });
  const snapshotId = snapshot!.id;
  const restore = { conversationId: id, snapshotId, mode: RestoreMode.ROLL_BACK };
  await pair.one.call("restoreSnapshot", restore);
  await pair.one.call("deleteSnapshot", { conversationId: id, snapshotId });
  await pair.one.call("deleteSnapshot", { conversationId: id, snapshotId });
  const found = await rows(
    `SELECT rpc, conversation_id::text AS id, seq::text, fields, request_id FROM audit_inbox
      WHERE rpc NOT IN ('CreateSession', 'AddMessages')
      UNION ALL
     SELECT rpc, conversation_id::text, seq::text, fields, request_id FROM audit_events
      WHERE rpc NOT IN ('CreateSession', 'AddMessages')`,
  );
  const event = (rpc: string, seq: string | null, more = {}) => {
    return { rpc, id: String(id), seq, fields: [], request_id: "", ...more };
  };
  expect(found).toHaveLength(8);
  expect(found).toEqual(
    expect.arrayContaining([
      event("UpdateMessage", "1", { fields: ["content", "name"], request_id: requestId }),
      event("DeleteMessage", "1"),
      event("UndeleteMessage", "1"),
      event("RevertMessage", "1"),
      event("ForkSession", "1", { id: String(fork!.id) }),
      event("CreateSnapshot", null),
      event("RestoreSnapshot", null),
      event("DeleteSnapshot", null),
    ]),
  );
});

test("a deleted session leaves no version and no snapshot behind; its forks keep theirs", async () => {
  const id = await pair.createSession();
  await append(id, "a");
  await pair.one.call("updateMessage", {
    message: edited(id, 1n, "b"),
    updateMask: ["content"],
    requestId: "edit",
  });
  await pair.one.call("createSnapshot", { conversationId: id });
  const { session: fork } = await pair.one.call("forkSession", { conversationId: id });
  await pair.one.call("updateMessage", {
    message: edited(fork!.id, 1n, "c"),
    updateMask: ["content"],
  });
  await pair.one.call("deleteSession", { conversationId: id });
  for (const table of [
    "conversation_messages",
    "message_versions",
    "session_snapshots",
    "conversation_requests",
  ]) {
    expect(await rows(`SELECT FROM ${table} WHERE conversation_id = $1`, [id]), table).toEqual([]);
  }
  const { versions } = await pair.one.call("listMessageVersions", {
    conversationId: fork!.id,
    seq: 1n,
  });
  expect(versions.map(({ message }) => message!.content)).toEqual(["c", "b"]);
  expect(await assertCountersAgree(pair.databaseUrl)).toBe(1);
});

test("a fork of a session that is being deleted is refused, and leaves nothing", async () => {
  const id = await pair.createSession();
  await append(id, ..."abcdef".split(""));
  const outcomes = await Promise.allSettled([
    ...Array.from({ length: 6 }, (_, n) =>
      pair.both[n % 2]!.call("forkSession", { conversationId: id, requestId: `fork ${n}` }),
    ),
    pair.one.call("deleteSession", { conversationId: id }),
  ]);
  const forks = outcomes.filter(({ status }) => status === "fulfilled").length - 1;
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") {
      expect((outcome.reason as AgentStoreError).reason).toBe("SESSION_NOT_FOUND");
    }
  }
  expect(await assertCountersAgree(pair.databaseUrl)).toBe(forks);
  expect(await rows("SELECT FROM conversation_requests WHERE conversation_id = $1", [id])).toEqual(
    [],
  );
});

test("a message of an older table can be edited, whatever its role and time", async () => {
  const id = await pair.createSession();
  await rows(`ALTER TABLE conversation_messages DROP CONSTRAINT conversation_messages_role`);
  await rows(
    `INSERT INTO conversation_messages (conversation_id, seq, role, content, revision, metadata)
     VALUES ($1, 1, 'developer', 'old', 2, '{"big": 12345678901234567890123}')`,
    [id],
  );
  await rows(
    `UPDATE conversations SET last_seq = 1, revision = 2, message_count = 1, total_characters = 3,
            first_message = 'old'
      WHERE id = $1`,
    [id],
  );
  const { message } = await pair.one.call("updateMessage", {
    message: edited(id, 1n, "new"),
    updateMask: ["content"],
  });
  expect(message).toMatchObject({ content: "new", role: Role.UNSPECIFIED, timestampMs: 0n });
  // What the mask does not name is not even read and written back.
  expect(
    await rows(
      `SELECT role, ts_ms, metadata::text, version::int FROM conversation_messages
        WHERE conversation_id = $1`,
      [id],
    ),
  ).toEqual([
    { role: "developer", ts_ms: null, metadata: '{"big": 12345678901234567890123}', version: 2 },
  ]);
  const { versions } = await pair.one.call("listMessageVersions", { conversationId: id, seq: 1n });
  expect(versions[1]).toMatchObject({ changedBy: "", message: { content: "old" } });
  expect(versions[1]!.changedAt).toBeUndefined();
  expect(await assertCountersAgree(pair.databaseUrl)).toBe(1);
});

test("of statements that travel together, the one that failed says why", async () => {
  const database = new Database(pair.databaseUrl, { poolSize: 1 });
  try {
    const fails = statement<object>("fails", "SELECT 1 / 0");
    const works = statement<object>("works", "SELECT 1");
    const { signal } = new AbortController();
    const failure = database.transaction(async (queries) => {
      const nested = async () => {
        await queries.query(fails, []);
      };
      const deeper = async () => {
        await nested();
      };
      await Promise.all([deeper(), queries.query(works, [])]);
    }, signal);
    await expect(failure).rejects.toThrow("division by zero");
  } finally {
    await database.close();
  }
});
