// Search on Citus, without Citus: a stand-in of its catalog has the server ask as it does there, and what
// it finds is held against what is there. citus-real.test.ts does the same on a Citus.
import { afterAll, beforeAll, test } from "vitest";
import { EmbeddingsServer } from "../harness/embeddings-server.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { stopIndexer } from "../harness/search.js";
import { assertSearchesAgree } from "../harness/searched-life.js";
import { STAND_IN } from "../harness/stand-in-citus.js";

let database: TestDatabase;
let endpoint: EmbeddingsServer;

beforeAll(async () => {
  database = await createDatabase();
  await withClient(database.url, (client) => client.query(STAND_IN));
  endpoint = await EmbeddingsServer.start();
});

afterAll(async () => {
  await endpoint.stop();
  await database.drop();
});

test("searches of all modes find what is there, indexed or not", async () => {
  await assertSearchesAgree(database.url, {
    endpoint,
    stopIndexer: () => stopIndexer(database.url),
  });
}, 120_000);
