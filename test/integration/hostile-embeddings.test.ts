// An embeddings endpoint that misbehaves holds up no append and loses no message.
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Database } from "../../server/db/database.js";
import { EmbeddingsEndpoint } from "../../server/embeddings/endpoint.js";
import { EmbeddingWorker } from "../../server/embeddings/worker.js";
import { makeLogger } from "../../server/log.js";
import { adminCall, allEvents } from "../harness/admin-stubs.js";
import {
  answerTo,
  type Behaviour,
  EmbeddingsServer,
  json,
  meaningOf,
} from "../harness/embeddings-server.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const MODEL = "test-embeddings";
/** How long a request may take here. */
const REQUEST_MS = 300;
const signal = new AbortController().signal;

let database: TestDatabase;
let server: TestServer;
let stubs: Stubs;
let endpoint: EmbeddingsServer;
let db: Database;
let worker: EmbeddingWorker;
let conversationId: bigint;

beforeEach(async () => {
  database = await createDatabase();
  endpoint = await EmbeddingsServer.start();
  server = await startServer({ databaseUrl: database.url });
  stubs = new Stubs(server.address);
  db = new Database(database.url, { poolSize: 3 });
  const client = new EmbeddingsEndpoint({ url: endpoint.url, model: MODEL }, REQUEST_MS);
  worker = new EmbeddingWorker(db, client, makeLogger("silent"));
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  conversationId = session!.id;
});

afterEach(async () => {
  stubs.close();
  await db.close();
  await server.stop();
  await endpoint.stop();
  await database.drop();
});

const say = (...contents: string[]) =>
  stubs.call("addMessages", {
    conversationId,
    messages: contents.map((content) => newMessage({ content })),
  });

async function feed(): Promise<void> {
  while ((await worker.feed(signal)) === 0);
}

const query = <Row extends object>(text: string) =>
  withClient(database.url, async (client) => (await client.query<Row>(text)).rows);
const seqs = async () =>
  (await query<{ seq: string }>("SELECT seq FROM message_embeddings ORDER BY seq")).map((row) =>
    Number(row.seq),
  );
const queued = () =>
  query<{ seq: string; failures: number; error: string | null; failed: boolean }>(
    `SELECT seq, failures, error, failed_at IS NOT NULL AS failed FROM embedding_queue ORDER BY seq`,
  );
const errorOf = async () =>
  (await query<{ error: string | null }>("SELECT error FROM embedding_models"))[0]!.error;
const hurry = () => query("UPDATE embedding_queue SET due_at = now()");

/** Embeds until nothing is due, whatever fails. */
async function embedAll(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) {
    await hurry();
    if ((await worker.embed(signal)) > 0) return;
  }
  throw new Error("the worker comes to no end");
}

const body = (response: ServerResponse, text: string, type = "application/json") =>
  response.writeHead(200, { "content-type": type }).end(text);
/** An answer whose embeddings are something else. */
const of =
  (embedding: (text: string) => unknown): Behaviour =>
  (request, response) => {
    const data = request.input.map((text, index) => ({ index, embedding: embedding(text) }));
    json(response, { ...answerTo(request), data });
    return true;
  };

const MISDEEDS: Record<string, [Behaviour, RegExp]> = {
  "never answers": [() => true, /not answered within 0.3 s/],
  "lets its answer drip": [
    async (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      while (!response.destroyed) {
        response.write(" ");
        await sleep(20);
      }
      return true;
    },
    /not answered within 0.3 s/,
  ],
  "hangs up": [(_, response) => Boolean(response.destroy()), /cannot be reached/],
  "breaks off in the middle": [
    (_, response) => {
      response.writeHead(200, { "content-type": "application/json", "content-length": "100" });
      response.write('{"data": [', () => response.destroy());
      return true;
    },
    /broke off/,
  ],
  "answers 500": [(_, response) => Boolean(response.writeHead(500).end("oh no")), /status 500/],
  "answers 401": [
    (_, response) => {
      json(response, { error: { message: "the key is wrong" } }, 401);
      return true;
    },
    /status 401/,
  ],
  "sends elsewhere": [
    (_, response) => Boolean(response.writeHead(307, { location: endpoint.url }).end()),
    /status 307/,
  ],
  "answers no JSON": [(_, response) => Boolean(body(response, '{"data": [')), /no JSON/],
  "answers a page": [
    (_, response) => Boolean(body(response, "<html>", "text/html")),
    /no list of embeddings/,
  ],
  "answers nothing": [(_, response) => Boolean(body(response, "")), /no/],
  "answers null": [(_, response) => Boolean(body(response, "null")), /no list of embeddings/],
  "answers too few": [
    (request, response) => {
      json(response, { ...answerTo(request), data: [] });
      return true;
    },
    /answered 0 embeddings/,
  ],
  "answers too many": [
    (request, response) => {
      const { data } = answerTo(request);
      json(response, { data: [...data, ...data] });
      return true;
    },
    /embeddings for/,
  ],
  "answers the same index twice": [
    ({ input }, response) => {
      const data = input.map((text) => ({ index: 1, embedding: meaningOf(text) }));
      json(response, { data });
      return true;
    },
    /indexes are wrong/,
  ],
  "answers nulls": [of(() => null), /no list of numbers/],
  "answers NaN, as JSON has it": [of((text) => [Number.NaN, ...meaningOf(text)]), /no list/],
  "answers numbers that no float can hold": [
    of((text) => [1e39, ...meaningOf(text)]),
    /finite number/,
  ],
  "answers zeros": [of(() => [0, 0, 0]), /all zeros/],
  "answers empty vectors": [of(() => []), /1 to 4000 numbers/],
  "answers vectors of another length": [of((text) => [1, ...meaningOf(text)]), /8 numbers, not 7/],
};

describe("an endpoint that", () => {
  test.each(Object.entries(MISDEEDS))("%s", async (_, [behaviour, why]) => {
    await say("my cat");
    await feed();
    await worker.embed(signal);
    expect(await seqs()).toEqual([1]);
    endpoint.behaviour = behaviour;
    await say("a flight", "bread");
    await feed();
    // Appends do not wait for what hangs.
    const [pauseMs] = await Promise.all([worker.embed(signal), say("a refund")]);
    expect(pauseMs).toBeGreaterThan(0);
    expect(await errorOf()).toMatch(why);
    expect(await queued()).toEqual(
      ["2", "3"].map((seq) => ({ seq, failures: 0, error: null, failed: false })),
    );
    endpoint.behaviour = undefined;
    await feed();
    await embedAll();
    expect([await seqs(), await queued(), await errorOf()]).toEqual([[1, 2, 3, 4], [], null]);
  });

  test("answers far too much is not listened to for long", async () => {
    endpoint.behaviour = (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const piece = Buffer.alloc(1024 * 1024, " ");
      const more = () => {
        while (!response.destroyed && response.write(piece));
        if (!response.destroyed) response.once("drain", more);
      };
      more();
      return true;
    };
    const client = new EmbeddingsEndpoint({ url: endpoint.url, model: MODEL }, 60_000);
    worker = new EmbeddingWorker(db, client, makeLogger("silent"));
    await say("my cat");
    await feed();
    expect(await worker.embed(signal)).toBeGreaterThan(0);
    expect(await errorOf()).toBe("its answer has more than 16777216 bytes");
    expect(await queued()).toMatchObject([{ failures: 0, failed: false }]);
  });

  test("is not there at all", async () => {
    const { url } = endpoint;
    await endpoint.stop();
    const client = new EmbeddingsEndpoint({ url, model: MODEL });
    worker = new EmbeddingWorker(db, client, makeLogger("silent"));
    await say("my cat");
    await feed();
    expect(await worker.embed(signal)).toBeGreaterThan(0);
    expect(await errorOf()).toBe("it cannot be reached (ECONNREFUSED)");
    expect(await queued()).toMatchObject([{ seq: "1", failures: 0 }]);
    endpoint = await EmbeddingsServer.start();
  });

  test.each([
    ["429", 429, "7", 7_000],
    ["503", 503, "7", 7_000],
    ["429 for a day", 429, "86400", 600_000],
  ])("answers %s is left alone for as long as it says", async (_, status, after, ms) => {
    endpoint.behaviour = (_request, response) => {
      response.writeHead(status, { "retry-after": after }).end();
      return true;
    };
    await say("my cat");
    await feed();
    expect(await worker.embed(signal)).toBe(ms);
    expect(await queued()).toMatchObject([{ failures: 0, failed: false }]);
  });

  test("goes on failing is asked less and less often", async () => {
    endpoint.behaviour = MISDEEDS["answers 500"]![0];
    await say("my cat");
    await feed();
    const pauses: number[] = [];
    for (let turn = 0; turn < 12; turn++) {
      pauses.push(await worker.embed(signal));
      await hurry();
    }
    expect(pauses[0]).toBeLessThanOrEqual(1_000);
    expect(pauses[8]).toBeGreaterThanOrEqual(128_000);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(600_000);
    expect(await queued()).toMatchObject([{ failures: 0, failed: false }]);
  });
});

describe("a message that the endpoint cannot embed", () => {
  const status = async () => await adminCall(stubs.channel, "getSearchStatus", {});
  const failures = async () =>
    (await adminCall(stubs.channel, "listEmbeddingFailures", {})).failures;
  const poisonedBy =
    (code: number): Behaviour =>
    (request, response) => {
      if (!request.input.some((text) => text.includes("poison"))) return false;
      json(response, { error: { message: `I cannot read ${request.input.join()}` } }, code);
      return true;
    };

  test("is given up, does not hold up the others, and is embedded when asked for", async () => {
    endpoint.behaviour = poisonedBy(400);
    await say("my cat", "poison one", "a flight", "poison two");
    await feed();
    await embedAll();
    expect(await seqs()).toEqual([1, 3]);
    expect(await status()).toMatchObject({ failedEmbeddings: 2n, pendingEmbeddings: 0n });
    const error = "it answered with HTTP status 400";
    expect(await failures()).toMatchObject(
      [2n, 4n].map((seq) => ({ conversationId, seq, tries: 2, error })),
    );
    const first = await adminCall(stubs.channel, "listEmbeddingFailures", { pageSize: 1 });
    const { failures: rest, nextPageToken } = await adminCall(
      stubs.channel,
      "listEmbeddingFailures",
      { pageSize: 1, pageToken: first.nextPageToken },
    );
    expect([first.failures[0]!.seq, rest[0]!.seq, nextPageToken]).toEqual([2n, 4n, ""]);
    await embedAll();
    expect(await failures()).toHaveLength(2);
    endpoint.behaviour = undefined;
    const retry = (id: bigint) =>
      adminCall(stubs.channel, "retryEmbeddings", { conversationId: id });
    expect(await retry(conversationId + 1n)).toEqual({ retried: 0n });
    expect(await retry(0n)).toEqual({ retried: 2n });
    expect(await status()).toMatchObject({ failedEmbeddings: 0n, pendingEmbeddings: 2n });
    await embedAll();
    expect([await seqs(), await queued(), await failures()]).toEqual([[1, 2, 3, 4], [], []]);
    const events = await allEvents(stubs.channel, { rpc: "RetryEmbeddings" });
    expect(events).toHaveLength(1);
  });

  test("is tried several times where the endpoint does not say that it never will", async () => {
    endpoint.behaviour = poisonedBy(500);
    await say("my cat", "poison");
    await feed();
    await embedAll();
    expect(await seqs()).toEqual([1]);
    expect(await failures()).toMatchObject([{ seq: 2n, tries: 6 }]);
  });

  test("is tried again when it changes", async () => {
    endpoint.behaviour = poisonedBy(400);
    await say("poison");
    await feed();
    await embedAll();
    expect(await failures()).toHaveLength(1);
    await stubs.call("updateMessage", {
      message: { conversationId, seq: 1n, content: "my cat" } as never,
      updateMask: ["content"],
    });
    await feed();
    await embedAll();
    expect([await seqs(), await failures()]).toEqual([[1], []]);
  });

  test("is forgotten when it is deleted", async () => {
    endpoint.behaviour = poisonedBy(400);
    await say("poison");
    await feed();
    await embedAll();
    await stubs.call("deleteMessage", { conversationId, seq: 1n });
    await feed();
    expect(await failures()).toEqual([]);
  });

  test.each([
    ["listEmbeddingFailures", { pageSize: 1_001 }, "page_size"],
    ["listEmbeddingFailures", { pageSize: -1 }, "page_size"],
    ["listEmbeddingFailures", { conversationId: -1n }, "conversation_id"],
    ["retryEmbeddings", { conversationId: -1n }, "conversation_id"],
  ] as const)("%s refuses %o", async (name, request, field) => {
    await expect(adminCall(stubs.channel, name, request)).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      metadata: { field },
    });
  });

  test("the list refuses tokens that are not its own", async () => {
    await expect(
      adminCall(stubs.channel, "listEmbeddingFailures", { pageToken: "abc" }),
    ).rejects.toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
  });
});
