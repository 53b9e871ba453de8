// Search: what a query costs by how common it is, beside a scan; and what its index costs.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { AgentStoreClient, type SearchMessagesOptions } from "../client/index.js";
import { AddMessageRequest, Role } from "../gen/agentstore/v1/messages.js";
import { type Context, loadServer, method } from "./lib/context.js";
import { Corpus, inventedChinese, inventedWord } from "./lib/corpus.js";
import { type Figure, Samples } from "./lib/figures.js";
import { copy } from "./lib/fill.js";
import { type BenchServer, startServer } from "./lib/server.js";
import { median } from "./lib/stats.js";

const LARGE_MODEL = "large";
const SESSION_MESSAGES = 20;
/** Callers of the appends that are measured with the indexer and without. */
const CALLERS = 64;
/** Queries of a kind that are also answered by a scan: these take half a second each. */
const SCANS = 2;

/** A store full of conversations, four fifths of them of one model, two fifths Chinese. */
export interface SearchStore {
  server: BenchServer;
  databaseUrl: string;
  messages: number;
  /** Messages a second that the indexer put into the index. */
  indexRate: number;
  /** Bytes of the messages, and of what they are found by. */
  bytes: { messages: number; index: number };
}

/** Measures the group. */
export async function measureSearch(context: Context): Promise<Figure[]> {
  const { quick, say, store } = context;
  const admin = new pg.Client(store.databaseUrl());
  await admin.connect();
  await admin.query("CREATE DATABASE search");
  await admin.end();
  const server = await startServer(store.databaseUrl("search"), `${store.directory}/search.log`);
  try {
    const messages = quick ? 6_000 : 300_000;
    say(`search: filling a store of ${messages} messages, and its index`);
    const filled = await fillAndIndex(server, store.databaseUrl("search"), messages);
    return [...(await measureQueries(context, filled)), ...(await measureIndexer(context, filled))];
  } finally {
    await server.stop();
  }
}

/** Fills a store and waits until all of it is indexed. */
export async function fillAndIndex(
  server: BenchServer,
  databaseUrl: string,
  messages: number,
): Promise<SearchStore> {
  const database = new pg.Client(databaseUrl);
  await database.connect();
  try {
    const stopped = await stopIndexer(databaseUrl);
    await database.query(
      `INSERT INTO models (id) SELECT '${LARGE_MODEL}'
        UNION ALL SELECT 'small-' || n FROM generate_series(0, 9) AS n ON CONFLICT DO NOTHING`,
    );
    await database.query("SET session_replication_role = replica");
    const sessions = messages / SESSION_MESSAGES;
    await copy(
      database,
      "COPY conversations (id, model_id, last_seq, revision, message_count) FROM STDIN",
      sessionRows(sessions),
    );
    await copy(
      database,
      `COPY conversation_messages (conversation_id, seq, role, content, ts_ms, revision)
       FROM STDIN`,
      messageRows(sessions),
    );
    await database.query("SELECT setval('conversations_id_seq', $1)", [sessions]);
    await database.query("VACUUM (ANALYZE) conversations, conversation_messages");
    await database.query("UPDATE search_backfill SET conversation_id = $1", [sessions + 1]);
    await stopped.release();
    const started = performance.now();
    for (let left = true; left; await sleep(50)) {
      const { rows } = await database.query<{ left: boolean }>(
        "SELECT conversation_id > 0 AS left FROM search_backfill",
      );
      left = rows[0]?.left ?? false;
    }
    const indexRate = messages / ((performance.now() - started) / 1000);
    await database.query("VACUUM (ANALYZE) message_search");
    const { rows } = await database.query<{ messages: string; index: string }>(
      `SELECT pg_total_relation_size('conversation_messages') AS messages,
              pg_total_relation_size('message_search') AS index`,
    );
    const bytes = { messages: Number(rows[0]?.messages), index: Number(rows[0]?.index) };
    return { server, databaseUrl, messages, indexRate, bytes };
  } finally {
    await database.end();
  }
}

function* sessionRows(sessions: number): Generator<string> {
  for (let id = 1; id <= sessions; id++) {
    const model = id % 5 === 0 ? `small-${(id / 5) % 10}` : LARGE_MODEL;
    yield `${id}\t${model}\t${SESSION_MESSAGES}\t${SESSION_MESSAGES + 1}\t${SESSION_MESSAGES}\n`;
  }
}

function* messageRows(sessions: number): Generator<string> {
  const corpus = new Corpus(1);
  for (let id = 1; id <= sessions; id++) {
    for (let seq = 1; seq <= SESSION_MESSAGES; seq++) {
      const text = corpus.message(id % 10 < 6 ? "english" : "chinese");
      const escaped = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t");
      const role = seq % 2 === 1 ? "user" : "assistant";
      const time = Date.UTC(2026, 0, 1) + id * 1_000 * seq;
      yield `${id}\t${seq}\t${role}\t${escaped}\t${time}\t${seq + 1}\n`;
    }
  }
}

/** Queries by their kind. */
function queriesByKind(): [kind: string, queries: string[]][] {
  const corpus = new Corpus(2);
  const ranks = [9_000, 17_000, 33_000, 71_000];
  const long = (language: "english" | "chinese") =>
    Array.from({ length: 4 }, () => corpus.sentence(language));
  return [
    ["common, English", ["flight", "reservation", "the user", "confirm"]],
    ["rare, English", ranks.map(inventedWord)],
    ["absent, English", ["xylophonist", "qqxzv", "brontosaurus", "kwyjibo"]],
    ["1 character, Latin", ["e", "q", "z", "4"]],
    ["2 characters, Latin", ["th", "zq", "qx", "fl"]],
    ["a sentence, English", long("english")],
    ["common, Chinese", ["可以", "一个", "信息", "需要"]],
    ["rare, Chinese", ranks.map(inventedChinese)],
    ["absent, Chinese", ["鿃鿂", "龘龘龘", "鿀的鿁", "麤鑫麤"]],
    ["1 character, Chinese", ["的", "我", "龍", "鿃"]],
    ["a sentence, Chinese", long("chinese")],
    ["several words, English", ["cancel flight refund", "basic economy cabin change", "gift card"]],
    ["several words, Chinese", ["苹果香蕉", "随机数程序", "天气预报查询"]],
  ];
}

const MODES: [name: string, options: SearchMessagesOptions][] = [
  ["SUBSTRING", {}],
  ["FULL_TEXT", { mode: "full_text" }],
  ["FULL_TEXT, newest first", { mode: "full_text", order: "newest_first" }],
];

/** Measures the queries, in the large model, a small one and all of them. */
export async function measureQueries(context: Context, store: SearchStore): Promise<Figure[]> {
  const { quick, say } = context;
  const samples = new Samples("search");
  const client = new AgentStoreClient(`agentstore://${store.server.address}`);
  const database = new pg.Client(store.databaseUrl);
  await database.connect();
  const kinds = queriesByKind();
  const worst = new Map<string, number>();
  const slowest = new Map<string, number>();
  try {
    for (const [kind, queries] of kinds) {
      say(`search: ${kind}`);
      const scans: number[] = [];
      for (const query of queries.slice(0, SCANS)) {
        scans.push(await time(() => scan(database, query)));
      }
      samples.add(`scan ${kind}`, median(scans));
      for (const [mode, options] of MODES) {
        const times: number[] = [];
        for (const query of queries) {
          for (const model of [LARGE_MODEL, "small-3", ""]) {
            const search = () => client.searchPage(model, query, options);
            // Once for what is not in memory yet.
            await search();
            for (let n = 0; n < (quick ? 1 : 5); n++) times.push(await time(search));
          }
        }
        samples.add(`${mode} ${kind}`, median(times));
        worst.set(mode, Math.max(worst.get(mode) ?? 0, ...times));
        slowest.set(mode, Math.max(slowest.get(mode) ?? 0, median(times)));
      }
    }
  } finally {
    client.close();
    await database.end();
  }
  const figures = MODES.flatMap(([mode]) =>
    kinds.map(([kind]) =>
      samples.ratio(`${mode}: ${kind}`, "ms", `${mode} ${kind}`, {
        name: "ms, a scan",
        sample: `scan ${kind}`,
      }),
    ),
  );
  for (const [mode] of MODES) {
    samples.add(`${mode} slowest`, slowest.get(mode) ?? 0);
    samples.add(`${mode} worst`, worst.get(mode) ?? 0);
    figures.push(
      samples.value(`${mode}: the slowest kind`, "ms", `${mode} slowest`, { atMost: 20 }),
      samples.value(`${mode}: the slowest call`, "ms", `${mode} worst`, { atMost: 100 }),
    );
  }
  return figures;
}

async function scan(database: pg.Client, query: string): Promise<void> {
  await database.query(
    `SELECT m.* FROM conversation_messages AS m JOIN conversations AS c ON c.id = m.conversation_id
      WHERE c.tenant_id = 'default' AND c.model_id = $1 AND m.content ILIKE $2
        AND m.deleted_at IS NULL
      ORDER BY m.ts_ms DESC NULLS LAST, m.id DESC LIMIT 20`,
    [LARGE_MODEL, `%${query.replace(/[\\%_]/g, "\\$&")}%`],
  );
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** Measures what the index costs: to make it, to keep it while appends come, and on the disk. */
export async function measureIndexer(context: Context, store: SearchStore): Promise<Figure[]> {
  const { rounds, seconds, say } = context;
  const { server, databaseUrl, indexRate, bytes } = store;
  const samples = new Samples("search");
  const corpus = new Corpus(3);
  const requests = Array.from({ length: CALLERS * 4 }, (_, n) =>
    AddMessageRequest.encode(
      AddMessageRequest.fromPartial({
        conversationId: BigInt(1 + (n % CALLERS)),
        message: { role: Role.USER, content: corpus.message(n % 5 < 3 ? "english" : "chinese") },
      }),
    ).finish(),
  );
  const job = { path: method("AddMessage"), requests, callers: CALLERS, until: { seconds } };
  await loadServer(context, job, server);
  for (let round = 1; round <= rounds; round++) {
    say(`search: appends, round ${round} of ${rounds}`);
    // In turn first and second, so that neither has the other's debris to clear away.
    for (const indexed of round % 2 === 0 ? [true, false] : [false, true]) {
      const stopped = indexed ? undefined : await stopIndexer(databaseUrl);
      const { perSecond } = await loadServer(context, job, server);
      await stopped?.release();
      samples.add(indexed ? "with" : "without", perSecond);
    }
  }
  samples.add("index rate", indexRate);
  samples.add("index bytes", bytes.index / bytes.messages);
  return [
    samples.ratio(
      `AddMessage, ${CALLERS} callers, while messages are indexed`,
      "/s",
      "with",
      { name: "/s, no index kept", sample: "without" },
      { atLeast: 0.9 },
    ),
    samples.value("messages indexed, nothing else to do", "/s", "index rate"),
    samples.value("the index on the disk, times the messages", "", "index bytes"),
  ];
}

/**
 * Stops the indexers of all servers: they find no position to go on from. No lock is held meanwhile, as
 * old versions of rows cannot be cleared away behind an open transaction.
 */
async function stopIndexer(databaseUrl: string): Promise<{ release(): Promise<void> }> {
  const rename = async (from: string, to: string) => {
    const client = new pg.Client(databaseUrl);
    await client.connect();
    await client.query("UPDATE change_readers SET name = $2 WHERE name = $1", [from, to]);
    await client.end();
  };
  await rename("search", "stopped");
  return { release: () => rename("stopped", "search") };
}
