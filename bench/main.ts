// `npm run bench`: measures the groups against an embedded store and prints the result.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { projectRoot } from "../server/paths.js";
import { measureAppends } from "./append.js";
import { measureAudit } from "./audit.js";
import { measureForks } from "./forks.js";
import type { Context } from "./lib/context.js";
import type { Figure } from "./lib/figures.js";
import type { LoadJob, LoadResult } from "./lib/load-client.js";
import { pgbenchVersion } from "./lib/pgbench.js";
import { describeMachine, printTable, writeJson } from "./lib/report.js";
import { startStore } from "./lib/server.js";
import { startWorker } from "./lib/worker.js";
import { measureLists } from "./lists.js";
import { measureSearch } from "./search.js";
import { measureStreams } from "./stream.js";
import { measureWatches } from "./watch.js";

const GROUPS = {
  append: measureAppends,
  stream: measureStreams,
  lists: measureLists,
  forks: measureForks,
  audit: measureAudit,
  search: measureSearch,
  watch: measureWatches,
};

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string", multiple: true, default: Object.keys(GROUPS) },
    rounds: { type: "string" },
    output: { type: "string" },
  },
});
const unknown = options.only.find((name) => !(name in GROUPS));
if (unknown) throw new Error(`no group ${unknown}; there are ${Object.keys(GROUPS).join(", ")}`);
if (process.platform !== "linux") throw new Error("the benchmark reads /proc: it needs Linux");

const started = new Date();
const { quick } = options;
const say = (text: string) =>
  process.stderr.write(`[${((Date.now() - started.getTime()) / 1000).toFixed(0)} s] ${text}\n`);
say("starting a server with an embedded Postgres");
const store = await startStore();
const load = startWorker<LoadJob, LoadResult>("load-client");
try {
  const context: Context = {
    quick,
    store,
    load,
    rounds: Number(options.rounds ?? (quick ? 1 : 5)),
    seconds: quick ? 1 : 3,
    pgbench: await pgbenchVersion(),
    say,
  };
  const machine = await describeMachine(store.databaseUrl());
  const figures: Figure[] = [];
  for (const name of Object.keys(GROUPS) as (keyof typeof GROUPS)[]) {
    if (options.only.includes(name)) figures.push(...(await GROUPS[name](context)));
  }
  printTable(machine, figures);
  const stamp = started.toISOString().replaceAll(/[:.]/g, "-");
  const file = options.output ?? join(projectRoot, "bench/results", `bench-${stamp}.json`);
  const { rounds, seconds } = context;
  writeJson(file, { started, quick, rounds, seconds, machine, figures });
  process.stdout.write(`\nwritten to ${file}\n`);
} finally {
  await load.stop();
  await store.stop();
}
