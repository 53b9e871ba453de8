// Messages get their vectors in the background, and lose them with what they stood for.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Database } from "../../server/db/database.js";
import { EmbeddingsEndpoint } from "../../server/embeddings/endpoint.js";
import { EmbeddingWorker } from "../../server/embeddings/worker.js";
import { Sweeper } from "../../server/expiry/sweeper.js";
import { makeLogger } from "../../server/log.js";
import { adminCall } from "../harness/admin-stubs.js";
import { EmbeddingsServer, meaningOf } from "../harness/embeddings-server.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { spawnServer, startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const MODEL = "test-embeddings";
const signal = new AbortController().signal;

let database: TestDatabase;
let server: TestServer;
let stubs: Stubs;
let endpoint: EmbeddingsServer;
let db: Database;
let worker: EmbeddingWorker;

beforeEach(async () => {
  database = await createDatabase();
  endpoint = await EmbeddingsServer.start();
  server = await startServer({ databaseUrl: database.url });
  stubs = new Stubs(server.address);
  db = new Database(database.url, { poolSize: 3 });
  worker = workerOf({ url: endpoint.url, model: MODEL });
});

afterEach(async () => {
  stubs.close();
  await db.close();
  await server.stop();
  await endpoint.stop();
  await database.drop();
});

const workerOf = (options: ConstructorParameters<typeof EmbeddingsEndpoint>[0]) =>
  new EmbeddingWorker(db, new EmbeddingsEndpoint(options), makeLogger("silent"));

/** Queues and embeds until there is nothing left to do. */
async function catchUp(by = worker): Promise<void> {
  while ((await by.feed(signal)) === 0);
  while ((await by.embed(signal)) === 0);
}

interface Stored {
  conversation_id: string;
  seq: string;
  model: string;
  dimensions: number;
  embedding: number[];
}

const stored = (conversationId?: bigint) =>
  withClient(database.url, async (client) => {
    const { rows } = await client.query<Stored>(
      `SELECT * FROM message_embeddings WHERE $1::bigint IS NULL OR conversation_id = $1
        ORDER BY conversation_id, seq, model`,
      [conversationId],
    );
    return rows;
  });
const seqs = async (conversationId: bigint) =>
  (await stored(conversationId)).map(({ seq }) => Number(seq));
const queued = () =>
  withClient(database.url, async (client) => {
    const { rows } = await client.query<{ seq: string; failures: number; error: string | null }>(
      "SELECT seq, failures, error FROM embedding_queue ORDER BY conversation_id, seq",
    );
    return rows.map((row) => ({ ...row, seq: Number(row.seq) }));
  });
/** Makes everything that waits due now. */
const hurry = () =>
  withClient(database.url, (client) => client.query("UPDATE embedding_queue SET due_at = now()"));

async function sessionWith(...contents: string[]): Promise<bigint> {
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  const messages = contents.map((content) => newMessage({ content }));
  if (messages.length > 0) {
    await stubs.call("addMessages", { conversationId: session!.id, messages });
  }
  return session!.id;
}

function unit(text: string): number[] {
  const vector = meaningOf(text);
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

test("every message that says something gets a vector of length 1, with the model's name", async () => {
  const id = await sessionWith("I want a refund", "", " \n ", "my cat");
  await catchUp();
  const rows = await stored(id);
  expect(rows.map(({ seq, model, dimensions }) => [Number(seq), model, dimensions])).toEqual([
    [1, MODEL, 7],
    [4, MODEL, 7],
  ]);
  for (const [place, text] of ["I want a refund", "my cat"].entries()) {
    rows[place]!.embedding.forEach((value, at) => expect(value).toBeCloseTo(unit(text)[at]!, 6));
  }
  expect(endpoint.requests.map(({ input, model }) => [input, model])).toEqual([
    [["I want a refund", "my cat"], MODEL],
  ]);
  expect(await queued()).toEqual([]);
  await catchUp();
  expect(endpoint.requests).toHaveLength(1);
});

test("what was there before the model is embedded, too, and a new model begins anew", async () => {
  await catchUp();
  const first = await sessionWith("bread", "loaf");
  // As if nobody had read the change log so far.
  await withClient(database.url, (client) =>
    client.query("DELETE FROM change_readers; DELETE FROM session_changes"),
  );
  await catchUp();
  expect(await seqs(first)).toEqual([1, 2]);
  const other = workerOf({ url: endpoint.url, model: "another" });
  await catchUp(other);
  expect((await stored(first)).map(({ model }) => model)).toEqual([
    "another",
    MODEL,
    "another",
    MODEL,
  ]);
});

test("many messages go in batches, of few when they are long, and long ones are cut", async () => {
  await sessionWith(...Array.from({ length: 130 }, (_, n) => `message ${n}`));
  await catchUp();
  expect(endpoint.requests.map(({ input }) => input.length)).toEqual([64, 64, 2]);
  await sessionWith(...Array.from({ length: 20 }, () => "x".repeat(10_000)));
  await catchUp();
  const later = endpoint.requests.slice(3).map(({ input }) => input);
  expect(later.flat().map(({ length }) => length)).toEqual(Array(20).fill(6_000));
  for (const input of later) expect(input.join("").length).toBeLessThanOrEqual(100_000);
});

test("an edit takes the vector with it and brings another; what leaves the text alone keeps it", async () => {
  const id = await sessionWith("my cat", "a flight");
  await catchUp();
  await stubs.call("updateMessage", {
    message: { conversationId: id, seq: 1n, metadata: { a: 1 } } as never,
    updateMask: ["metadata"],
  });
  expect(await seqs(id)).toEqual([1, 2]);
  await stubs.call("updateMessage", {
    message: { conversationId: id, seq: 1n, content: "my bread" } as never,
    updateMask: ["content"],
  });
  expect(await seqs(id)).toEqual([2]);
  await catchUp();
  expect(endpoint.texts).toEqual(["my cat", "a flight", "my bread"]);
  expect((await stored(id))[0]!.embedding[4]).toBeGreaterThan(0.9);
});

test("deleted messages have no vector, and get one when they are brought back", async () => {
  const id = await sessionWith("my cat", "a flight");
  await catchUp();
  await stubs.call("deleteMessage", { conversationId: id, seq: 1n });
  expect(await seqs(id)).toEqual([2]);
  await catchUp();
  expect(await seqs(id)).toEqual([2]);
  await stubs.call("undeleteMessage", { conversationId: id, seq: 1n });
  await catchUp();
  expect(await seqs(id)).toEqual([1, 2]);
});

test("a roll-back takes the vectors of what it undoes", async () => {
  const id = await sessionWith("my cat", "a flight");
  const { snapshot } = await stubs.call("createSnapshot", { conversationId: id });
  await stubs.call("updateMessage", {
    message: { conversationId: id, seq: 1n, content: "my bread" } as never,
    updateMask: ["content"],
  });
  await stubs.call("addMessage", { conversationId: id, message: newMessage({ content: "later" }) });
  await catchUp();
  expect(await seqs(id)).toEqual([1, 2, 3]);
  const { snapshots } = await stubs.call("listSnapshots", { conversationId: id });
  await stubs.call("restoreSnapshot", {
    conversationId: id,
    snapshotId: (snapshot ?? snapshots[0]!).id,
    mode: 2,
  });
  expect(await seqs(id)).toEqual([2]);
  await catchUp();
  expect(await seqs(id)).toEqual([1, 2]);
});

test("a fork has the vectors of what it takes over", async () => {
  const id = await sessionWith("my cat", "a flight", "later");
  await catchUp();
  const { session } = await stubs.call("forkSession", { conversationId: id, atSeq: 2n });
  expect(await seqs(session!.id)).toEqual([1, 2]);
  await catchUp();
  expect(endpoint.texts).toHaveLength(3);
});

test("a session that is deleted leaves nothing, not even in the queue", async () => {
  const id = await sessionWith("my cat");
  await catchUp();
  await stubs.call("addMessage", { conversationId: id, message: newMessage({ content: "bread" }) });
  await worker.feed(signal);
  expect(await queued()).toHaveLength(1);
  await stubs.call("deleteSession", { conversationId: id });
  expect([await stored(id), await queued()]).toEqual([[], []]);
  await catchUp();
  expect(endpoint.texts).toEqual(["my cat"]);
});

describe("while a vector is being made", () => {
  /** Runs work when the endpoint has been asked, before it answers. */
  async function meanwhile(work: () => Promise<unknown>): Promise<void> {
    while ((await worker.feed(signal)) === 0);
    endpoint.behaviour = async () => {
      endpoint.behaviour = undefined;
      await work();
      return false;
    };
    await worker.embed(signal);
  }

  test("an edit makes it worthless: the message gets that of its new text", async () => {
    const id = await sessionWith("my cat", "a flight");
    await meanwhile(() =>
      stubs.call("updateMessage", {
        message: { conversationId: id, seq: 1n, content: "my bread" } as never,
        updateMask: ["content"],
      }),
    );
    expect(await seqs(id)).toEqual([2]);
    await catchUp();
    expect(endpoint.texts).toEqual(["my cat", "a flight", "my bread"]);
    expect((await stored(id))[0]!.embedding[4]).toBeGreaterThan(0.9);
  });

  test("a deleted message or session gets none", async () => {
    const id = await sessionWith("my cat", "a flight");
    const gone = await sessionWith("bread");
    await meanwhile(async () => {
      await stubs.call("deleteMessage", { conversationId: id, seq: 1n });
      await stubs.call("deleteSession", { conversationId: gone });
    });
    await catchUp();
    expect([await seqs(id), await seqs(gone), await queued()]).toEqual([[2], [], []]);
  });

  test("appends go on, and another worker takes other messages", async () => {
    const id = await sessionWith("my cat");
    const other = workerOf({ url: endpoint.url, model: MODEL });
    await meanwhile(async () => {
      await stubs.call("addMessage", {
        conversationId: id,
        message: newMessage({ content: "bread" }),
      });
      await catchUp(other);
    });
    expect(await seqs(id)).toEqual([1, 2]);
    expect(endpoint.texts).toEqual(["my cat", "bread"]);
  });

  test("a worker that dies leaves its messages to the next one", async () => {
    const id = await sessionWith("my cat");
    const death = new AbortController();
    while ((await worker.feed(signal)) === 0);
    endpoint.behaviour = () => {
      death.abort(new Error("killed"));
      return true;
    };
    await expect(worker.embed(death.signal)).rejects.toThrow("killed");
    endpoint.behaviour = undefined;
    const next = workerOf({ url: endpoint.url, model: MODEL });
    await catchUp(next);
    // It has them until its time is over.
    expect([await seqs(id), await queued()]).toMatchObject([[], [{ seq: 1, failures: 0 }]]);
    await hurry();
    await catchUp(next);
    expect([await seqs(id), await queued()]).toEqual([[1], []]);
  });
});

describe("vectors that callers give", () => {
  const given = (values: number[], model = MODEL) =>
    newMessage({ content: "my cat", embedding: { model, values } });

  test("are stored with the message, and spare the endpoint", async () => {
    const id = await sessionWith();
    const vector = meaningOf("my cat").map((value) => value * 3);
    await stubs.call("addMessages", {
      conversationId: id,
      messages: [given(vector), newMessage({ content: "bread" }), given([1, 2], "mine")],
    });
    expect((await stored(id)).map(({ seq, model }) => [Number(seq), model])).toEqual([
      [1, MODEL],
      [3, "mine"],
    ]);
    await catchUp();
    expect(endpoint.texts).toEqual(["bread", "my cat"]);
    (await stored(id))[0]!.embedding.forEach((value, at) =>
      expect(value).toBeCloseTo(unit("my cat")[at]!, 6),
    );
  });

  test("are part of what a request_id stands for, and are written once", async () => {
    const id = await sessionWith();
    const request = { conversationId: id, message: given([1, 2]), requestId: "a" };
    await stubs.call("addMessage", request);
    expect((await stubs.call("addMessage", request)).replayed).toBe(true);
    expect(await seqs(id)).toEqual([1]);
    await expect(
      stubs.call("addMessage", { ...request, message: given([1, 3]) }),
    ).rejects.toMatchObject({ reason: "REQUEST_ID_REUSED" });
  });

  test.each([
    ["values[1]", [1, Number.NaN]],
    ["values[0]", [Number.POSITIVE_INFINITY, 1]],
    ["values[2]", [1, 1, Number.NEGATIVE_INFINITY]],
    ["values", []],
    ["values", [0, 0]],
    ["values", Array.from({ length: 4_001 }, () => 1)],
  ])("are refused by the name of what is wrong: %s", async (field, values) => {
    const conversationId = await sessionWith();
    await expect(
      stubs.call("addMessage", { conversationId, message: given(values) }),
    ).rejects.toMatchObject({
      reason: "INVALID_FIELD",
      metadata: { field: `message.embedding.${field}` },
    });
    expect(await stored()).toEqual([]);
  });

  test.each(["", "\0", "m".repeat(257)])("need a model, not %j", async (model) => {
    const conversationId = await sessionWith();
    await expect(
      stubs.call("addMessages", { conversationId, messages: [given([1], model)] }),
    ).rejects.toMatchObject({ metadata: { field: "messages[0].embedding.model" } });
  });

  test("may be as long as they may be, and of any size", async () => {
    const conversationId = await sessionWith();
    const message = given(Array.from({ length: 4_000 }, (_, n) => (n % 2 ? 3e38 : -1e-38)));
    await stubs.call("addMessage", { conversationId, message });
    const [row] = await stored();
    expect(Math.hypot(...row!.embedding)).toBeCloseTo(1, 3);
  });
});

test("a server with an endpoint does all of this by itself, and tells how far it is", async () => {
  const embedding = await startServer({
    databaseUrl: database.url,
    embeddings: { url: endpoint.url, model: MODEL, apiKey: "the-key" },
  });
  const caller = new Stubs(embedding.address);
  try {
    const id = await sessionWith("my cat");
    await until("the vector is there", async () => (await seqs(id)).length === 1);
    expect(endpoint.requests[0]!.headers.authorization).toBe("Bearer the-key");
    await until("all is embedded", async () => {
      const status = await adminCall(caller.channel, "getSearchStatus", {});
      return status.embeddingBackfilled && status.pendingEmbeddings === 0n;
    });
    expect(await adminCall(caller.channel, "getSearchStatus", {})).toMatchObject({
      embeddingModel: MODEL,
      embeddingDimensions: 7,
      embeddingIndexed: false,
      embeddingLagMs: 0n,
      failedEmbeddings: 0n,
      embeddingError: "",
    });
  } finally {
    caller.close();
    await embedding.stop();
  }
});

test("a server that is killed in the middle loses nothing, and its log never shows the key", async () => {
  const id = await sessionWith("my cat");
  const env = { ...process.env, AGENTSTORE_EMBEDDINGS_KEY: "the-secret-key" };
  const flags = ["--database-url", database.url, "--log-level", "trace"];
  flags.push("--embeddings-url", endpoint.url, "--embeddings-model", MODEL);
  endpoint.behaviour = () => true;
  const first = await spawnServer(flags, { env });
  await until("the endpoint is asked", () => endpoint.requests.length > 0);
  expect(endpoint.requests[0]!.headers.authorization).toBe("Bearer the-secret-key");
  await first.end("SIGKILL");
  endpoint.behaviour = undefined;
  expect(await queued()).toMatchObject([{ seq: 1, failures: 0 }]);
  const second = await spawnServer(flags, { env });
  try {
    await hurry();
    await until("the vector is there", async () => (await seqs(id)).length === 1);
    expect(first.output() + second.output()).not.toContain("the-secret-key");
  } finally {
    await second.end("SIGTERM");
  }
});

test("a reader that has not read for a week is forgotten, and all is looked through again", async () => {
  await catchUp();
  const readers = () =>
    withClient(database.url, async (client) => {
      const { rowCount } = await client.query(
        "SELECT FROM change_readers WHERE name = 'embeddings'",
      );
      return rowCount;
    });
  const sweeper = new Sweeper(db, makeLogger("silent"), 0);
  await sweeper.sweep(new Date(Date.now() + 6 * 86_400_000), signal);
  expect(await readers()).toBe(1);
  await sweeper.sweep(new Date(Date.now() + 8 * 86_400_000), signal);
  expect(await readers()).toBe(0);
  const id = await sessionWith("my cat");
  await withClient(database.url, (client) => client.query("DELETE FROM session_changes"));
  await catchUp();
  expect(await seqs(id)).toEqual([1]);
});

test("without an endpoint nothing runs", async () => {
  await sessionWith("my cat");
  const status = await adminCall(stubs.channel, "getSearchStatus", {});
  expect(status).toMatchObject({ embeddingModel: "", pendingEmbeddings: 0n });
  const { rows } = await withClient(database.url, (client) =>
    client.query("SELECT name FROM change_readers WHERE name = 'embeddings'"),
  );
  expect(rows).toEqual([]);
});
