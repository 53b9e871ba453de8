// Search by pgvector's index, on a Postgres that has it: AGENTSTORE_TEST_PGVECTOR_URL, for example
// that of scripts/pgvector.sh. Skipped without one.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { SearchFilter, SearchMode } from "../../gen/agentstore/v1/search.js";
import { limits } from "../../server/config.js";
import { migrate } from "../../server/db/migrations.js";
import { adminCall } from "../harness/admin-stubs.js";
import { EmbeddingsServer } from "../harness/embeddings-server.js";
import { withClient } from "../harness/postgres.js";
import { databaseUrl } from "../harness/postgres-names.js";
import { until } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, type RequestOf, Stubs } from "../harness/stubs.js";

const URL = process.env.AGENTSTORE_TEST_PGVECTOR_URL ?? "";
const MODEL = "test-embeddings";
/** Far more than are compared one by one here. */
const COUNT = 12_000;
const DIMENSIONS = 16;

describe.skipIf(URL === "")("with pgvector (AGENTSTORE_TEST_PGVECTOR_URL)", () => {
  const name = `test_${randomBytes(8).toString("hex")}`;
  const url = URL && databaseUrl(URL, name);
  let endpoint: EmbeddingsServer;
  let server: TestServer;
  let stubs: Stubs;

  beforeAll(async () => {
    // The server takes the limits as they are when it starts.
    Object.assign(limits, { searchVectors: 1_000 });
    await withClient(URL, (client) => client.query(`CREATE DATABASE ${name}`));
    await migrate(url);
    await fill();
    endpoint = await EmbeddingsServer.start();
    const embeddings = { url: endpoint.url, model: MODEL, dimensions: DIMENSIONS };
    server = await startServer({ databaseUrl: url, embeddings });
    stubs = new Stubs(server.address);
    await until("the index is made", async () => {
      const status = await adminCall(stubs.channel, "getSearchStatus", {});
      return status.embeddingIndexed;
    });
  }, 120_000);

  afterAll(async () => {
    stubs.close();
    await server.stop();
    await endpoint.stop();
    await withClient(URL, (client) => client.query(`DROP DATABASE ${name} WITH (FORCE)`));
  });

  /** Sessions of 1,000 messages with random vectors, every other one of another model. */
  const fill = () =>
    withClient(url, async (client) => {
      await client.query("SELECT setseed(0.5)");
      await client.query("INSERT INTO models (id) VALUES ('even'), ('odd')");
      await client.query(
        `INSERT INTO conversations (id, tenant_id, model_id, last_seq, message_count, revision)
         SELECT n, 'default', CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 1000, 1000, 1001
           FROM generate_series(1, $1 / 1000) AS n`,
        [COUNT],
      );
      await client.query("SELECT setval('conversations_id_seq', $1)", [COUNT]);
      await client.query(
        `INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
         SELECT 1 + n / 1000, 1 + n % 1000, 2 + n % 1000, CASE WHEN n % 10 = 0 THEN 'tool' ELSE 'user' END,
                'message ' || n, n
           FROM generate_series(0, $1 - 1) AS n`,
        [COUNT],
      );
      await client.query(
        `INSERT INTO message_embeddings
         SELECT conversation_id, seq, $1, 'default', $2, v, '\\x00', 1
           FROM (SELECT conversation_id, seq,
                        ARRAY(SELECT random() - 0.5 FROM generate_series(1, $2) WHERE id > 0)::real[] AS v
                   FROM conversation_messages) AS m`,
        [MODEL, DIMENSIONS],
      );
    });

  async function search(request: RequestOf<"searchMessages">): Promise<string[]> {
    const { results } = await stubs.call("searchMessages", {
      mode: SearchMode.SEMANTIC,
      embeddingModel: MODEL,
      ...request,
    });
    return results.map(({ message }) => `${message!.conversationId}/${message!.seq}`);
  }

  /** What is nearest, looked at one by one. */
  const nearest = (vector: number[], most: number, condition = "true") =>
    withClient(url, async (client) => {
      const { rows } = await client.query<{ key: string }>(
        `SELECT m.conversation_id || '/' || m.seq AS key
           FROM message_embeddings AS e JOIN conversation_messages AS m USING (conversation_id, seq)
          WHERE e.dimensions = $3 AND ${condition}
          ORDER BY e.embedding::vector <=> $1::real[]::vector
          LIMIT $2`,
        [vector, most, DIMENSIONS],
      );
      return rows.map(({ key }) => key);
    });

  const vectors = Array.from({ length: 8 }, (_, n) =>
    Array.from({ length: DIMENSIONS }, (_, place) => Math.sin(1 + n * 37 + place * 11)),
  );

  async function recall(request: RequestOf<"searchMessages">, condition?: string): Promise<number> {
    let found = 0;
    for (const queryEmbedding of vectors) {
      const [got, wanted] = await Promise.all([
        search({ ...request, queryEmbedding }),
        nearest(queryEmbedding, 20, condition),
      ]);
      expect(got).toHaveLength(20);
      found += wanted.filter((key) => got.includes(key)).length;
    }
    return found / (20 * vectors.length);
  }

  test("an index of the model's vectors is made, and used", async () => {
    const plan = await withClient(url, async (client) => {
      await client.query("SET enable_seqscan = off");
      const { rows } = await client.query<Record<string, string>>(
        `EXPLAIN SELECT seq FROM message_embeddings
          WHERE tenant_id = 'default' AND model = '${MODEL}' AND dimensions = ${DIMENSIONS}
          ORDER BY embedding::halfvec(${DIMENSIONS})
                   <=> $1::real[]::halfvec(${DIMENSIONS}) LIMIT 20`.replace(
          "$1",
          `'{${vectors[0]!.join()}}'`,
        ),
      );
      return rows.map((row) => row["QUERY PLAN"]).join("\n");
    });
    expect(plan).toMatch(/Index Scan using message_embeddings_hnsw_/);
  });

  test("it finds nearly what looking at each finds", async () => {
    expect(await recall({})).toBeGreaterThan(0.9);
  });

  test("also behind filters that leave little", async () => {
    const roles = SearchFilter.fromPartial({ roles: [Role.TOOL] } as never);
    expect(await recall({ modelId: "odd" }, "conversation_id % 2 = 1")).toBeGreaterThan(0.9);
    expect(await recall({ filter: roles }, "role = 'tool'")).toBeGreaterThan(0.9);
  });

  test("comes in pages that have everything once", async () => {
    const request = {
      mode: SearchMode.SEMANTIC,
      embeddingModel: MODEL,
      queryEmbedding: vectors[0]!,
    };
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await stubs.call("searchMessages", { ...request, limit: 7, pageToken });
      seen.push(...page.results.map(({ message }) => `${message!.conversationId}/${message!.seq}`));
      pageToken = page.nextPageToken;
    } while (seen.length < 50);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("takes new vectors, those of another length too, and loses those that are deleted", async () => {
    const { session } = await stubs.call("createSession", { modelId: "even" });
    const conversationId = session!.id;
    const embedding = { model: MODEL, values: vectors[1]! };
    await stubs.call("addMessages", {
      conversationId,
      messages: [
        newMessage({ embedding }),
        newMessage({ embedding: { model: MODEL, values: [1, 2, 3] } }),
      ],
    });
    const first = async () => (await search({ queryEmbedding: vectors[1]!, limit: 1 }))[0];
    expect(await first()).toBe(`${conversationId}/1`);
    await stubs.call("deleteMessage", { conversationId, seq: 1n });
    expect(await first()).not.toBe(`${conversationId}/1`);
    await stubs.call("deleteSession", { conversationId });
  });

  test("an index that was not finished is made anew", async () => {
    await withClient(url, (client) =>
      client.query(
        `UPDATE pg_index SET indisvalid = false
          WHERE indexrelid::regclass::text LIKE 'message_embeddings_hnsw_%'`,
      ),
    );
    expect(await adminCall(stubs.channel, "getSearchStatus", {})).toMatchObject({
      embeddingIndexed: false,
    });
    await expect(search({ queryEmbedding: vectors[0]! })).rejects.toMatchObject({
      reason: "VECTOR_INDEX_REQUIRED",
    });
    await server.stop();
    const embeddings = { url: endpoint.url, model: MODEL, dimensions: DIMENSIONS };
    server = await startServer({ databaseUrl: url, embeddings });
    stubs.close();
    stubs = new Stubs(server.address);
    await until("the index is made", async () => {
      const status = await adminCall(stubs.channel, "getSearchStatus", {});
      return status.embeddingIndexed;
    });
    expect(await search({ queryEmbedding: vectors[0]! })).toHaveLength(20);
  });
});
