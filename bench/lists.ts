// Lists and statistics: a store of very many sessions against one of few.
import pg from "pg";
import { AgentStoreClient } from "../client/index.js";
import { GetSessionStatsRequest, ListSessionsRequest } from "../gen/agentstore/v1/sessions.js";
import { type Context, loadServer, method } from "./lib/context.js";
import { type Figure, Samples } from "./lib/figures.js";
import { fill } from "./lib/fill.js";
import { type BenchServer, startServer } from "./lib/server.js";

const MODEL = "lists";
const PAGE_SIZE = 50;

interface Size {
  name: string;
  sessions: number;
  server: BenchServer;
  firstSession: bigint;
  /** Where the last page but a few begins. */
  lateToken: string;
}

/** Measures the group. */
export async function measureLists(context: Context): Promise<Figure[]> {
  const { quick, rounds, say } = context;
  const many = quick ? 20_000 : 1_000_000;
  const samples = new Samples("lists");
  const sizes: Size[] = [];
  try {
    for (const sessions of [1_000, many]) {
      say(`lists: filling a store of ${sessions} sessions`);
      sizes.push(await prepare(context, sessions));
    }
    // The first round warms up and is not counted.
    for (let round = 0; round <= rounds; round++) {
      say(`lists: round ${round} of ${rounds}`);
      const counted = round === 0 ? new Samples("warm-up") : samples;
      for (const size of sizes) await measure(context, counted, size);
    }
  } finally {
    for (const { server } of sizes) await server.stop();
  }
  const n = many.toLocaleString("en-US");
  const line = (name: string, sample: string) =>
    samples.ratio(
      `${name}, ${n} sessions`,
      "ms",
      `${sample} ${many}`,
      { name: "ms, 1,000 sessions", sample: `${sample} 1000` },
      { atMost: 1.5 },
    );
  return [
    line(`ListSessions, first page of ${PAGE_SIZE}`, "list"),
    line("ListSessions, a late page", "late list"),
    line("GetSessionStats", "stats"),
  ];
}

async function prepare({ store }: Context, sessions: number): Promise<Size> {
  const name = `lists_${sessions}`;
  const admin = new pg.Client(store.databaseUrl());
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name}`);
  await admin.end();
  const server = await startServer(store.databaseUrl(name), `${store.directory}/${name}.log`);
  const firstSession = await fill(store.databaseUrl(name), {
    modelId: MODEL,
    sessions,
    messages: 2,
    characters: [50, 150],
  });
  const client = new AgentStoreClient(`agentstore://${server.address}`);
  let lateToken = "";
  // As far as a fifth of the store and 100,000 sessions, so that both have a page behind it.
  for (let seen = 0; seen < Math.min(sessions / 5, 100_000); seen += PAGE_SIZE) {
    const page = await client.listSessions(MODEL, { pageSize: PAGE_SIZE, pageToken: lateToken });
    lateToken = page.nextPageToken;
  }
  client.close();
  return { name, sessions, server, firstSession, lateToken };
}

async function measure(context: Context, samples: Samples, size: Size): Promise<void> {
  const { sessions, server, firstSession, lateToken } = size;
  const calls = context.quick ? 100 : 300;
  const time = async (name: string, path: string, requests: Uint8Array[]) => {
    const load = { path: method(path), requests, callers: 1, until: { calls } };
    samples.add(`${name} ${sessions}`, (await loadServer(context, load, server)).p50);
  };
  const list = (pageToken: string) =>
    ListSessionsRequest.encode({ modelId: MODEL, pageSize: PAGE_SIZE, pageToken }).finish();
  await time("list", "ListSessions", [list("")]);
  await time("late list", "ListSessions", [list(lateToken)]);
  // Sessions from all over the store.
  const stats = Array.from({ length: 100 }, (_, n) => {
    const conversationId = firstSession + BigInt(Math.floor((n * sessions) / 100));
    return GetSessionStatsRequest.encode({ conversationId }).finish();
  });
  await time("stats", "GetSessionStats", stats);
}
