// Leases over two servers on one database: one holder at a time, and nothing from who was before.
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentStoreError } from "../../client/errors.js";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { Database } from "../../server/db/database.js";
import type { Append } from "../../server/messages/append.js";
import { appendGroup } from "../../server/messages/append-group.js";
import { SessionHeads } from "../../server/messages/session-heads.js";
import * as sql from "../../server/messages/sql.js";
import { assertCountersAgree } from "../harness/counters.js";
import { withClient } from "../harness/postgres.js";
import { holdSession, untilBlocked } from "../harness/postgres-watch.js";
import { type ServerPair, startServerPair } from "../harness/server-pair.js";
import { failureOf, newMessage } from "../harness/stubs.js";

let pair: ServerPair;
let conversationId: bigint;

beforeEach(async () => {
  pair = await startServerPair();
  conversationId = await pair.createSession();
});

afterEach(() => pair.stop());

/** Lets the time pass until the session's lease has expired. */
async function expire(id = conversationId): Promise<void> {
  await withClient(pair.databaseUrl, (client) =>
    client.query(
      "UPDATE conversations SET lease_expires_at = now() - interval '1 ms' WHERE id = $1",
      [id],
    ),
  );
}

async function contents(): Promise<string[]> {
  const { messages } = await pair.one.call("getMessages", { conversationId, pageSize: 1_000 });
  return messages.map(({ content }) => content);
}

const reasonOf = (call: Promise<unknown>) =>
  call.then(
    () => "ok",
    (error: AgentStoreError) => error.reason,
  );

test("of 20 holders that ask two servers at once, one wins; again when its lease expires", async () => {
  for (let token = 1n; token <= 5n; token++) {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) =>
        pair.both[n % 2]!.call("acquireLease", { conversationId, holder: `worker ${n}` }),
      ),
    );
    const won = outcomes.flatMap((one) => (one.status === "fulfilled" ? [one.value.lease!] : []));
    expect(won.map(({ fencingToken }) => fencingToken)).toEqual([token]);
    for (const one of outcomes) {
      if (one.status === "fulfilled") continue;
      const { reason, metadata } = one.reason as AgentStoreError;
      expect({ reason, holder: metadata["holder"] }).toEqual({
        reason: "LEASE_HELD",
        holder: won[0]!.holder,
      });
    }
    await expire();
  }
});

test("an expired lease can be renewed until someone else has taken it", async () => {
  await pair.one.call("acquireLease", { conversationId, holder: "old" });
  await expire();
  // Nobody has taken it: its holder's appends are in order still.
  const append = { conversationId, message: newMessage(), fencingToken: 1n };
  await pair.one.call("addMessage", append);
  const { lease } = await pair.two.call("renewLease", { conversationId, fencingToken: 1n });
  expect(lease).toMatchObject({ holder: "old", fencingToken: 1n });
  const held = await failureOf(pair.two.call("acquireLease", { conversationId, holder: "new" }));
  expect(held.reason).toBe("LEASE_HELD");

  await expire();
  const taken = await pair.two.call("acquireLease", { conversationId, holder: "new" });
  expect(taken.lease).toMatchObject({ holder: "new", fencingToken: 2n });
  for (const call of [
    () => pair.one.call("renewLease", { conversationId, fencingToken: 1n }),
    () => pair.one.call("addMessage", append),
    () => pair.one.call("repairSession", { conversationId, fencingToken: 1n }),
  ]) {
    expect(await failureOf(call())).toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "LEASE_LOST",
      metadata: { fencing_token: "1", current_fencing_token: "2" },
    });
  }
  expect(await pair.one.call("releaseLease", { conversationId, fencingToken: 1n })).toEqual({
    released: false,
  });
});

test("an append that is refused in a group leaves its neighbours alone", async () => {
  await pair.one.call("acquireLease", { conversationId, holder: "old" });
  await pair.one.call("addMessage", {
    conversationId,
    message: newMessage({ content: "before" }),
    fencingToken: 1n,
    requestId: "before",
  });
  const { fingerprint } = await withClient(pair.databaseUrl, async (client) => {
    const { rows } = await client.query("SELECT fingerprint FROM conversation_requests");
    return rows[0] as { fingerprint: Buffer };
  });
  await expire();
  await pair.two.call("acquireLease", { conversationId, holder: "new" });
  const other = await pair.createSession();
  const write = (content: string, fields: Partial<Append> = {}): Append => ({
    conversationId,
    tenant: "default",
    by: "test",
    requestId: "",
    fingerprint: Buffer.alloc(0),
    fencingToken: 0n,
    messages: [newMessage({ content })],
    ...fields,
  });
  const db = new Database(pair.databaseUrl, { poolSize: 1 });
  try {
    const group = [
      write("without a token"),
      write("lost", { fencingToken: 1n }),
      write("current", { fencingToken: 2n }),
      write("lost again", { fencingToken: 1n }),
      write("never given", { fencingToken: 3n }),
      write("before", { fencingToken: 1n, requestId: "before", fingerprint }),
      write("another session", { conversationId: other }),
      write("a token of another session", { conversationId: other, fencingToken: 2n }),
    ];
    const signal = new AbortController().signal;
    const heads = new SessionHeads();
    const { outcomes } = await appendGroup(db, heads, group, sql.lockSessions, signal);
    expect(outcomes.map((one) => (one.kind === "refused" ? one.error.reason : one.kind))).toEqual([
      "appended",
      "LEASE_LOST",
      "appended",
      "LEASE_LOST",
      "LEASE_LOST",
      "replayed",
      "appended",
      "LEASE_LOST",
    ]);
  } finally {
    await db.close();
  }
  expect(await contents()).toEqual(["before", "without a token", "current"]);
  await assertCountersAgree(pair.databaseUrl);
});

test("what a former holder still sends never comes between the messages of the new one", async () => {
  await pair.one.call("acquireLease", { conversationId, holder: "old" });
  const send = (who: number, content: string, fencingToken: bigint) =>
    reasonOf(
      pair.both[who]!.call("addMessage", {
        conversationId,
        message: newMessage({ content, role: Role.ASSISTANT }),
        fencingToken,
      }),
    );
  // The old holder's appends are on their way when its lease is taken.
  const hold = await holdSession(pair.databaseUrl, conversationId);
  const first = Array.from({ length: 10 }, () => send(0, "old", 1n));
  await untilBlocked(pair.databaseUrl);
  await hold.release();
  await expire();
  const late = Array.from({ length: 10 }, () => send(0, "old", 1n));
  const taking = pair.two.call("acquireLease", { conversationId, holder: "new" });
  const later = Array.from({ length: 10 }, () => send(0, "old", 1n));
  await taking;
  const fresh = await Promise.all(
    Array.from({ length: 10 }, (_, n) => [send(1, "new", 2n), send(n % 2, "old", 1n)]).flat(),
  );
  const outcomes = await Promise.all([...first, ...late, ...later]);
  expect(new Set(outcomes)).toContain("ok");
  expect(fresh).toEqual(Array.from({ length: 10 }, () => ["ok", "LEASE_LOST"]).flat());
  const said = await contents();
  const begin = said.indexOf("new");
  expect(said.slice(begin)).toEqual(Array.from({ length: 10 }, () => "new"));
  expect(said.slice(0, begin)).toEqual(
    outcomes.filter((outcome) => outcome === "ok").map(() => "old"),
  );
});

test("an acquisition that waits for the session's lock counts its time from then on", async () => {
  const hold = await holdSession(pair.databaseUrl, conversationId);
  const acquiring = pair.one.call("acquireLease", { conversationId, holder: "w", ttlMs: 1_000n });
  await untilBlocked(pair.databaseUrl);
  const { rows } = await withClient(pair.databaseUrl, (client) =>
    client.query("SELECT clock_timestamp() AS now"),
  );
  await hold.release();
  const { lease } = await acquiring;
  const released = (rows[0] as { now: Date }).now.getTime();
  expect(lease!.expiresAt!.getTime()).toBeGreaterThanOrEqual(released + 1_000);
});

type Step =
  | { do: "acquire"; server: number; holder: number; request: number }
  | { do: "renew" | "release" | "append" | "repair"; server: number; token: number }
  | { do: "expire" };

const server = fc.nat(1);
// A token by how far it lies behind the last one; -1 was never given.
const token = fc.integer({ min: -1, max: 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("acquire" as const),
      server,
      holder: fc.nat(2),
      request: fc.nat(3),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom(
        "renew" as const,
        "release" as const,
        "append" as const,
        "repair" as const,
      ),
      server,
      token,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("expire" as const) }) },
);

test("any history of leases goes as a small model says", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const id = await pair.createSession();
      // The model: the last token given, whether it still counts, and whether its time is over.
      let last = 0n;
      let current = 0n;
      let expired = true;
      let holder = "";
      let lastSeq = 0n;
      const answered = new Map<string, { fencingToken: bigint; holder: string }>();
      for (const one of steps) {
        if (one.do === "expire") {
          await expire(id);
          expired = true;
          continue;
        }
        const stubs = pair.both[one.server]!;
        if (one.do === "acquire") {
          const requestId = one.request === 0 ? "" : `request ${one.request} ${one.holder}`;
          const name = `worker ${one.holder}`;
          const request = { conversationId: id, holder: name, requestId };
          const kept = answered.get(requestId);
          if (kept) {
            const { lease, replayed } = await stubs.call("acquireLease", request);
            expect([lease, replayed]).toEqual([expect.objectContaining(kept), true]);
          } else if (current > 0n && !expired) {
            const { reason, metadata } = await failureOf(stubs.call("acquireLease", request));
            expect([reason, metadata["holder"]]).toEqual(["LEASE_HELD", holder]);
          } else {
            const { lease } = await stubs.call("acquireLease", request);
            expect(lease).toMatchObject({ holder: name, fencingToken: last + 1n });
            last = current = last + 1n;
            expired = false;
            holder = name;
            if (requestId !== "") answered.set(requestId, { fencingToken: last, holder });
          }
          continue;
        }
        const fencingToken = last - BigInt(one.token);
        if (fencingToken <= 0n) continue;
        const isCurrent = fencingToken === current;
        const expected = isCurrent ? "ok" : "LEASE_LOST";
        const fenced = { conversationId: id, fencingToken };
        if (one.do === "renew") {
          expect(await reasonOf(stubs.call("renewLease", fenced))).toBe(expected);
          if (isCurrent) expired = false;
        } else if (one.do === "release") {
          expect(await stubs.call("releaseLease", fenced)).toEqual({ released: isCurrent });
          if (isCurrent) current = 0n;
        } else if (one.do === "append") {
          const append = stubs.call("addMessage", { ...fenced, message: newMessage() });
          expect(await reasonOf(append)).toBe(expected);
          if (isCurrent) lastSeq++;
        } else {
          expect(await reasonOf(stubs.call("repairSession", fenced))).toBe(expected);
        }
      }
      const { session } = await pair.one.call("getSession", { conversationId: id });
      expect([session!.lastSeq, session!.revision]).toEqual([lastSeq, lastSeq + 1n]);
    }),
    { numRuns: 60 },
  );
  await assertCountersAgree(pair.databaseUrl);
});
