// `npm run bench:relevance`: how good the modes of search are on the judged set.
import { parseArgs } from "node:util";
import pg from "pg";
import { AgentStoreClient } from "../../client/index.js";
import { startStore } from "../lib/server.js";
import { readConversations, readQueries } from "./judged-set.js";
import { ndcg } from "./ndcg.js";
import { plainSearches, type Search } from "./plain-sql.js";
import { printScores, type Scores } from "./report.js";

const MODEL = "judged";

const { values: options } = parseArgs({ options: { output: { type: "string" } } });
const say = (text: string) => process.stderr.write(`${text}\n`);

say("starting a server with an embedded Postgres");
const store = await startStore();
const client = new AgentStoreClient(`agentstore://${store.address}`);
const database = new pg.Client(store.databaseUrl());
try {
  await database.connect();
  const keys = await load();
  const scores: Scores[] = [];
  for (const [name, search] of Object.entries(plainSearches(database))) {
    say(name);
    scores.push({ name, values: await score(search, keys) });
  }
  printScores(readQueries(), scores, options.output);
} finally {
  client.close();
  await database.end();
  await store.stop();
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

async function score(search: Search, keys: Map<string, string>): Promise<number[]> {
  const values: number[] = [];
  for (const { query, relevant } of readQueries()) {
    const found = await search(query);
    values.push(
      ndcg(
        found.map((key) => keys.get(key) ?? key),
        relevant,
      ),
    );
  }
  return values;
}
