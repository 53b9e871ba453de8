// The audit log: what a change leaves, in its transaction; and what becomes of a log that somebody
// has laid hands on.
import { createHash, randomUUID } from "node:crypto";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AuditFaultKind } from "../../gen/agentstore/v1/audit.js";
import { adminCall, allEvents, verifyAll } from "../harness/admin-stubs.js";
import { startServer, type TestServer } from "../harness/server.js";
import { startServerPair } from "../harness/server-pair.js";
import { failureOf, newMessage, Stubs } from "../harness/stubs.js";

describe("what a change leaves", () => {
  let server: TestServer;
  let stubs: Stubs;

  beforeAll(async () => {
    server = await startServer();
    stubs = new Stubs(server.address);
  });

  afterAll(async () => {
    stubs.close();
    await server.stop();
  });

  test("who, from where, what, when and under which request_id, but no value", async () => {
    const before = Date.now();
    const requestId = randomUUID();
    const { session } = await stubs.call("createSession", { modelId: "m", ownerId: "the owner" });
    const conversationId = session!.id;
    await stubs.call("updateSession", {
      session: { ...session!, title: "a secret", tags: ["hidden"] },
      updateMask: ["title", "tags", "title"],
      requestId,
    });
    await stubs.call("deleteSession", { conversationId });
    const events = await allEvents(stubs.channel, { conversationId });
    expect(events).toEqual([
      expect.objectContaining({ rpc: "CreateSession", fields: [], requestId: "" }),
      expect.objectContaining({ rpc: "UpdateSession", fields: ["title", "tags"], requestId }),
      expect.objectContaining({ rpc: "DeleteSession", fields: [] }),
    ]);
    for (const { principal, peer, time, sealedTime } of events) {
      expect(principal).toBe("anonymous");
      expect(peer).toMatch(/^127\.0\.0\.1:\d+$/);
      expect(time!.getTime()).toBeGreaterThanOrEqual(before);
      expect(sealedTime!.getTime()).toBeGreaterThanOrEqual(time!.getTime());
    }
    const text = JSON.stringify(events, (_, value: unknown) =>
      typeof value === "bigint" ? String(value) : value,
    );
    expect(text).not.toMatch(/secret|hidden|the owner/);
  });

  test("nothing for what is refused, replayed, or finds nothing to do", async () => {
    const requestId = randomUUID();
    const create = { modelId: "m", requestId };
    const { session } = await stubs.call("createSession", create);
    const id = session!.id;
    const before = (await allEvents(stubs.channel)).length;
    await stubs.call("createSession", create);
    await failureOf(stubs.call("createSession", { ...create, title: "other" }));
    await failureOf(stubs.call("updateSession", { session: session!, updateMask: ["nonsense"] }));
    await stubs.call("deleteSession", { conversationId: id + 1_000_000n });
    await stubs.call("addMessage", { conversationId: id, message: newMessage() });
    expect(await allEvents(stubs.channel)).toHaveLength(before);
  });

  test("hashes that anyone can compute again from the list", async () => {
    await stubs.call("createSession", { modelId: "漢字 ÷ \u2028" });
    const sha256 = (value: unknown) =>
      createHash("sha256").update(JSON.stringify(value)).digest("hex");
    const us = (time: Date | undefined) => `${time!.getTime()}000`;
    const orNull = (value: bigint) => (value === 0n ? null : String(value));
    let chain = "00".repeat(32);
    for (const event of await allEvents(stubs.channel)) {
      const hash = sha256([
        "default",
        us(event.time),
        event.principal,
        event.peer,
        event.rpc,
        orNull(event.conversationId),
        orNull(event.seq),
        event.fields,
        event.requestId,
      ]);
      expect(event.hash.toString("hex")).toBe(hash);
      chain = sha256([chain, String(event.position), us(event.sealedTime), hash]);
      expect(event.chain.toString("hex")).toBe(chain);
    }
  });
});

describe("a log that was tampered with", () => {
  let server: TestServer;
  let stubs: Stubs;
  let database: pg.Client;

  beforeEach(async () => {
    server = await startServer();
    stubs = new Stubs(server.address);
    database = new pg.Client({ connectionString: server.databaseUrl });
    await database.connect();
    for (let n = 0; n < 10; n++) await stubs.call("createSession", { modelId: `m${n}` });
    const { checked, position, fault } = await verifyAll(stubs.channel);
    expect({ checked, position, fault }).toEqual({ checked: 10n, position: 10n, fault: undefined });
  });

  afterEach(async () => {
    await database.end();
    stubs.close();
    await server.stop();
  });

  test.each([
    "at = at + interval '1 microsecond'",
    "principal = 'nobody'",
    "peer = ''",
    "rpc = 'DeleteSession'",
    "conversation_id = conversation_id + 1",
    "conversation_id = NULL",
    "seq = 1",
    "fields = '{title}'",
    "request_id = 'r'",
    "hash = sha256('other')",
  ])("by SET %s is CHANGED there", async (change) => {
    await database.query(`UPDATE audit_events SET ${change} WHERE position = 5`);
    const { checked, position, fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position: 5n, kind: AuditFaultKind.CHANGED });
    expect(fault!.description).toContain("position 5");
    expect({ checked, position }).toEqual({ checked: 4n, position: 4n });
  });

  test.each([
    ["sealed_at = sealed_at - interval '1 hour'", 5n],
    ["chain = sha256('other')", 5n],
  ])("by SET %s has a CHAIN_BROKEN there", async (change, position) => {
    await database.query(`UPDATE audit_events SET ${change} WHERE position = 5`);
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position, kind: AuditFaultKind.CHAIN_BROKEN });
  });

  test.each([1n, 5n, 10n])("by removing event %i shows it as REMOVED", async (position) => {
    await database.query(`DELETE FROM audit_events WHERE position = $1`, [position]);
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position, kind: AuditFaultKind.REMOVED });
  });

  test("by closing the gap that an event has left has a CHAIN_BROKEN there", async () => {
    await database.query(`DELETE FROM audit_events WHERE position = 5`);
    for (let n = 6; n <= 10; n++) {
      await database.query(`UPDATE audit_events SET position = $1 - 1 WHERE position = $1`, [n]);
    }
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position: 5n, kind: AuditFaultKind.CHAIN_BROKEN });
  });

  test("by putting a well-formed event in between has a CHAIN_BROKEN there", async () => {
    for (let n = 10; n >= 5; n--) {
      await database.query(`UPDATE audit_events SET position = $1 + 1 WHERE position = $1`, [n]);
    }
    await database.query(
      `INSERT INTO audit_events
       SELECT tenant_id, 5, at, principal, peer, rpc, conversation_id, seq, fields, request_id,
              hash, sealed_at, chain
         FROM audit_events WHERE position = 4`,
    );
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position: 5n, kind: AuditFaultKind.CHAIN_BROKEN });
  });

  test("by putting an event at the end has one BEHIND_END", async () => {
    await database.query(
      `INSERT INTO audit_events
       SELECT tenant_id, 11, at, principal, peer, rpc, conversation_id, seq, fields, request_id,
              hash, sealed_at, chain
         FROM audit_events WHERE position = 10`,
    );
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position: 11n, kind: AuditFaultKind.BEHIND_END });
  });

  test("by exchanging two events has a CHAIN_BROKEN at the first", async () => {
    await database.query(`UPDATE audit_events SET position = -1 WHERE position = 4`);
    await database.query(`UPDATE audit_events SET position = 4 WHERE position = 7`);
    await database.query(`UPDATE audit_events SET position = 7 WHERE position = -1`);
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position: 4n, kind: AuditFaultKind.CHAIN_BROKEN });
  });

  test("by putting an event into the inbox that no change has made is CHANGED", async () => {
    await database.query(
      `INSERT INTO audit_inbox (tenant_id, at, principal, peer, rpc, fields, request_id, hash)
       VALUES ('default', now(), 'alice', '', 'DeleteSession', '{}', '', sha256('made up'))`,
    );
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position: 11n, kind: AuditFaultKind.CHANGED });
  });

  test("by writing it anew as a whole is REWRITTEN to who has kept a chain elsewhere", async () => {
    const kept = await verifyAll(stubs.channel);
    // All hashes fit, as they do where the whole log is made anew without its first event.
    await database.query(`DELETE FROM audit_events`);
    await database.query(`DELETE FROM audit_heads`);
    for (let n = 0; n < 12; n++) await stubs.call("createSession", { modelId: "m" });
    expect((await verifyAll(stubs.channel)).fault).toBeUndefined();
    const anchor = { afterPosition: kept.position, afterChain: kept.chain };
    const { fault } = await adminCall(stubs.channel, "verifyAudit", anchor);
    expect(fault).toMatchObject({ position: 10n, kind: AuditFaultKind.REWRITTEN });
  });

  test("by cutting its end off is REMOVED to who has kept a chain elsewhere", async () => {
    const kept = await verifyAll(stubs.channel);
    await database.query(`DELETE FROM audit_events WHERE position > 7`);
    await database.query(
      `UPDATE audit_heads SET position = 7,
              chain = (SELECT chain FROM audit_events WHERE position = 7)`,
    );
    expect((await verifyAll(stubs.channel)).fault).toBeUndefined();
    const anchor = { afterPosition: kept.position, afterChain: kept.chain };
    const { fault } = await adminCall(stubs.channel, "verifyAudit", anchor);
    expect(fault).toMatchObject({ position: 10n, kind: AuditFaultKind.REMOVED });
  });

  test("goes on for changes that come later, and the fault stays", async () => {
    await database.query(`DELETE FROM audit_events WHERE position = 10`);
    await stubs.call("createSession", { modelId: "later" });
    expect((await allEvents(stubs.channel)).at(-1)!.position).toBe(11n);
    const { fault } = await verifyAll(stubs.channel);
    expect(fault).toMatchObject({ position: 10n, kind: AuditFaultKind.REMOVED });
  });
});

describe("writers", () => {
  test("do not wait for each other, and a late commit is sealed later", async () => {
    const server = await startServer();
    const stubs = new Stubs(server.address);
    const late = new pg.Client({ connectionString: server.databaseUrl });
    const sealer = new pg.Client({ connectionString: server.databaseUrl });
    await Promise.all([late.connect(), sealer.connect()]);
    try {
      // A change that is under way, and a sealer that holds its turn.
      await late.query("BEGIN");
      await late.query(
        `INSERT INTO audit_inbox (tenant_id, at, principal, peer, rpc, fields, request_id, hash)
         VALUES ('default', now(), 'late', '', 'Late', '{}', '', sha256(''))`,
      );
      await stubs.call("createSession", { modelId: "m" });
      await allEvents(stubs.channel);
      await sealer.query("BEGIN");
      await sealer.query(`SELECT 1 FROM audit_heads FOR UPDATE`);
      const made = await Promise.all(
        Array.from({ length: 50 }, () => stubs.call("createSession", { modelId: "m" })),
      );
      expect(made).toHaveLength(50);
      await sealer.query("ROLLBACK");
      expect(await allEvents(stubs.channel)).toHaveLength(51);
      await late.query("COMMIT");
      expect((await allEvents(stubs.channel)).at(-1)).toMatchObject({ position: 52n, rpc: "Late" });
    } finally {
      await Promise.all([late.end(), sealer.end()]);
      stubs.close();
      await server.stop();
    }
  });

  test("leave nothing of a change that was not committed", async () => {
    const server = await startServer();
    const stubs = new Stubs(server.address);
    const killed = new pg.Client({ connectionString: server.databaseUrl });
    killed.on("error", () => {});
    await killed.connect();
    try {
      await stubs.call("createSession", { modelId: "m" });
      const { rows } = await killed.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
      await killed.query("BEGIN");
      await killed.query(
        `INSERT INTO audit_inbox (tenant_id, at, principal, peer, rpc, fields, request_id, hash)
         VALUES ('default', now(), 'killed', '', 'Killed', '{}', '', sha256(''))`,
      );
      const other = new pg.Client({ connectionString: server.databaseUrl });
      await other.connect();
      await other.query("SELECT pg_terminate_backend($1, 10000)", [rows[0]!.pid]);
      await other.end();
      const events = await allEvents(stubs.channel);
      expect(events.map(({ rpc }) => rpc)).toEqual(["CreateSession"]);
      expect((await verifyAll(stubs.channel)).fault).toBeUndefined();
    } finally {
      await killed.end().catch(() => {});
      stubs.close();
      await server.stop();
    }
  });

  test("on two servers at once leave one chain without gaps, also while it is read", async () => {
    const pair = await startServerPair();
    try {
      let writing = true;
      const reading = (async () => {
        while (writing) {
          const { fault } = await verifyAll(pair.one.channel);
          expect(fault).toBeUndefined();
        }
      })();
      await Promise.all(
        Array.from({ length: 400 }, (_, n) =>
          pair.both[n % 2]!.call("createSession", { modelId: `m${n % 7}` }),
        ),
      );
      writing = false;
      await reading;
      const events = await allEvents(pair.two.channel);
      expect(events.map(({ position }) => Number(position))).toEqual(
        Array.from({ length: 400 }, (_, index) => index + 1),
      );
      expect(new Set(events.map(({ conversationId }) => conversationId)).size).toBe(400);
      const { checked, fault } = await verifyAll(pair.one.channel);
      expect({ checked, fault }).toEqual({ checked: 400n, fault: undefined });
    } finally {
      await pair.stop();
    }
  });

  test("are sealed in the background, without anyone asking", async () => {
    const server = await startServer();
    const stubs = new Stubs(server.address);
    const database = new pg.Client({ connectionString: server.databaseUrl });
    await database.connect();
    try {
      await stubs.call("createSession", { modelId: "m" });
      const sealed = async () => {
        const { rows } = await database.query("SELECT 1 FROM audit_events");
        return rows.length;
      };
      await expect.poll(sealed, { timeout: 30_000 }).toBe(1);
    } finally {
      await database.end();
      stubs.close();
      await server.stop();
    }
  });
});
