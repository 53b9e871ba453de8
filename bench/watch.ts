// Watching: how soon events come, what idle watchers cost, and what watchers cost the appends.
import type { ClientHttp2Session } from "node:http2";
import pg from "pg";
import {
  AddMessageRequest,
  AddMessagesRequest,
  MessageView,
  Role,
} from "../gen/agentstore/v1/messages.js";
import { WatchSessionRequest } from "../gen/agentstore/v1/watch.js";
import { type Context, loadServer, method } from "./lib/context.js";
import type { EventStreamJob, EventStreamResult } from "./lib/event-stream.js";
import { type Figure, Samples } from "./lib/figures.js";
import { fill } from "./lib/fill.js";
import { call, frame, open } from "./lib/grpc.js";
import { cpuMillis, residentBytes } from "./lib/process.js";
import { type BenchServer, startServer } from "./lib/server.js";
import type { WatchJob, WatchResult } from "./lib/watch-client.js";
import { startWorker, type Worker } from "./lib/worker.js";

const WATCHERS = 200;
const PER_SECOND = 100;
const CALLERS = 64;
const APPENDED_CHARACTERS = 500;
/** An event that tells of such an append, about. */
const EVENT_BYTES = APPENDED_CHARACTERS + 60;
const KIB = 1024;
const MIB = 1024 * KIB;

/** Measures the group. */
export async function measureWatches(context: Context): Promise<Figure[]> {
  const { quick, rounds, say, store } = context;
  const idle = quick ? 200 : 2_000;
  const first = await fill(store.databaseUrl(), {
    modelId: "watch",
    sessions: idle,
    messages: 1,
    characters: [200, 800],
  });
  const sessions = Array.from({ length: idle }, (_, n) => first + BigInt(n));
  const samples = new Samples("watch");
  const client = startWorker<WatchJob, WatchResult>("watch-client");
  const streams = startWorker<EventStreamJob, EventStreamResult>("event-stream");
  try {
    // First, while the search index has nothing to catch up with, which is transactions too.
    await idleWatchers(context, client, samples, sessions);
    for (let round = 1; round <= rounds; round++) {
      say(`watch: round ${round} of ${rounds}`);
      await latencies(context, client, samples, "one", sessions.slice(0, 1));
      await latencies(context, client, samples, "spread", sessions.slice(0, WATCHERS));
      await appendsBesides(context, { client, streams }, samples, sessions);
    }
    await stalledWatcher(context, client, samples, sessions.at(-1) ?? first);
  } finally {
    await client.stop();
    await streams.stop();
  }
  return figures(samples, idle);
}

const watchOf = (conversationId: bigint) =>
  WatchSessionRequest.encode({ conversationId, afterRevision: undefined }).finish();

function openJob({ address }: Pick<BenchServer, "address">, watched: bigint[]): WatchJob {
  const requests = watched.map(watchOf);
  return { do: "open", address, path: method("WatchSession"), requests };
}

async function latencies(
  { quick, store }: Context,
  client: Worker<WatchJob, WatchResult>,
  samples: Samples,
  name: string,
  sessions: bigint[],
): Promise<void> {
  const watched = Array.from({ length: WATCHERS }, (_, n) => sessions[n % sessions.length] ?? 0n);
  await client.run(openJob(store, watched));
  const seconds = quick ? 2 : 8;
  const before = [cpuMillis(store.pid), cpuMillis(client.pid)] as const;
  const { address } = store;
  const result = await client.run({
    do: "append",
    address,
    sessions,
    perSecond: PER_SECOND,
    seconds,
  });
  const expected = (PER_SECOND * seconds * WATCHERS) / sessions.length;
  if (result.events !== expected) {
    throw new Error(`${result.events} events came, not ${expected}`);
  }
  samples.add(`p50 ${name}`, result.p50);
  samples.add(`p99 ${name}`, result.p99);
  samples.add(`server cpu ${name}`, (cpuMillis(store.pid) - before[0]) / seconds / 10);
  samples.add(`client cpu ${name}`, (cpuMillis(client.pid) - before[1]) / seconds / 10);
  await client.run({ do: "close" });
}

// Appends without watchers, with watchers of other sessions, with watchers of these, and beside
// streams that bring as many events from nowhere.
async function appendsBesides(
  context: Context,
  {
    client,
    streams,
  }: {
    client: Worker<WatchJob, WatchResult>;
    streams: Worker<EventStreamJob, EventStreamResult>;
  },
  samples: Samples,
  sessions: bigint[],
): Promise<void> {
  const { seconds, store } = context;
  const written = sessions.slice(0, CALLERS);
  const requests = written.map((conversationId) =>
    AddMessageRequest.encode(
      AddMessageRequest.fromPartial({
        conversationId,
        message: { role: Role.USER, content: "x".repeat(APPENDED_CHARACTERS) },
      }),
    ).finish(),
  );
  const load = () =>
    loadServer(context, {
      path: method("AddMessage"),
      requests,
      callers: CALLERS,
      until: { seconds },
    });
  const alone = await load();
  samples.add("appends alone", alone.perSecond);
  samples.add("server micros alone", alone.serverMicros);
  await client.run(openJob(store, sessions.slice(-WATCHERS)));
  samples.add("appends beside idle", (await load()).perSecond);
  await client.run({ do: "close" });
  const watched = Array.from({ length: WATCHERS }, (_, n) => written[n % CALLERS] ?? 0n);
  await client.run(openJob(store, watched));
  const before = cpuMillis(client.pid);
  const watchedLoad = await load();
  samples.add("appends watched", watchedLoad.perSecond);
  samples.add("server micros watched", watchedLoad.serverMicros);
  samples.add("client micros", ((cpuMillis(client.pid) - before) * 1_000) / watchedLoad.calls);
  await client.run({ do: "close" });
  const { address } = await streams.run({ do: "serve" });
  await client.run(openJob({ address }, watched));
  const perSecond = (watchedLoad.perSecond * WATCHERS) / CALLERS;
  const [besideStreams] = await Promise.all([
    load(),
    streams.run({ do: "send", perSecond, bytes: EVENT_BYTES, seconds }),
  ]);
  samples.add("appends beside streams", besideStreams.perSecond);
  await client.run({ do: "close" });
}

// In a server of its own, so that its memory and its queries are theirs.
async function idleWatchers(
  { quick, say, store }: Context,
  client: Worker<WatchJob, WatchResult>,
  samples: Samples,
  sessions: bigint[],
): Promise<void> {
  say(`watch: ${sessions.length} idle watchers`);
  const server = await startServer(store.databaseUrl(), `${store.directory}/watch.log`);
  try {
    // What the first watchers bring along is nobody's in particular.
    await client.run(openJob(server, sessions.slice(0, 50)));
    const before = residentBytes(server.pid);
    const quiet = await queries(store.databaseUrl(), quick);
    await client.run(openJob(server, sessions.slice(50)));
    samples.add("rss", (residentBytes(server.pid) - before) / KIB / (sessions.length - 50));
    samples.add("queries more", (await queries(store.databaseUrl(), quick)) - quiet);
    samples.add("queries", quiet);
    await client.run({ do: "close" });
  } finally {
    await server.stop();
  }
}

// Transactions a second, those of both servers' own housekeeping included.
async function queries(databaseUrl: string, quick: boolean): Promise<number> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  const count = async () => {
    const { rows } = await client.query<{ count: string }>(
      `SELECT xact_commit + xact_rollback AS count FROM pg_stat_database
        WHERE datname = current_database()`,
    );
    return Number(rows[0]?.count);
  };
  // Backends that have nothing to do tell of what they have done after ten seconds.
  await new Promise((resolve) => setTimeout(resolve, quick ? 2_000 : 12_000));
  const before = await count();
  const seconds = quick ? 2 : 15;
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const after = await count();
  await client.end();
  return (after - before) / seconds;
}

async function stalledWatcher(
  { quick, say, store }: Context,
  client: Worker<WatchJob, WatchResult>,
  samples: Samples,
  conversationId: bigint,
): Promise<void> {
  const mib = quick ? 20 : 100;
  say(`watch: ${mib} MiB for a watcher that reads nothing`);
  const server = await startServer(store.databaseUrl(), `${store.directory}/stalled-watch.log`);
  const session = await open(server.address);
  try {
    const write = (content: string, messages = 10) =>
      append(session, conversationId, content, messages);
    // What appends of this size take by themselves is not the watcher's.
    for (let n = 0; n < mib; n++) await write("x".repeat(100 * KIB));
    await client.run(openJob(server, [conversationId]));
    await client.run({ do: "pause" });
    const before = residentBytes(server.pid);
    let most = before;
    for (let n = 0; n < mib; n++) {
      await write("y".repeat(100 * KIB));
      most = Math.max(most, residentBytes(server.pid));
    }
    samples.add("stalled rss", (most - before) / MIB);
    await write("the very last one", 1);
    const { bytes } = await client.run({ do: "resume", until: "the very last one" });
    samples.add("caught up", bytes / MIB);
    await client.run({ do: "close" });
  } finally {
    session.destroy();
    await server.stop();
  }
}

function append(
  session: ClientHttp2Session,
  conversationId: bigint,
  content: string,
  count: number,
): Promise<void> {
  const request = AddMessagesRequest.fromPartial({
    conversationId,
    messages: Array.from({ length: count }, () => ({ role: Role.USER, content })),
    view: MessageView.KEYS,
  });
  const framed = frame(AddMessagesRequest.encode(request).finish());
  return new Promise((resolve, reject) => {
    call(session, method("AddMessages"), framed, ({ code }) => {
      if (code === 0) resolve();
      else reject(new Error(`an append failed with the code ${code}`));
    });
  });
}

function figures(samples: Samples, idle: number): Figure[] {
  const many = `${WATCHERS} watchers, ${PER_SECOND} appends a second`;
  const of = (name: string) => (name === "one" ? "of one session" : "each of its own session");
  const timed = ["one", "spread"].flatMap((name) => [
    samples.value(`answer to event, median, ${many}, ${of(name)}`, "ms", `p50 ${name}`, {
      atMost: 5,
    }),
    samples.value(`the same, p99`, "ms", `p99 ${name}`, { atMost: 50 }),
    samples.value(`the same, CPU of the server`, "%", `server cpu ${name}`),
    samples.value(`the same, CPU of the client`, "%", `client cpu ${name}`),
  ]);
  const alone = { name: "/s without watchers", sample: "appends alone" };
  const goal = { atLeast: 0.9 };
  const beside = `AddMessage, ${CALLERS} callers, ${WATCHERS} watchers`;
  return [
    ...timed,
    samples.ratio(`${beside} of other sessions`, "/s", "appends beside idle", alone, goal),
    samples.ratio(`${beside} of these sessions`, "/s", "appends watched", alone, goal),
    samples.ratio(
      `AddMessage, ${CALLERS} callers, as many events from a server of nothing else`,
      "/s",
      "appends beside streams",
      alone,
    ),
    samples.value("CPU of the server for an append, without watchers", "µs", "server micros alone"),
    samples.value("the same, with those of these sessions", "µs", "server micros watched"),
    samples.value("CPU of the watching client for an append", "µs", "client micros"),
    samples.value(`memory of each of ${idle} idle watchers`, "KiB", "rss"),
    samples.value(`transactions a second with 50 idle watchers`, "/s", "queries"),
    samples.value(`what ${idle} add to that`, "/s", "queries more"),
    samples.value("memory for a watcher that reads nothing", "MiB", "stalled rss"),
    samples.value("what it then catches up with", "MiB", "caught up"),
  ];
}
