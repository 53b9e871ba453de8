// Order is seq: without gaps, in the order of commits, and no lock spans sessions.
import { afterEach, beforeEach, expect, test } from "vitest";
import { assertCountersAgree } from "../../harness/counters.js";
import { holdLock, holdSession, untilBlocked } from "../../harness/postgres-watch.js";
import { type ServerPair, startServerPair } from "../../harness/server-pair.js";
import { newMessage, type Stubs } from "../../harness/stubs.js";

let pair: ServerPair;

beforeEach(async () => {
  pair = await startServerPair();
});

afterEach(() => pair.stop());

test("32 appenders through two servers: no gap, and no reader ever sees one", async () => {
  const conversationId = await pair.createSession();
  let appending = true;
  const read = async (stub: Stubs) => {
    const seen: bigint[] = [];
    for (let done = false; !done; ) {
      done = !appending;
      const afterSeq = seen.at(-1) ?? 0n;
      const { messages } = await stub.call("getMessages", { conversationId, afterSeq });
      seen.push(...messages.map(({ seq }) => seq));
      if (messages.length === 100) done = false;
    }
    return seen;
  };
  const readers = pair.both.map(read);
  const appends = Array.from({ length: 32 }, async (_, appender) => {
    const stub = pair.both[appender % 2]!;
    const seqs: bigint[][] = [];
    for (let round = 0; round < 8; round++) {
      const texts = Array.from({ length: (round % 3) + 1 }, (_, n) => `${appender}.${round}.${n}`);
      const { messages } = await stub.call("addMessages", {
        conversationId,
        messages: texts.map((content) => newMessage({ content })),
      });
      seqs.push(messages.map(({ seq }) => seq));
    }
    return seqs;
  });
  const given = (await Promise.all(appends)).flat();
  appending = false;

  const all = given.flat().sort((a, b) => Number(a - b));
  expect(all).toEqual(all.map((_, index) => BigInt(index + 1)));
  // A batch is one run of seqs, and an appender's own appends follow each other.
  for (const batch of given) expect(batch).toEqual(batch.map((_, n) => batch[0]! + BigInt(n)));
  for (const seen of await Promise.all(readers)) expect(seen).toEqual(all);
  expect(await assertCountersAgree(pair.databaseUrl)).toBe(1);
}, 60_000);

test("an append waits for the one before it, and appends to other sessions do not", async () => {
  const [first, other] = [await pair.createSession(), await pair.createSession()];
  // Someone else is writing the same request_id: the append has its seq, and cannot commit yet.
  const lock = await holdLock(
    pair.databaseUrl,
    `INSERT INTO conversation_requests
       (conversation_id, request_id, tenant_id, fingerprint, created_at)
     VALUES ($1, 'stuck', 'default', '', now())`,
    [first],
  );
  try {
    let settled = 0;
    const append = async (stub: Stubs, requestId: string) => {
      const { message } = await stub.call("addMessage", {
        conversationId: first,
        message: newMessage({ content: requestId }),
        requestId,
      });
      settled++;
      return message!.seq;
    };
    const stuck = append(pair.one, "stuck");
    await untilBlocked(pair.databaseUrl, 1);
    const next = append(pair.two, "next");
    await untilBlocked(pair.databaseUrl, 2);
    const elsewhere = await pair.one.call("addMessage", {
      conversationId: other,
      message: newMessage({ content: "not held up" }),
    });
    expect(elsewhere.message?.seq).toBe(1n);
    const { messages } = await pair.two.call("getMessages", { conversationId: first });
    expect({ messages, settled }).toEqual({ messages: [], settled: 0 });

    await lock.release();
    expect(await Promise.all([stuck, next])).toEqual([1n, 2n]);
  } finally {
    await lock.release();
  }
});

test("a session whose row is locked can be read, and holds no other session up", async () => {
  const [held, free] = [await pair.createSession(), await pair.createSession()];
  await pair.one.call("addMessage", { conversationId: held, message: newMessage() });
  const lock = await holdSession(pair.databaseUrl, held);
  try {
    const waiting = pair.one.call("addMessage", { conversationId: held, message: newMessage() });
    await untilBlocked(pair.databaseUrl);
    for (const stub of pair.both) {
      for (let round = 0; round < 5; round++) {
        await stub.call("addMessage", { conversationId: free, message: newMessage() });
      }
      const page = await stub.call("getMessages", { conversationId: held });
      expect(page.messages).toHaveLength(1);
      await stub.call("updateSession", {
        session: { ...(await stub.call("getSession", { conversationId: free })).session! },
        updateMask: ["title"],
      });
    }
    await lock.release();
    expect((await waiting).message?.seq).toBe(2n);
  } finally {
    await lock.release();
  }
});

test("times have no say in the order", async () => {
  const conversationId = await pair.createSession();
  const times = [5_000n, 1_000n, 1_000n, -7n, 9_000n];
  for (const timestampMs of times) {
    await pair.one.call("addMessage", { conversationId, message: newMessage({ timestampMs }) });
  }
  const { messages } = await pair.two.call("getMessages", { conversationId });
  expect(messages.map(({ timestampMs }) => timestampMs)).toEqual(times);
});

test("a deleted session's id is never given again", async () => {
  const id = await pair.createSession();
  await pair.one.call("deleteSession", { conversationId: id });
  const next = await pair.createSession();
  expect(next > id).toBe(true);
});
