// SEMANTIC and HYBRID: what is found, in which order, under which filters, page by page.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { SearchFilter, SearchMode, SearchOrder } from "../../gen/agentstore/v1/search.js";
import { limits } from "../../server/config.js";
import { fuse } from "../../server/search/hybrid.js";
import { adminCall } from "../harness/admin-stubs.js";
import { EmbeddingsServer, meaningOf } from "../harness/embeddings-server.js";
import { withClient } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, type RequestOf, Stubs } from "../harness/stubs.js";

const MODEL = "test-embeddings";
const { SEMANTIC, HYBRID, FULL_TEXT } = SearchMode;

let endpoint: EmbeddingsServer;
let server: TestServer;
let stubs: Stubs;
let cats: bigint;
let flights: bigint;

beforeAll(async () => {
  // The server takes the limits as they are when it starts.
  Object.assign(limits, { searchVectors: 1_000 });
  endpoint = await EmbeddingsServer.start();
  server = await startServer({ embeddings: { url: endpoint.url, model: MODEL } });
  stubs = new Stubs(server.address);
  cats = await sessionWith({ modelId: "gpt-4", ownerId: "ann", tags: ["pets"] }, [
    newMessage({ content: "my kitten sleeps all day", timestampMs: 1_000n }),
    newMessage({ content: "那只猫很可爱", role: Role.ASSISTANT, timestampMs: 2_000n }),
    newMessage({ content: "nothing of the kind", timestampMs: 3_000n }),
  ]);
  flights = await sessionWith({ modelId: "other", ownerId: "bob", tags: ["travel"] }, [
    newMessage({ content: "the plane was late, I want my money back" }),
    newMessage({ content: "flight 4711 leaves with my cat", role: Role.ASSISTANT }),
    newMessage({ content: "" }),
  ]);
  await embedded();
});

afterAll(async () => {
  stubs.close();
  await server.stop();
  await endpoint.stop();
});

async function sessionWith(
  session: RequestOf<"createSession">,
  messages: ReturnType<typeof newMessage>[],
): Promise<bigint> {
  const { session: made } = await stubs.call("createSession", session);
  await stubs.call("addMessages", { conversationId: made!.id, messages });
  return made!.id;
}

/** Waits until all messages have what searches need. */
async function embedded(): Promise<void> {
  await until("all is embedded", async () => {
    const status = await adminCall(stubs.channel, "getSearchStatus", {});
    const { rows } = await withClient(server.databaseUrl, (client) =>
      client.query<{ missing: string }>(
        `SELECT count(*) AS missing FROM conversation_messages AS m
          WHERE content <> '' AND deleted_at IS NULL AND NOT EXISTS (
            SELECT FROM message_embeddings AS e
             WHERE e.conversation_id = m.conversation_id AND e.seq = m.seq)`,
      ),
    );
    return status.pendingEmbeddings === 0n && rows[0]!.missing === "0";
  });
}

const search = (request: RequestOf<"searchMessages">) => stubs.call("searchMessages", request);
async function keys(request: RequestOf<"searchMessages">): Promise<string[]> {
  const { results } = await search({ mode: SEMANTIC, ...request });
  return results.map(({ message }) => `${message!.conversationId}/${message!.seq}`);
}
const filterOf = (fields: Partial<SearchFilter>) => SearchFilter.fromPartial(fields as never);

describe("SEMANTIC", () => {
  test("finds what means the same in other words and languages, best first", async () => {
    const { results, unindexedMessages } = await search({ mode: SEMANTIC, query: "a cat" });
    expect(
      results
        .slice(0, 3)
        .map(({ message }) => message!.content)
        .sort(),
    ).toEqual(["flight 4711 leaves with my cat", "my kitten sleeps all day", "那只猫很可爱"]);
    expect(results).toHaveLength(5);
    const scores = results.map(({ score }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    expect(scores[0]).toBeGreaterThan(0.95);
    expect(scores[0]).toBeLessThanOrEqual(1);
    expect(results[0]!.snippet).toMatchObject({ text: results[0]!.message!.content, hits: [] });
    expect(unindexedMessages).toBe(0n);
  });

  test.each([
    ["of a model", () => ({ modelId: "gpt-4" }), () => [`${cats}/1`, `${cats}/2`, `${cats}/3`]],
    [
      "of a session",
      () => ({ filter: filterOf({ conversationId: flights }) }),
      () => [`${flights}/2`, `${flights}/1`],
    ],
    [
      "of an owner",
      () => ({ filter: filterOf({ ownerId: "bob" }) }),
      () => [`${flights}/2`, `${flights}/1`],
    ],
    [
      "of tagged sessions",
      () => ({ filter: filterOf({ allTags: ["travel"] }) }),
      () => [`${flights}/2`, `${flights}/1`],
    ],
    [
      "of a role",
      () => ({ filter: filterOf({ roles: [Role.ASSISTANT] }) }),
      () => [`${cats}/2`, `${flights}/2`],
    ],
    [
      "of a time",
      () => ({
        filter: filterOf({ timestamp: { start: new Date(2_000), end: new Date(3_000) } }),
      }),
      () => [`${cats}/2`],
    ],
    ["of nobody", () => ({ filter: filterOf({ ownerId: "carl" }) }), () => []],
  ])("finds only those %s", async (_, request, expected) => {
    const found = await keys({ query: "猫", ...request() });
    expect(found.sort()).toEqual(expected().sort());
  });

  test("comes in pages that have everything once, and with what stands around", async () => {
    const all = await keys({ query: "my cat" });
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await search({ mode: SEMANTIC, query: "my cat", limit: 2, pageToken });
      seen.push(...page.results.map(({ message }) => `${message!.conversationId}/${message!.seq}`));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen).toEqual(all);
    const { results, nextPageToken } = await search({
      mode: SEMANTIC,
      query: "my cat",
      limit: 1,
      filter: filterOf({ conversationId: cats, roles: [Role.ASSISTANT] }),
      contextBefore: 1,
      contextAfter: 5,
    });
    expect(results[0]!.before.map(({ seq }) => seq)).toEqual([1n]);
    expect(results[0]!.after.map(({ seq }) => seq)).toEqual([3n]);
    expect(nextPageToken).toBe("");
    const first = await search({ mode: SEMANTIC, query: "my cat", limit: 1 });
    await expect(
      search({ mode: SEMANTIC, query: "my dog", limit: 1, pageToken: first.nextPageToken }),
    ).rejects.toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
  });

  test("takes the query's vector from the caller, of the caller's model", async () => {
    const asked = endpoint.requests.length;
    const queryEmbedding = meaningOf("a flight");
    const request = { queryEmbedding, embeddingModel: MODEL };
    expect((await keys(request))[0]).toBe(`${flights}/2`);
    expect(await keys({ ...request, embeddingModel: "another" })).toEqual([]);
    expect(await keys({ ...request, queryEmbedding: [1, 2, 3] })).toEqual([]);
    expect(endpoint.requests).toHaveLength(asked);
    const id = await sessionWith({ modelId: "given" }, [
      newMessage({ content: "a", embedding: { model: "mine", values: [1, 0] } }),
      newMessage({ content: "b", embedding: { model: "mine", values: [1, 5] } }),
    ]);
    const found = await keys({ queryEmbedding: [0, 2], embeddingModel: "mine" });
    expect(found).toEqual([`${id}/2`, `${id}/1`]);
    await stubs.call("deleteSession", { conversationId: id });
    await embedded();
  });

  test("finds nothing of another tenant, and nothing that was deleted", async () => {
    const giveTo = (tenant: string) =>
      withClient(server.databaseUrl, (client) =>
        client.query(
          "UPDATE message_embeddings SET tenant_id = $1 WHERE conversation_id = $2 AND seq = 1",
          [tenant, cats],
        ),
      );
    await giveTo("another");
    expect(await keys({ query: "a cat" })).not.toContain(`${cats}/1`);
    await giveTo("default");
    expect(await keys({ query: "a cat" })).toContain(`${cats}/1`);
    await stubs.call("deleteMessage", { conversationId: cats, seq: 1n });
    expect(await keys({ query: "a cat" })).not.toContain(`${cats}/1`);
    await stubs.call("undeleteMessage", { conversationId: cats, seq: 1n });
    await embedded();
    expect(await keys({ query: "a cat" })).toContain(`${cats}/1`);
  });

  test("says when the endpoint does not answer, and what to do", async () => {
    endpoint.behaviour = (_, response) => {
      response.writeHead(429, { "retry-after": "3" }).end();
      return true;
    };
    await expect(search({ mode: SEMANTIC, query: "a cat" })).rejects.toMatchObject({
      reason: "EMBEDDINGS_UNAVAILABLE",
      retryDelayMs: 3_000,
    });
    endpoint.behaviour = (_, response) => Boolean(response.writeHead(400).end());
    await expect(search({ mode: HYBRID, query: "a cat" })).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      metadata: { field: "query" },
    });
    endpoint.behaviour = undefined;
  });

  test("needs an endpoint or a vector", async () => {
    const plain = await startServer({ databaseUrl: server.databaseUrl });
    const caller = new Stubs(plain.address);
    try {
      await expect(
        caller.call("searchMessages", { mode: SEMANTIC, query: "a cat" }),
      ).rejects.toMatchObject({ reason: "EMBEDDINGS_NOT_CONFIGURED" });
      const request = { queryEmbedding: meaningOf("a cat"), embeddingModel: MODEL };
      const { results } = await caller.call("searchMessages", { mode: SEMANTIC, ...request });
      expect(results.length).toBeGreaterThan(3);
    } finally {
      caller.close();
      await plain.stop();
    }
  });

  test("of more vectors than are compared one by one needs an index, or a filter", async () => {
    const model = "many";
    await withClient(server.databaseUrl, (client) =>
      client.query(
        `INSERT INTO message_embeddings
         SELECT 1000000 + n, 1, $1, 'default', 2, '{1,0}', '\\x7f00', 1.0/127
           FROM generate_series(1, $2) AS n`,
        [model, limits.searchVectors],
      ),
    );
    const request = { queryEmbedding: [1, 1], embeddingModel: model };
    await search({ mode: SEMANTIC, ...request });
    const id = await sessionWith({ modelId: "gpt-4" }, [
      newMessage({ embedding: { model, values: [1, 1] } }),
    ]);
    await expect(search({ mode: SEMANTIC, ...request })).rejects.toMatchObject({
      reason: "VECTOR_INDEX_REQUIRED",
      metadata: { limit: String(limits.searchVectors) },
    });
    expect(await keys({ ...request, filter: filterOf({ conversationId: id }) })).toEqual([
      `${id}/1`,
    ]);
    await withClient(server.databaseUrl, (client) =>
      client.query("DELETE FROM message_embeddings WHERE model = $1", [model]),
    );
  });

  test.each([
    [{ query: "" }, "query"],
    [{ query: "", mode: HYBRID, queryEmbedding: [1], embeddingModel: MODEL }, "query"],
    [{ query: "a", queryEmbedding: [1, Number.NaN], embeddingModel: MODEL }, "query_embedding[1]"],
    [{ query: "a", queryEmbedding: [0, 0], embeddingModel: MODEL }, "query_embedding"],
    [
      { query: "a", queryEmbedding: Array(4_001).fill(1), embeddingModel: MODEL },
      "query_embedding",
    ],
    [{ query: "a", queryEmbedding: [1] }, "embedding_model"],
    [{ query: "a", embeddingModel: MODEL }, "embedding_model"],
    [{ query: "a", queryEmbedding: [1], embeddingModel: "\0" }, "embedding_model"],
    [{ query: "a", order: SearchOrder.NEWEST_FIRST }, "order"],
    [{ query: "a", language: "english" }, "language"],
    [{ query: "a", mode: FULL_TEXT, queryEmbedding: [1] }, "query_embedding"],
    [{ query: "a", mode: FULL_TEXT, embeddingModel: MODEL }, "embedding_model"],
  ])("refuses %o", async (request, field) => {
    await expect(search({ mode: SEMANTIC, ...request })).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      metadata: { field },
    });
  });
});

describe("HYBRID", () => {
  test("finds by words and by meaning, first what is found by both", async () => {
    const byWords = await keys({ mode: FULL_TEXT, query: "4711 kitten" });
    expect(byWords.sort()).toEqual([`${cats}/1`, `${flights}/2`]);
    const { results } = await search({ mode: HYBRID, query: "4711 kitten" });
    const found = results.map(({ message }) => `${message!.conversationId}/${message!.seq}`);
    expect(found.slice(0, 2).sort()).toEqual(byWords);
    expect(found).toContain(`${cats}/2`);
    const kitten = results.find(({ message }) => message!.content.includes("kitten"))!;
    expect(kitten.snippet!.hits).toEqual([{ offset: 3, length: 6 }]);
  });

  test("comes in pages that have everything once", async () => {
    const all = await keys({ mode: HYBRID, query: "my cat" });
    expect(new Set(all).size).toBe(all.length);
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await search({ mode: HYBRID, query: "my cat", limit: 2, pageToken });
      seen.push(...page.results.map(({ message }) => `${message!.conversationId}/${message!.seq}`));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen).toEqual(all);
  });

  test("finds by meaning alone where the query has no words", async () => {
    const request = { queryEmbedding: meaningOf("a flight"), embeddingModel: MODEL };
    expect((await keys({ mode: HYBRID, query: "?!", ...request }))[0]).toBe(`${flights}/2`);
  });

  test("fuses by places: 1 / (60 + place), added up", () => {
    const at = (seq: bigint, score: bigint) => ({ conversation_id: 1n, seq, score });
    const fused = fuse([
      [at(1n, 9n), at(2n, 8n)],
      [at(2n, 900n), at(3n, 800n)],
    ]);
    expect(fused.map(({ seq, score }) => [seq, score])).toEqual([
      [2n, 32_522n],
      [1n, 16_393n],
      [3n, 16_129n],
    ]);
  });
});

test("the client searches in these modes, and gives vectors", async () => {
  const client = new AgentStoreClient(server.url);
  try {
    const { id } = await client.createSession("client");
    await client.addMessage(id, "user", "x", { embedding: { model: "mine", values: [1, 0] } });
    const embedding = { model: "mine", values: [1, 0] };
    const { results } = await client.searchPage("", "", { mode: "semantic", embedding });
    expect(results.map(({ message }) => message.conversationId)).toEqual([id]);
    const hybrid = await client.searchPage("", "a cat", { mode: "hybrid", limit: 1 });
    expect(hybrid.results).toHaveLength(1);
    await client.deleteSession(id);
  } finally {
    client.close();
  }
});
