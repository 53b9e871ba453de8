// `npm run bench:peers`: the work that other stores of conversations share with AgentStore.
import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import pg from "pg";
import { projectRoot } from "../server/paths.js";
import { type Figure, Samples } from "./lib/figures.js";
import type { PeerJob, Work } from "./lib/line-jobs.js";
import { describeMachine, printTable, writeJson } from "./lib/report.js";
import { type BenchStore, startStore } from "./lib/server.js";
import { median } from "./lib/stats.js";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    install: { type: "boolean", default: false },
    output: { type: "string" },
  },
});

const DIRECTORY = join(projectRoot, "bench/peers");
/** Beside what is compiled: neither is checked in, linted or formatted. */
const VENV = join(projectRoot, "bench/dist/venv");
const PYTHON = join(VENV, "bin/python");
const OWN = "AgentStore";
const PEERS = [
  { name: "LangGraph JS PostgresSaver", file: "langgraph.mjs" },
  { name: "LangChain JS PostgresChatMessageHistory", file: "langchain.mjs" },
  { name: "Mastra @mastra/pg", file: "mastra.mjs" },
  { name: "OpenAI Agents SQLAlchemySession", file: "openai_agents.py" },
  { name: "Google ADK DatabaseSessionService", file: "google_adk.py" },
  { name: "LangGraph Python PostgresSaver", file: "langgraph_python.py" },
];
const WARM_UPS = options.quick ? 1 : 3;
/** How long each read is repeated in a round of warming up, at the least. */
const WARM_UP_MS = options.quick ? 0 : 300;
const rounds = options.quick ? 1 : 5;
/** Calls of each work in each round; fewer where one may take seconds. */
const CALLS = options.quick ? 3 : 8;
const CALLS_AT_LENGTH = options.quick ? 1 : 2;
/** Enough sessions that appending does not make another size of them. */
const SIZES = [
  { messages: 10, sessions: (rounds + WARM_UPS) * CALLS },
  { messages: 1_000, sessions: 5 },
  { messages: 10_000, sessions: 2 },
];
const LISTED = options.quick ? 1_000 : 10_000;
const TITLES: Record<Work, string> = {
  append: "append a turn of 6 messages to a session of",
  last: "load the last 20 of",
  all: "load all of",
  list: "list 50 sessions of",
  nothing: "a call that does nothing, through the same client",
};

interface Answer {
  works?: Work[];
  millis?: number[];
  error?: string;
}

interface RunningPeer {
  name: string;
  works: Work[];
  ask(job: PeerJob): Promise<Answer>;
  end(): void;
}

const started = new Date();
const say = (text: string) => process.stderr.write(`${text}\n`);
const skipped: { name: string; why: string }[] = [];
if (options.install) install();
const store = await startStore();
const running: RunningPeer[] = [];
try {
  const own = fileURLToPath(new URL("lib/own-peer.js", import.meta.url));
  await start(store, OWN, process.execPath, [own, store.address], "agentstore");
  for (const [number, { name, file }] of PEERS.entries()) {
    const python = file.endsWith(".py");
    if (!existsSync(python ? PYTHON : join(DIRECTORY, "node_modules"))) {
      skipped.push({ name, why: python ? "no Python environment" : "not installed" });
      continue;
    }
    const program = python ? PYTHON : process.execPath;
    try {
      await start(store, name, program, [join(DIRECTORY, file)], `peer_${number}`);
    } catch (error) {
      skipped.push({ name, why: String(error).split("\n").slice(0, 3).join(" ") });
      say(`${name}: ${String(error)}`);
    }
  }
  const samples = new Samples("peers");
  // The first rounds warm up and are not counted.
  for (let round = 1 - WARM_UPS; round <= rounds; round++) {
    say(round > 0 ? `round ${round} of ${rounds}` : "warming up");
    await measure(round > 0 ? samples : new Samples("warm-up"), round);
  }
  const figures = report(samples);
  const machine = await describeMachine(store.databaseUrl());
  printTable(machine, figures);
  const stamp = started.toISOString().replaceAll(/[:.]/g, "-");
  const file = options.output ?? join(projectRoot, "bench/results", `peers-${stamp}.json`);
  writeJson(file, { started, quick: options.quick, rounds, machine, figures });
  process.stdout.write(`\nwritten to ${file}\n`);
} finally {
  for (const peer of running) peer.end();
  await store.stop();
}

function install(): void {
  say("installing the peers from npm into bench/peers/");
  const npm = ["ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit"];
  execFileSync("npm", npm, { cwd: DIRECTORY, stdio: ["ignore", "ignore", "inherit"] });
  try {
    if (!existsSync(PYTHON)) execFileSync("python3", ["-m", "venv", VENV]);
    say("installing the peers from PyPI into bench/dist/venv");
    const pip = ["-m", "pip", "install", "-q", "-r", "requirements.txt"];
    execFileSync(PYTHON, pip, { cwd: DIRECTORY, stdio: ["ignore", "ignore", "inherit"] });
  } catch (error) {
    say(`no peers in Python: ${String(error)}`);
  }
}

async function start(
  { databaseUrl }: BenchStore,
  name: string,
  program: string,
  args: string[],
  database: string,
): Promise<void> {
  say(`preparing ${name}`);
  if (name !== OWN) {
    const admin = new pg.Client(databaseUrl());
    await admin.connect();
    await admin.query(`CREATE DATABASE ${database}`);
    await admin.end();
  }
  const child = spawn(program, args, {
    cwd: DIRECTORY,
    stdio: ["pipe", "pipe", options.quick ? "inherit" : "ignore"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const peer: RunningPeer = {
    name,
    works: [],
    async ask(job) {
      child.stdin.write(`${JSON.stringify(job)}\n`);
      for (;;) {
        const { value, done } = (await lines.next()) as IteratorResult<string, undefined>;
        if (done) throw new Error(`${name} has ended`);
        // Some packages write to stdout themselves.
        if (!value.startsWith("{")) continue;
        const answer = JSON.parse(value) as Answer;
        if (answer.error !== undefined) throw new Error(answer.error);
        return answer;
      }
    },
    end: () => child.stdin.end(),
  };
  try {
    const preparation = { databaseUrl: databaseUrl(database), sizes: SIZES, listed: LISTED };
    const { works = [] } = await peer.ask({ do: "prepare", ...preparation });
    peer.works = works;
    running.push(peer);
  } catch (error) {
    peer.end();
    throw error;
  }
}

async function measure(samples: Samples, round: number): Promise<void> {
  for (const work of ["nothing", "last", "all", "list", "append"] as const) {
    for (const messages of sizesOf(work)) {
      const length = work !== "list" && messages >= 10_000 ? CALLS_AT_LENGTH : CALLS;
      const from = (round - 1 + WARM_UPS) * CALLS;
      const indexes = Array.from({ length }, (_, n) => from + n);
      for (const peer of running) {
        if (!peer.works.includes(work)) continue;
        const job: PeerJob = { do: "time", work, messages, indexes };
        const until = performance.now() + (round > 0 || work === "append" ? 0 : WARM_UP_MS);
        for (;;) {
          const { millis = [] } = await peer.ask(job);
          if (performance.now() < until) continue;
          samples.add(`${peer.name}: ${work} ${messages}`, median(millis));
          break;
        }
      }
    }
  }
}

function sizesOf(work: Work): number[] {
  if (work === "nothing") return [0];
  return work === "list" ? [LISTED] : SIZES.map(({ messages }) => messages);
}

function report(samples: Samples): Figure[] {
  // The least that any call takes: no line of AgentStore's can be below it.
  const figures = [samples.value(TITLES.nothing, "ms", `${OWN}: nothing 0`)];
  const n = (messages: number) => messages.toLocaleString("en-US");
  for (const work of ["append", "last", "all", "list"] as const) {
    for (const messages of sizesOf(work)) {
      const name = `${TITLES[work]} ${n(messages)}`;
      const own = `${OWN}: ${work} ${messages}`;
      const others = running
        .filter((peer) => peer.name !== OWN && peer.works.includes(work))
        .map((peer) =>
          samples.ratio(name, "ms", own, {
            name: `ms ${peer.name}`,
            sample: `${peer.name}: ${work} ${messages}`,
          }),
        )
        .sort((a, b) => (a.against?.value ?? 0) - (b.against?.value ?? 0));
      const atMost = messages >= 1_000 && work !== "list" ? 0.5 : 1;
      for (const [rank, figure] of others.entries()) {
        // The best peer is the one to beat.
        const goal = { goal: { atMost }, reached: (figure.ratio ?? Number.NaN) <= atMost };
        figures.push(rank === 0 ? { ...figure, ...goal } : figure);
      }
    }
  }
  for (const { name, why } of skipped) figures.push(samples.skipped(name, why));
  return figures;
}
