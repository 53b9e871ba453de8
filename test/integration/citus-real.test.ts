// A real Citus, where AGENTSTORE_TEST_CITUS_URL names a database of a coordinator: the tables are
// distributed by the very SQL that docs/operations.md shows, in a schema of the test's own.
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import type { Statement } from "../../server/db/database.js";
import { checkSchema, migrate } from "../../server/db/migrations.js";
import { copyMessagesOfShard } from "../../server/forks/sql.js";
import { findRequestsInShard, insertRequestInShard } from "../../server/idempotency/sql.js";
import * as messages from "../../server/messages/sql.js";
import { projectRoot } from "../../server/paths.js";
import { verifyAll } from "../harness/admin-stubs.js";
import { assertCountersAgree } from "../harness/counters.js";
import { EmbeddingsServer } from "../harness/embeddings-server.js";
import { history } from "../harness/histories.js";
import { assertLabelsAgree } from "../harness/labels.js";
import { withClient } from "../harness/postgres.js";
import { Replayer } from "../harness/replayer.js";
import { assertRoundTrip } from "../harness/round-trip.js";
import { stopIndexer } from "../harness/search.js";
import { assertSearchesAgree } from "../harness/searched-life.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { assertTold, SessionsWatcher, SessionWatcher } from "../harness/watching.js";

const given = process.env.AGENTSTORE_TEST_CITUS_URL;
const RUNS = Number(process.env.PROPERTY_RUNS ?? 25);

const inSchema = (name: string): string => {
  const url = new URL(given ?? "");
  url.searchParams.set("options", `-c search_path=${name}`);
  return url.href;
};

// The blocks of SQL behind the heading.
async function documentedSql(): Promise<string[]> {
  const page = await readFile(join(projectRoot, "docs/operations.md"), "utf8");
  const section = page.split(/^### /m).find((part) => part.startsWith("Citus\n")) ?? "";
  return [...section.matchAll(/^```sql$([^]*?)^```$/gm)].map((match) => match[1]!);
}

// Makes a schema whose sessions are distributed.
async function distribute(schema: string): Promise<void> {
  const url = inSchema(schema);
  await withClient(given!, (client) => client.query(`CREATE SCHEMA ${schema}`));
  await migrate(url);
  await withClient(url, async (client) => {
    for (const block of await documentedSql()) await client.query(block);
  });
}

describe.skipIf(!given)("on the Citus that AGENTSTORE_TEST_CITUS_URL names", () => {
  const schema = `agentstore_${randomBytes(4).toString("hex")}`;
  let url: string;
  let server: TestServer;
  let stubs: Stubs;

  beforeAll(async () => {
    url = inSchema(schema);
    await distribute(schema);
    server = await startServer({ databaseUrl: url });
    stubs = new Stubs(server.address);
  });

  afterAll(async () => {
    stubs?.close();
    await server?.stop();
    await withClient(given!, async (client) => {
      await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
      await client.query(`DROP SCHEMA IF EXISTS ${schema}_plain CASCADE`);
    });
  });

  // The checks compare sessions with all their rows in ways that Citus does not plan, so they look
  // at copies of the tables that are not distributed.
  async function plainCopy(): Promise<string> {
    const plain = `${schema}_plain`;
    await withClient(url, async (client) => {
      await client.query(`DROP SCHEMA IF EXISTS ${plain} CASCADE; CREATE SCHEMA ${plain}`);
      const { rows } = await client.query<{ name: string }>(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = $1",
        [schema],
      );
      for (const { name } of rows) {
        await client.query(`CREATE TABLE ${plain}.${name} AS SELECT * FROM ${schema}.${name}`);
      }
    });
    return inSchema(plain);
  }

  test("a database that was distributed has the schema that this program needs", async () => {
    await checkSchema(url);
    const { from, to } = await migrate(url);
    expect(from).toBe(to);
  });

  test("every table of sessions lies beside their rows", async () => {
    const { rows } = await withClient(url, (client) =>
      client.query<{ apart: string[] | null }>(
        `SELECT array_agg(c.relname::text) AS apart
           FROM pg_class AS c
           JOIN pg_constraint AS f ON f.conrelid = c.oid AND f.contype = 'f'
          WHERE f.confrelid = 'conversations'::regclass
            AND (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = c.oid)
                IS DISTINCT FROM
                (SELECT colocationid FROM pg_dist_partition
                  WHERE logicalrelid = 'conversations'::regclass)`,
      ),
    );
    expect(rows).toEqual([{ apart: null }]);
  });

  test.each<[string, Statement<object>, string[]]>([
    ["a lock", messages.lockSession, ["1"]],
    ["a session's counters", messages.advanceSession, advance()],
    ["a message", messages.insertMessage, insertion()],
    ["a search for answers", findRequestsInShard, ["1", "'{a}'"]],
    ["a kept answer", insertRequestInShard, ["1", "'{a}'", ...nulls(5), "now()"]],
    ["a page", messages.pageOldestFirst, ["1", "0", "9", "10", "1000"]],
    ["the messages of a fork", copyMessagesOfShard, ["1", "9", "9", "2", "''", "now()"]],
  ])("%s is asked of one shard, in one look at it", async (_, { text }, values) => {
    const { rows } = await withClient(url, (client) =>
      client.query<{ "QUERY PLAN": string }>(
        `EXPLAIN (COSTS off) ${text.replaceAll(/\$(\d+)/g, (_all, n) => values[Number(n) - 1]!)}`,
      ),
    );
    const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
    expect(plan).toContain("Task Count: 1\n");
    expect(plan).not.toContain("Distributed Subplan");
  });

  test("any history is answered as the model answers it, and its counters agree", async () => {
    let sessions = 0;
    // A slow machine plays fewer histories, and a failing one is shrunk for as long.
    const enough = Date.now() + 30_000;
    await fc.assert(
      fc.asyncProperty(history(40), async (steps) => {
        if (Date.now() > enough) return;
        const replayer = new Replayer(stubs);
        await replayer.play(steps);
        sessions += replayer.model.sessions.filter(({ deleted }) => !deleted).length;
      }),
      { numRuns: RUNS },
    );
    const plain = await plainCopy();
    expect(await assertCountersAgree(plain)).toBe(sessions);
    await assertLabelsAgree(plain);
    const { fault, checked } = await verifyAll(stubs.channel);
    expect(fault).toBeUndefined();
    expect(checked).toBeGreaterThan(0n);
    expect(await assertRoundTrip(stubs)).toBe(sessions);
  }, 180_000);

  test("appends to many sessions at once are all written, once and in order", async () => {
    const created = Array.from({ length: 24 }, () => stubs.call("createSession", { modelId: "m" }));
    const ids = (await Promise.all(created)).map(({ session }) => session!.id);
    const appends = Array.from({ length: 240 }, async (_, n) => {
      const request = {
        conversationId: ids[n % ids.length]!,
        message: newMessage({ content: `${n}` }),
        requestId: `${n}`,
      };
      const first = await stubs.call("addMessage", request);
      const again = await stubs.call("addMessage", request);
      expect(again).toEqual({ ...first, replayed: true });
    });
    await Promise.all(appends);
    for (const conversationId of ids) {
      const { messages: found } = await stubs.call("getMessages", { conversationId });
      expect(found.map(({ seq }) => seq)).toEqual(
        Array.from({ length: 10 }, (_, n) => BigInt(n + 1)),
      );
    }
    await assertCountersAgree(await plainCopy());
  });

  test("watches tell what there is and what happens, through each of two servers", async () => {
    const other = await startServer({ databaseUrl: url });
    const others = new Stubs(other.address);
    const { session } = await stubs.call("createSession", { modelId: "watched" });
    const conversationId = session!.id;
    const add = (through: Stubs, content: string) =>
      through.call("addMessage", { conversationId, message: newMessage({ content }) });
    for (let n = 0; n < 300; n++) await add(stubs, `${n}`);
    const edit = { conversationId, seq: 2n, content: "edited" } as AgentMessage;
    await stubs.call("updateMessage", { message: edit, updateMask: ["content"] });
    await stubs.call("deleteMessage", { conversationId, seq: 3n });
    await stubs.call("updateSession", {
      session: { id: conversationId, title: "t" } as AgentSession,
      updateMask: ["title"],
    });
    const watches = [stubs, others].flatMap(({ channel }) => [
      { after: 0n, watcher: new SessionWatcher(channel, conversationId, 0n) },
      { after: 150n, watcher: new SessionWatcher(channel, conversationId, 150n) },
      { after: 0n, watcher: new SessionsWatcher(channel, { afterPosition: "" }) },
    ]);
    await Promise.all(watches.map(({ watcher }) => watcher.untilKind("caughtUp")));
    for (let n = 0; n < 20; n++) await add(n % 2 === 0 ? stubs : others, `live ${n}`);
    await others.call("deleteMessage", { conversationId, seq: 4n });
    await add(others, "end");
    for (const { after, watcher } of watches) {
      await watcher.until("the end", (told) => told.some(({ content }) => content === "end"));
      await assertTold(url, conversationId, watcher.told, after);
      watcher.cancel();
    }
    others.close();
    await other.stop();
  }, 120_000);
});

describe.skipIf(!given)("searches on the Citus that AGENTSTORE_TEST_CITUS_URL names", () => {
  const schema = `agentstore_${randomBytes(4).toString("hex")}`;
  let endpoint: EmbeddingsServer;

  beforeAll(async () => {
    await distribute(schema);
    endpoint = await EmbeddingsServer.start();
  });

  afterAll(async () => {
    await endpoint?.stop();
    await withClient(given!, (client) => client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`));
  });

  test("find what is there in all modes, indexed or not", async () => {
    const url = inSchema(schema);
    await assertSearchesAgree(url, { endpoint, stopIndexer: () => stopIndexer(url) });
  }, 240_000);
});

function nulls(count: number): string[] {
  return Array.from({ length: count }, () => "NULL");
}

// The values of a session that one message was appended to.
function advance(): string[] {
  return ["'{1}'", "'{1}'", ...nulls(4), "'{1}'", ...nulls(8), "now()", "1"];
}

function insertion(): string[] {
  return ["1", "'{1}'", "'{2}'", "'{user}'", "'{x}'", ...nulls(13), "'{me}'", "now()"];
}
