// Reading sessions: streams against plain `pg`, first pages, last pages, and a reader that stalls.
import { GetMessagesRequest, StreamMessagesRequest } from "../gen/agentstore/v1/messages.js";
import { type Context, loadServer, method } from "./lib/context.js";
import { type Figure, Samples } from "./lib/figures.js";
import { fill } from "./lib/fill.js";
import { residentBytes } from "./lib/process.js";
import type { ReadJob, ReadResult } from "./lib/row-reader.js";
import { startServer } from "./lib/server.js";
import type { TypedReadJob } from "./lib/typed-reader.js";
import { startWorker } from "./lib/worker.js";

const PAGE_SIZE = 1_000;
const CURSOR_ROWS = 500;
const MIB = 1024 * 1024;

interface Sessions {
  hundred: bigint;
  thousand: bigint;
  streamed: bigint;
  largest: bigint;
}

/** Measures the group. */
export async function measureStreams(context: Context): Promise<Figure[]> {
  const { quick, rounds, say, store } = context;
  const streamed = quick ? 20_000 : 100_000;
  const largest = quick ? 50_000 : 1_000_000;
  say(`stream: filling sessions of up to ${largest} messages`);
  const session = (messages: number) =>
    fill(store.databaseUrl(), {
      modelId: "stream",
      sessions: 1,
      messages,
      characters: [200, 800],
    });
  const sessions: Sessions = {
    hundred: await session(100),
    thousand: await session(1_000),
    streamed: await session(streamed),
    largest: await session(largest),
  };
  const samples = new Samples("stream");
  const plain = startWorker<ReadJob, ReadResult>("row-reader");
  const typed = startWorker<TypedReadJob, ReadResult>("typed-reader");
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    say(`stream: round ${round} of ${rounds}`);
    const counted = round === 0 ? new Samples("warm-up") : samples;
    const readPlain = () =>
      plain.run({
        databaseUrl: store.databaseUrl(),
        conversationId: sessions.streamed,
        fetch: CURSOR_ROWS,
      });
    const readTyped = (pages: boolean) =>
      typed.run({
        address: store.address,
        conversationId: sessions.streamed,
        pageSize: PAGE_SIZE,
        pages,
      });
    const cursor = await readPlain();
    counted.add("cursor rate", cursor.rows / cursor.seconds);
    counted.add("cursor cpu", (cursor.cpuMs * 1000) / cursor.rows);
    const wire = await loadServer(context, {
      path: method("StreamMessages"),
      requests: [stream(sessions.streamed, PAGE_SIZE)],
      callers: 1,
      until: { calls: 3 },
    });
    counted.add("wire rate", wire.perSecond * streamed);
    counted.add("wire cpu", wire.serverMicros / streamed);
    const pages = await readTyped(true);
    counted.add("typed rate", pages.rows / pages.seconds);
    const each = await readTyped(false);
    counted.add("typed each rate", each.rows / each.seconds);
    if (cursor.rows !== streamed || pages.rows !== streamed || each.rows !== streamed) {
      throw new Error(`not all of ${streamed} messages were read`);
    }
    await pageLatencies(context, counted, sessions);
  }
  await plain.stop();
  await typed.stop();
  await stalledReaders(context, samples, sessions);
  return figures(samples, streamed, largest);
}

async function pageLatencies(context: Context, samples: Samples, sessions: Sessions) {
  const calls = context.quick ? 20 : 50;
  const firstPage = async (name: string, id: bigint) => {
    const { p50 } = await loadServer(context, {
      path: method("StreamMessages"),
      requests: [stream(id, 0)],
      callers: 1,
      until: { calls },
      firstMessageOnly: true,
    });
    samples.add(`first page ${name}`, p50);
  };
  await firstPage("of 1,000", sessions.thousand);
  await firstPage("of the largest", sessions.largest);
  const lastMessages = async (name: string, id: bigint) => {
    const request = GetMessagesRequest.fromPartial({ conversationId: id, lastN: 20n });
    const { p50, serverMicros } = await loadServer(context, {
      path: method("GetMessages"),
      requests: [GetMessagesRequest.encode(request).finish()],
      callers: 1,
      until: { calls: calls * 6 },
    });
    samples.add(`last 20 ${name}`, p50);
    samples.add(`last 20 cpu ${name}`, serverMicros);
  };
  await lastMessages("of 100", sessions.hundred);
  await lastMessages("of the largest", sessions.largest);
}

// In a server of its own, which has read a session before: what a reader adds to it shows in full.
async function stalledReaders(context: Context, samples: Samples, { streamed }: Sessions) {
  const { load, quick, say, store } = context;
  const server = await startServer(store.databaseUrl(), `${store.directory}/stalled.log`);
  const request = {
    path: method("StreamMessages"),
    requests: [stream(streamed, PAGE_SIZE)],
  };
  try {
    await loadServer(context, { ...request, callers: 1, until: { calls: 5 } }, server);
    for (const readers of [1, 8]) {
      say(`stream: ${readers} stalled readers`);
      const before = residentBytes(server.pid);
      let most = before;
      const watch = setInterval(() => {
        most = Math.max(most, residentBytes(server.pid));
      }, 50);
      const { failed } = await load.run({
        ...request,
        address: server.address,
        callers: readers,
        until: { seconds: quick ? 2 : 5 },
        stalled: true,
      });
      clearInterval(watch);
      if (failed > 0) throw new Error(`${failed} stalled streams were ended by the server`);
      samples.add(`stalled ${readers}`, (most - before) / MIB);
    }
  } finally {
    await server.stop();
  }
}

function figures(samples: Samples, streamed: number, largest: number): Figure[] {
  const n = streamed.toLocaleString("en-US");
  const most = largest.toLocaleString("en-US");
  const cursor = { name: "rows/s pg cursor", sample: "cursor rate" };
  return [
    samples.ratio(
      `server CPU of StreamMessages, ${n} messages`,
      "µs a row",
      "wire cpu",
      { name: "µs a row, pg cursor", sample: "cursor cpu" },
      { atMost: 0.7 },
    ),
    samples.ratio("into a reader that decodes nothing", "rows/s", "wire rate", cursor, {
      atLeast: 1.2,
    }),
    samples.ratio("into the typed client, by pages", "rows/s", "typed rate", cursor, {
      atLeast: 0.6,
    }),
    samples.ratio("into the typed client, by messages", "rows/s", "typed each rate", cursor),
    samples.ratio(
      `time to the first page of ${most} messages`,
      "ms",
      "first page of the largest",
      { name: "ms of 1,000", sample: "first page of 1,000" },
      { atMost: 1.5 },
    ),
    samples.ratio(
      `GetMessages last 20 of ${most} messages`,
      "ms",
      "last 20 of the largest",
      { name: "ms of 100", sample: "last 20 of 100" },
      { atMost: 1.2 },
    ),
    samples.ratio("its server CPU", "µs", "last 20 cpu of the largest", {
      name: "µs of 100",
      sample: "last 20 cpu of 100",
    }),
    samples.value(`server memory for a stalled reader of ${n} messages`, "MiB", "stalled 1", {
      atMost: 32,
    }),
    samples.value("the same for 8 of them", "MiB", "stalled 8"),
  ];
}

function stream(conversationId: bigint, pageSize: number): Uint8Array {
  const request = StreamMessagesRequest.fromPartial({ conversationId, pageSize });
  return StreamMessagesRequest.encode(request).finish();
}
