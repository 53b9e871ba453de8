// Filters of ListSessions over very many sessions: each has an index behind it, and a late page reads
// no more than the first one. AGENTSTORE_MANY_SESSIONS says how many sessions; 20,000 by default.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SessionFilter, SessionState } from "../../gen/agentstore/v1/sessions.js";
import { Database, statement } from "../../server/db/database.js";
import { sessionPage } from "../../server/sessions/filter.js";
import { listTags } from "../../server/sessions/labels-sql.js";
import { addManySessions, MANY } from "../harness/many-sessions.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";

const SESSIONS = Number(process.env.AGENTSTORE_MANY_SESSIONS ?? 20_000);
const PAGE = 20;
const FIRST: [bigint, bigint] = [2n ** 63n - 1n, 2n ** 63n - 1n];

const minute = (number: number) => new Date(MANY.start.getTime() + number * 60_000);
const half = Math.floor(SESSIONS / 2);

const BY_ACTIVITY = "conversations_by_activity";
/** Filters, and the index that must lead to what they choose. */
const FILTERS: Record<string, [filter: object, index: string]> = {
  "a rare tag": [{ allTags: [MANY.rareTag] }, "session_tags_by_tag"],
  "a common tag": [{ allTags: [MANY.commonTag] }, BY_ACTIVITY],
  "a tag that nobody has": [{ allTags: [MANY.absentTag] }, "session_tags_by_tag"],
  "two common tags": [{ allTags: [MANY.commonTag, MANY.otherCommonTag] }, BY_ACTIVITY],
  "a common tag and a rare one": [
    { allTags: [MANY.commonTag, MANY.rareTag] },
    "session_tags_by_tag",
  ],
  "any of two rare tags": [{ anyTags: [MANY.rareTag, "tag-5"] }, "session_tags_by_tag"],
  "any of two common tags": [{ anyTags: [MANY.commonTag, MANY.otherCommonTag] }, BY_ACTIVITY],
  "a rare owner": [{ ownerId: MANY.rareOwner }, "session_labels_by_owner"],
  "a common owner": [{ ownerId: MANY.commonOwner }, BY_ACTIVITY],
  "rare metadata": [{ metadata: MANY.rareMetadata }, "session_labels_by_metadata"],
  "common metadata": [{ metadata: MANY.commonMetadata }, BY_ACTIVITY],
  expired: [{ state: SessionState.EXPIRED }, "session_labels_by_expiry"],
  active: [{ state: SessionState.ACTIVE }, BY_ACTIVITY],
  "a short time of creation": [
    { created: { start: minute(half), end: minute(half + 60) } },
    "session_labels_by_creation",
  ],
  "a long time of creation": [{ created: { start: minute(half) } }, BY_ACTIVITY],
  "a time of activity": [
    { lastMessage: { start: minute(half), end: minute(half + 500) } },
    BY_ACTIVITY,
  ],
  "common values together": [
    {
      allTags: [MANY.commonTag],
      metadata: MANY.commonMetadata,
      state: SessionState.ACTIVE,
      created: { start: minute(10) },
    },
    BY_ACTIVITY,
  ],
  "common values with a rare owner": [
    { anyTags: [MANY.commonTag], metadata: MANY.commonMetadata, ownerId: MANY.rareOwner },
    "session_labels_by_owner",
  ],
};

interface Node {
  "Node Type": string;
  "Index Name"?: string;
  "Relation Name"?: string;
  "Actual Rows": number;
  "Actual Loops": number;
  "Rows Removed by Filter"?: number;
  "Shared Hit Blocks": number;
  "Shared Read Blocks": number;
  Plans?: Node[];
}

interface Cost {
  indexes: string[];
  sequential: string[];
  /** What the scans looked at. */
  rows: number;
  buffers: number;
}

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await withClient(database.url, (client) => addManySessions(client, SESSIONS));
}, 300_000);

afterAll(() => database.drop());

function pageOf(filter: object, modelId: string, after: [bigint, bigint], count: number) {
  const { statement, values } = sessionPage({
    tenant: "default",
    modelId,
    filter: SessionFilter.fromPartial(filter),
    after,
    count,
    bytes: Number.MAX_SAFE_INTEGER,
    now: new Date(),
    sharded: false,
  });
  return { text: statement.text, values };
}

async function explain(client: pg.Client, query: { text: string; values: unknown[] }) {
  const { rows } = await client.query({
    text: `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${query.text}`,
    values: query.values,
  });
  const [{ Plan: root }] = (rows[0] as { "QUERY PLAN": [{ Plan: Node }] })["QUERY PLAN"];
  const cost: Cost = {
    indexes: [],
    sequential: [],
    rows: 0,
    buffers: root["Shared Hit Blocks"] + root["Shared Read Blocks"],
  };
  const visit = (node: Node) => {
    if (node["Index Name"]) cost.indexes.push(node["Index Name"]);
    if (node["Node Type"] === "Seq Scan") cost.sequential.push(node["Relation Name"] ?? "");
    if (node["Node Type"].includes("Scan")) {
      cost.rows +=
        (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0)) * node["Actual Loops"];
    }
    for (const child of node.Plans ?? []) visit(child);
  };
  visit(root);
  return cost;
}

/**
 * Where a page begins that three quarters of all pages come before. The last one of all has to look
 * through whatever is left of the list.
 */
async function lateBegin(client: pg.Client, filter: object, modelId: string) {
  const { rows } = await client.query(pageOf(filter, modelId, FIRST, SESSIONS));
  const before = rows[Math.floor((rows.length / PAGE) * 0.75) * PAGE - 1] as
    | { activity: string; id: string }
    | undefined;
  return before && ([BigInt(before.activity), BigInt(before.id)] as [bigint, bigint]);
}

describe.each([MANY.model, ""])("model %j", (modelId) => {
  test.each(Object.entries(FILTERS))("%s", async (_, [filter, index]) => {
    await withClient(database.url, async (client) => {
      const first = await explain(client, pageOf(filter, modelId, FIRST, PAGE + 1));
      expect(first.indexes).toContain(index);
      // The models are few; of no other table is more read than an index leads to.
      expect(first.sequential.filter((table) => table !== "models")).toEqual([]);
      expect(first.rows, "rows looked at for the first page").toBeLessThan(SESSIONS / 4);
      const begin = await lateBegin(client, filter, modelId);
      if (!begin) return;
      const late = await explain(client, pageOf(filter, modelId, begin, PAGE + 1));
      expect(late.sequential.filter((table) => table !== "models")).toEqual([]);
      expect(late.rows, `rows for a late page; the first: ${first.rows}`).toBeLessThan(
        3 * first.rows + 40 * PAGE,
      );
    });
  });
});

test("a filter is planned for its own values, however often it was asked before", async () => {
  const db = new Database(database.url, { poolSize: 1 });
  try {
    const signal = AbortSignal.timeout(30_000);
    for (let count = 0; count < 3; count++) {
      const filter = SessionFilter.fromPartial({ allTags: [MANY.commonTag] });
      const page = { tenant: "default", modelId: MANY.model, filter, after: FIRST, count: PAGE };
      const { statement, values } = sessionPage({
        ...page,
        bytes: 1_000_000,
        now: new Date(),
        sharded: false,
      });
      await db.query(statement, values, signal);
    }
    const kept = statement<{ kept: bigint }>(
      "prepared",
      "SELECT count(*) AS kept FROM pg_prepared_statements WHERE name <> 'prepared'",
    );
    expect(await db.query(kept, [], signal)).toEqual([{ kept: 0n }]);
  } finally {
    await db.close();
  }
});

test("ListTags reads what the page shows, and no more for a late page", async () => {
  await withClient(database.url, async (client) => {
    const page = (after: string) => ({ text: listTags.text, values: ["default", after, PAGE + 1] });
    // The names from tag-1 on are each as rare as the others; `common` and `half` come before them.
    const early = await explain(client, page("tag-1"));
    const late = await explain(client, page("tag-970"));
    for (const cost of [early, late]) {
      expect(cost.sequential).toEqual([]);
      expect(new Set(cost.indexes)).toEqual(new Set(["session_tags_by_tag"]));
    }
    expect(late.rows).toBeLessThan(2 * early.rows);
    expect(early.rows).toBeLessThan(SESSIONS / 4);
  });
});
