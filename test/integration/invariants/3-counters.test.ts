// Counters ride with the write, and reading them never counts.
import { randomInt, randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentStoreError } from "../../../client/errors.js";
import { Role } from "../../../gen/agentstore/v1/messages.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { withClient } from "../../harness/postgres.js";
import { holdLock, untilBlocked } from "../../harness/postgres-watch.js";
import { type ServerPair, startServerPair } from "../../harness/server-pair.js";
import { failureOf, newMessage, type Stubs } from "../../harness/stubs.js";

let pair: ServerPair;

beforeEach(async () => {
  pair = await startServerPair();
});

afterEach(() => pair.stop());

test("they agree with the messages after writers of all kinds have raced", async () => {
  const sessions = await Promise.all(Array.from({ length: 5 }, () => pair.createSession()));
  const refusals = new Set<string>();
  const writer = async (stub: Stubs) => {
    for (let round = 0; round < 25; round++) {
      const conversationId = sessions[randomInt(sessions.length)]!;
      await write(stub, conversationId).catch((error: AgentStoreError) =>
        refusals.add(error.reason),
      );
    }
  };
  await Promise.all(Array.from({ length: 16 }, (_, n) => writer(pair.both[n % 2]!)));
  // The last session is deleted while others append to it.
  await Promise.all([
    writer(pair.one),
    pair.two.call("deleteSession", { conversationId: sessions[4]! }),
    writer(pair.two),
  ]);

  expect(await assertCountersAgree(pair.databaseUrl)).toBe(4);
  // What raced was refused for these reasons and no other.
  refusals.delete("SESSION_NOT_FOUND");
  expect([...refusals]).toEqual(["LAST_SEQ_MISMATCH"]);
}, 60_000);

async function write(stub: Stubs, conversationId: bigint): Promise<void> {
  const messages = Array.from({ length: randomInt(1, 5) }, () =>
    newMessage({
      role: [Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.TOOL][randomInt(4)]!,
      content: ["", "plain", "\0", "😀é\u{10FFFF}", "x".repeat(randomInt(500))][randomInt(5)]!,
      timestampMs: [undefined, 0n, BigInt(randomInt(1_000_000))][randomInt(3)],
      usage: {
        inputTokens: BigInt(randomInt(100)),
        outputTokens: 1n,
        cachedTokens: 2n,
        reasoningTokens: 3n,
        costMicros: BigInt(randomInt(100)),
      },
    }),
  );
  const request = { conversationId, messages, requestId: randomUUID() };
  switch (randomInt(5)) {
    case 0: {
      // The same request twice at once.
      await Promise.all([stub.call("addMessages", request), stub.call("addMessages", request)]);
      return;
    }
    case 1: {
      const { session } = await stub.call("getSession", { conversationId });
      await stub.call("updateSession", { session, updateMask: ["title", "metadata"] });
      return;
    }
    case 2: {
      await stub.call("addMessages", { ...request, expectedLastSeq: BigInt(randomInt(20)) });
      return;
    }
    case 3: {
      await stub.call("addMessage", { conversationId, message: messages[0]! });
      return;
    }
    default:
      await stub.call("addMessages", request);
  }
}

test("a write that fails in its middle leaves no trace in them", async () => {
  const conversationId = await pair.createSession(3);
  const before = await rowOf(conversationId);
  await withClient(pair.databaseUrl, (client) =>
    client.query("ALTER TABLE conversation_messages ADD CHECK (content <> 'refused')"),
  );
  const messages = ["fine", "refused", "fine"].map((content) => newMessage({ content }));
  const refused = await failureOf(
    pair.one.call("addMessages", { conversationId, messages, requestId: "one" }),
  );
  expect(refused.reason).toBe("SCHEMA_CONFLICT");
  expect(await rowOf(conversationId)).toEqual(before);
  expect(await assertCountersAgree(pair.databaseUrl)).toBe(1);
});

test("sessions, lists and stats answer without looking at a single message", async () => {
  const conversationId = await pair.createSession(3);
  const lock = await holdLock(
    pair.databaseUrl,
    "LOCK TABLE conversation_messages IN ACCESS EXCLUSIVE MODE",
  );
  try {
    const { stats } = await pair.one.call("getSessionStats", { conversationId });
    expect(stats?.totalMessages).toBe(3n);
    const { session } = await pair.one.call("getSession", { conversationId });
    expect(session?.lastSeq).toBe(3n);
    for (const modelId of ["gpt-4", ""]) {
      const { sessions } = await pair.one.call("listSessions", { modelId });
      expect(
        sessions.map(({ messageCount, firstMessage }) => [messageCount, firstMessage]),
      ).toEqual([[3n, "0"]]);
    }
  } finally {
    await lock.release();
  }
});

test("a session's last update never goes back, however long a write has waited", async () => {
  const conversationId = await pair.createSession();
  const { session } = await pair.one.call("getSession", { conversationId });
  const writes = [
    () => pair.one.call("addMessage", { conversationId, message: newMessage() }),
    () => pair.one.call("updateSession", { session, updateMask: ["title"] }),
  ];
  for (const write of writes) {
    // Another writer, on a machine whose clock is ahead, is in the middle of its write.
    const later = await withClient(pair.databaseUrl, async (client) => {
      await client.query("BEGIN");
      const { rows } = await client.query<{ updated_at: Date }>(
        `UPDATE conversations SET updated_at = updated_at + interval '2 seconds'
          WHERE id = $1 RETURNING updated_at`,
        [conversationId],
      );
      const waiting = write();
      await untilBlocked(pair.databaseUrl);
      await client.query("COMMIT");
      await waiting;
      return rows[0]!.updated_at;
    });
    const after = await pair.one.call("getSession", { conversationId });
    expect(after.session!.updatedAt!.getTime()).toBeGreaterThanOrEqual(later.getTime());
  }
});

async function rowOf(id: bigint): Promise<unknown> {
  return await withClient(pair.databaseUrl, async (client) => {
    const { rows } = await client.query<object>("SELECT * FROM conversations WHERE id = $1", [id]);
    return rows;
  });
}
