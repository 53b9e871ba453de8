// ListAuditEvents and VerifyAudit: filters, pages, and bad input of each field.
import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { AuditEvent, ListAuditEventsRequest } from "../../gen/agentstore/v1/audit.js";
import { useAdmin } from "./admin.js";
import { expectFault, failure } from "./faults.js";
import { useStore } from "./store.js";

const store = useStore();
const admin = useAdmin(store);

let conversationId: bigint;
let requestId: string;
let before: Date;
let after: Date;

beforeAll(async () => {
  before = new Date();
  conversationId = await store.newSession();
  requestId = randomUUID();
  const session = { id: conversationId, title: "t" };
  await store.call("updateSession", { session, updateMask: ["title"], requestId });
  for (let n = 0; n < 5; n++) {
    await store.call("updateSession", { session, updateMask: ["title", "tags"] });
  }
  await store.newSession();
  after = new Date(Date.now() + 1);
});

function list(filter: Partial<ListAuditEventsRequest>): Promise<AuditEvent[]> {
  return admin.events(filter);
}

describe("filters", () => {
  test("by session, RPC, request_id and principal, alone and together", async () => {
    const ofSession = await list({ conversationId });
    expect(ofSession.map(({ rpc }) => rpc)).toEqual([
      "CreateSession",
      ...Array.from({ length: 6 }, () => "UpdateSession"),
    ]);
    const updates = await list({ conversationId, rpc: "UpdateSession" });
    expect(updates).toEqual(ofSession.slice(1));
    expect(await list({ requestId })).toEqual([ofSession[1]]);
    expect(await list({ requestId, conversationId, rpc: "UpdateSession" })).toEqual([ofSession[1]]);
    expect(await list({ requestId, rpc: "CreateSession" })).toEqual([]);
    const { principal } = ofSession[0]!;
    expect(await list({ conversationId, principal })).toEqual(ofSession);
    expect(await list({ conversationId, principal: `${principal}.` })).toEqual([]);
    expect(await list({ conversationId: (1n << 62n) + 1n })).toEqual([]);
  });

  test("by time, the start included, the end not", async () => {
    const ofSession = await list({ conversationId });
    expect(await list({ conversationId, startTime: before, endTime: after })).toEqual(ofSession);
    expect(await list({ conversationId, startTime: after })).toEqual([]);
    expect(await list({ conversationId, endTime: ofSession[0]!.time })).toEqual([]);
    const at = ofSession[3]!.time!;
    const from = await list({ conversationId, startTime: at });
    expect(from).toEqual(ofSession.filter(({ time }) => time! >= at));
    const until = await list({ conversationId, endTime: at });
    expect(until).toEqual(ofSession.filter(({ time }) => time! < at));
    const since = await list({ startTime: before });
    expect(since.length).toBeGreaterThanOrEqual(8);
    expect(since.every(({ time }) => time! >= before)).toBe(true);
  });

  test("by position, in both directions", async () => {
    const ofSession = await list({ conversationId });
    const afterPosition = ofSession[2]!.position;
    expect(await list({ conversationId, afterPosition })).toEqual(ofSession.slice(3));
    const newestFirst = await list({ conversationId, newestFirst: true });
    expect(newestFirst).toEqual(ofSession.toReversed());
    const both = await list({ conversationId, newestFirst: true, afterPosition });
    expect(both).toEqual(ofSession.slice(3).toReversed());
  });
});

describe("pages", () => {
  test.each([1, 2, 3, 7, 8])(
    "of %i give every event once, in both directions",
    async (pageSize) => {
      const ofSession = await list({ conversationId });
      expect(await list({ conversationId, pageSize })).toEqual(ofSession);
      const reversed = await list({ conversationId, pageSize, newestFirst: true });
      expect(reversed).toEqual(ofSession.toReversed());
      const afterPosition = ofSession[1]!.position;
      const rest = await list({ conversationId, pageSize, newestFirst: true, afterPosition });
      expect(rest).toEqual(ofSession.slice(2).toReversed());
    },
  );

  test("have tokens that belong to their query", async () => {
    const query = { conversationId, pageSize: 1 };
    const { nextPageToken: pageToken } = await admin.listAuditEvents(query);
    for (const other of [
      { conversationId: 0n },
      { rpc: "UpdateSession" },
      { principal: "p" },
      { requestId: "r" },
      { startTime: before },
      { endTime: after },
      { afterPosition: 1n },
      { newestFirst: true },
      { pageToken: `${pageToken}A` },
    ]) {
      const request = { ...query, pageToken, ...other };
      const fault = await failure(admin.listAuditEvents(request));
      expectFault(fault, { reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] });
    }
  });
});

describe("VerifyAudit", () => {
  test("finds nothing wrong, and goes on from where it ended", async () => {
    // The log of a store that is in use elsewhere may take several calls.
    let from = {};
    let last = await admin.verifyAudit(from);
    for (; last.more; last = await admin.verifyAudit(from)) {
      from = { afterPosition: last.position, afterChain: last.chain };
    }
    const { fault, position, chain } = last;
    expect(fault).toBeUndefined();
    expect(chain).toHaveLength(32);
    await store.newSession();
    const rest = await admin.verifyAudit({ afterPosition: position, afterChain: chain });
    expect(rest.fault).toBeUndefined();
    expect(rest.checked).toBeGreaterThanOrEqual(1n);
    expect(rest.position).toBe(position + rest.checked);
  });
});

describe("refusals", () => {
  test.each([
    [{ pageSize: -1 }, ["page_size"]],
    [{ pageSize: 1_001 }, ["page_size"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ principal: "p".repeat(257) }, ["principal"]],
    [{ principal: "\0" }, ["principal"]],
    [{ rpc: "r".repeat(129) }, ["rpc"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ startTime: new Date(-62_135_596_800_001) }, ["start_time"]],
    [{ endTime: new Date(-62_135_596_800_001) }, ["end_time"]],
    [{ afterPosition: -1n }, ["after_position"]],
  ])("of ListAuditEvents: %o", async (request, fields) => {
    const fault = await failure(admin.listAuditEvents(request));
    expectFault(fault, { reason: "INVALID_FIELD", fields });
  });

  test.each([
    [{ afterPosition: -1n }, ["after_position"]],
    [{ afterPosition: 1n }, ["after_chain"]],
    [{ afterPosition: 1n, afterChain: Buffer.alloc(31) }, ["after_chain"]],
    [{ afterChain: Buffer.alloc(32) }, ["after_chain"]],
  ])("of VerifyAudit: %o", async (request, fields) => {
    const fault = await failure(admin.verifyAudit(request));
    expectFault(fault, { reason: "INVALID_FIELD", fields });
  });
});
