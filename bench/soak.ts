// `npm run bench:soak -- --minutes N`: mixed load at 80 % of the top rate, watched over time.
import { join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { projectRoot } from "../server/paths.js";
import { Samples } from "./lib/figures.js";
import { fill } from "./lib/fill.js";
import { cpuMillis, residentBytes } from "./lib/process.js";
import { describeMachine, printTable, writeJson } from "./lib/report.js";
import { startStore } from "./lib/server.js";
import type { SoakJob, SoakResult } from "./lib/soak-client.js";
import { SOAK_MODEL } from "./lib/soak-model.js";
import { median } from "./lib/stats.js";
import { startWorker } from "./lib/worker.js";

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    share: { type: "string", default: "0.8" },
    output: { type: "string" },
  },
});
const minutes = Number(options.minutes);
const share = Number(options.share);
if (!(minutes > 0 && share > 0 && share <= 1)) {
  throw new Error("--minutes is a number above 0, --share one above 0 and up to 1");
}
const SESSIONS = 1_000;
const CALLERS = 64;
const MIB = 1024 * 1024;
/** One line of the course. */
const SLICE_SECONDS = Math.max(2, Math.min(30, (minutes * 60) / 40));
const TOP_SECONDS = Math.min(20, Math.max(3, minutes * 4));

interface Slice {
  minute: number;
  residentMiB: number;
  serverCores: number;
  perSecond: number;
  p50: number;
  p99: number;
  longest: number;
  failed: number;
}

const started = new Date();
const print = (line: string) => process.stdout.write(`${line}\n`);
const store = await startStore();
const client = startWorker<SoakJob, SoakResult>("soak-client");
try {
  const first = await fill(store.databaseUrl(), {
    modelId: SOAK_MODEL,
    sessions: SESSIONS,
    messages: 0,
    characters: [200, 800],
  });
  const load = { do: "load" as const, address: store.address, first, sessions: SESSIONS };
  await client.run({ ...load, seconds: TOP_SECONDS / 2, pace: { callers: CALLERS } });
  const top = await client.run({ ...load, seconds: TOP_SECONDS, pace: { callers: CALLERS } });
  const perSecond = Math.floor(top.perSecond * share);
  print(
    `top rate ${Math.round(top.perSecond)} calls/s with ${CALLERS} callers; now ${perSecond}/s`,
  );
  print("minute  RSS MiB  cores  calls/s  p50 ms  p99 ms  longest ms  failed");
  const slices: Slice[] = [];
  const begun = Date.now();
  while (Date.now() - begun < minutes * 60_000) {
    const cpu = cpuMillis(store.pid);
    const from = Date.now();
    const result = await client.run({ ...load, seconds: SLICE_SECONDS, pace: { perSecond } });
    const slice: Slice = {
      minute: (Date.now() - begun) / 60_000,
      residentMiB: residentBytes(store.pid) / MIB,
      serverCores: (cpuMillis(store.pid) - cpu) / (Date.now() - from),
      ...pick(result),
    };
    slices.push(slice);
    print(line(slice));
  }
  const samples = new Samples("soak");
  const steady = slices.slice(Math.ceil(slices.length / 5));
  const quarter = Math.ceil(steady.length / 4);
  const memory = (part: Slice[]) => median(part.map(({ residentMiB }) => residentMiB));
  samples.add("memory after warm-up", memory(steady.slice(0, quarter)));
  samples.add("memory at the end", memory(steady.slice(-quarter)));
  samples.add("p99", median(steady.map(({ p99 }) => p99)));
  samples.add("errors", sum(slices.map(({ failed }) => failed)) + top.failed);
  const { acknowledged } = await client.run({ do: "numbers" });
  const kept = await check(store.databaseUrl(), acknowledged);
  samples.add("acknowledged", kept.acknowledged);
  samples.add("lost", kept.lost);
  samples.add("doubled", kept.doubled);
  samples.add("uneven", kept.unevenSessions);
  const figures = [
    samples.ratio(
      "server memory in the last quarter",
      "MiB",
      "memory at the end",
      { name: "MiB after the warm-up", sample: "memory after warm-up" },
      { atMost: 1.05 },
    ),
    samples.value("p99 from when the call was due", "ms", "p99"),
    samples.value("errors", "calls", "errors", { atMost: 0 }),
    samples.value("acknowledged messages", "", "acknowledged"),
    samples.value("lost messages", "", "lost", { atMost: 0 }),
    samples.value("doubled messages", "", "doubled", { atMost: 0 }),
    samples.value("sessions whose seqs or counters do not fit", "", "uneven", { atMost: 0 }),
  ];
  const machine = await describeMachine(store.databaseUrl());
  printTable(machine, figures);
  const stamp = started.toISOString().replaceAll(/[:.]/g, "-");
  const file = options.output ?? join(projectRoot, "bench/results", `soak-${stamp}.json`);
  writeJson(file, {
    started,
    minutes,
    topPerSecond: top.perSecond,
    perSecond,
    machine,
    figures,
    slices,
  });
  print(`\nwritten to ${file}`);
} finally {
  await client.stop();
  await store.stop();
}

function pick({ perSecond, p50, p99, longest, failed }: SoakResult) {
  return { perSecond, p50, p99, longest, failed };
}

function line({ minute, residentMiB, serverCores, perSecond, p50, p99, longest, failed }: Slice) {
  return [
    minute.toFixed(1).padStart(6),
    residentMiB.toFixed(0).padStart(7),
    serverCores.toFixed(2).padStart(5),
    perSecond.toFixed(0).padStart(7),
    p50.toFixed(1).padStart(6),
    p99.toFixed(1).padStart(6),
    longest.toFixed(0).padStart(10),
    String(failed).padStart(6),
  ].join("  ");
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Compares what was acknowledged with what is there. */
async function check(databaseUrl: string, acknowledged: Uint8Array) {
  const db = new pg.Client(databaseUrl);
  await db.connect();
  const times = new Uint8Array(acknowledged.length);
  await db.query("BEGIN");
  await db.query(
    `DECLARE numbers CURSOR FOR
       SELECT split_part(left(m.content, 20), ' ', 1)::int AS number
         FROM conversation_messages m JOIN conversations c ON c.id = m.conversation_id
        WHERE c.model_id = '${SOAK_MODEL}'`,
  );
  for (;;) {
    const { rows } = await db.query<{ number: number }>("FETCH 20000 FROM numbers");
    if (rows.length === 0) break;
    for (const { number } of rows) times[number] = (times[number] ?? 0) + 1;
  }
  const { rows } = await db.query<{ uneven: string }>(
    `SELECT count(*) AS uneven
       FROM conversations c
       LEFT JOIN (SELECT conversation_id, count(*) AS messages, max(seq) AS last
                    FROM conversation_messages GROUP BY conversation_id) m
         ON m.conversation_id = c.id
      WHERE c.model_id = '${SOAK_MODEL}'
        AND (c.message_count, c.last_seq)
            IS DISTINCT FROM (coalesce(m.messages, 0), coalesce(m.last, 0))`,
  );
  await db.query("COMMIT");
  await db.end();
  const count = (fits: (number: number) => boolean) =>
    acknowledged.reduce((total, _, number) => total + (fits(number) ? 1 : 0), 0);
  return {
    acknowledged: count((number) => acknowledged[number] === 1),
    lost: count((number) => acknowledged[number] === 1 && times[number] === 0),
    doubled: count((number) => (times[number] ?? 0) > 1),
    unevenSessions: Number(rows[0]?.uneven),
  };
}
