// 64 callers append to 8 sessions through two servers and do much of it wrongly, while nothing is
// killed at first, and then servers and Postgres' backends are.
import { randomInt } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../server/db/embedded.js";
import { backendsOf, freePort, randomFrom } from "../harness/chaos.js";
import { type Entry, MixedCaller, verifyLedger } from "../harness/mixed-callers.js";
import { withClient } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { type SpawnedServer, spawnServer } from "../harness/server.js";
import { Stubs } from "../harness/stubs.js";

const CALLERS = 64;
const SESSIONS = 8;
const MAX_MESSAGE_BYTES = 4_096;
/** Without kills; a fifth of them is wrong. */
const QUIET_CALLS = 20;

const rounds = Number(process.env.CHAOS_ROUNDS ?? 6);
const seed = Number(process.env.CHAOS_SEED ?? randomInt(2 ** 31));
const random = randomFrom(seed);

let dataDir: string;
let postgres: EmbeddedPostgres;
let ports: number[];
let servers: SpawnedServer[] = [];
let stubs: Stubs[] = [];
const output: string[] = [];

const serve = (index: number) =>
  spawnServer([
    `--database-url=${postgres.url}`,
    `--max-message-bytes=${MAX_MESSAGE_BYTES}`,
    "--log-level=error",
    "--port",
    String(ports[index]),
  ]);

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "chaos-pair-"));
  postgres = await startEmbeddedPostgres({ dataDir, log: pino({ level: "silent" }) });
  ports = [await freePort(), await freePort()];
  servers = [await serve(0), await serve(1)];
  stubs = servers.map(({ address }) => new Stubs(address));
});

afterAll(async () => {
  for (const channel of stubs) channel.close();
  for (const server of servers) await server.end("SIGKILL");
  await postgres.stop();
  await rm(dataDir, { recursive: true, force: true });
});

// One after the other: a server, a backend (which restarts Postgres), connections, both servers.
const kills = [
  () => killServer(random(2)),
  () => killBackend(),
  () => endConnections(),
  () => Promise.all([killServer(0), killServer(1)]),
];

async function killServer(index: number): Promise<void> {
  const server = servers[index]!;
  await server.end("SIGKILL");
  output.push(server.output());
  servers[index] = await serve(index);
}

async function killBackend(): Promise<void> {
  const backends = backendsOf(postgres.pid()!);
  const backend = backends[random(Math.max(1, backends.length))];
  if (backend !== undefined) process.kill(backend, "SIGKILL");
  await until("Postgres is back", () =>
    withClient(postgres.url, (client) => client.query("SELECT 1")).catch(() => false as const),
  );
}

async function endConnections(): Promise<void> {
  await withClient(postgres.url, (client) =>
    client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'agentstore' AND pid % 2 = $1`,
      [random(2)],
    ),
  );
}

test(
  `64 callers, two servers, ${rounds} kills: each call gets what it deserves, and nothing else`,
  async () => {
    process.stdout.write(`chaos: ${rounds} kills of two servers, CHAOS_SEED=${seed}\n`);
    const sessions: bigint[] = [];
    for (let n = 0; n < SESSIONS; n++) {
      const { session } = await stubs[n % 2]!.call("createSession", { modelId: "chaos" });
      sessions.push(session!.id);
    }
    const ledger: Entry[] = [];
    let killing = false;
    const options = {
      servers: stubs,
      sessions,
      maxMessageBytes: MAX_MESSAGE_BYTES,
      random,
      killing: () => killing,
      ledger,
    };
    const callers = Array.from({ length: CALLERS }, (_, n) => new MixedCaller(n, options));
    const everyCaller = (work: (caller: MixedCaller) => Promise<void>) =>
      Promise.all(callers.map(work));

    await everyCaller(async (caller) => {
      for (let n = 0; n < QUIET_CALLS; n++) await caller.step();
    });
    const quiet = await verifyLedger(postgres.url, ledger);

    killing = true;
    let done = false;
    const calling = everyCaller(async (caller) => {
      while (!done) await caller.step();
    });
    // Heard of below, or by whoever waits for the ledger to grow.
    let broken: unknown;
    calling.catch((error: unknown) => {
      broken = error;
    });
    const more = async () => {
      const before = ledger.filter(({ end }) => end === "acknowledged").length;
      await until("appends go on", () => {
        if (broken) throw broken;
        return ledger.filter(({ end }) => end === "acknowledged").length > before + CALLERS;
      });
    };
    for (let round = 0; round < rounds; round++) {
      await more();
      await sleep(random(200));
      await kills[round % kills.length]!();
    }
    await more();
    done = true;
    await calling;

    const all = await verifyLedger(postgres.url, ledger);
    process.stdout.write(`chaos: ${JSON.stringify({ quiet, all })}\n`);
    const log = await readFile(join(dataDir, "postgres.log"), "utf8");
    expect(log).not.toContain("deadlock detected");
    const said = [...output, ...servers.map((server) => server.output())].join("\n");
    expect(said).not.toContain("INTERNAL");
    expect(said).not.toContain("Error:");
    // The kills and the impatient did hit appends.
    expect(ledger.some(({ end }) => end === "unknown")).toBe(true);
    for (const server of servers) expect(await server.end("SIGTERM")).toBe(0);
  },
  120_000 + rounds * 15_000,
);
