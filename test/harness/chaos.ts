// Kills servers and Postgres under writers, and then asks what became of every write.
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { AgentStoreClient, AgentStoreError } from "../../client/index.js";
import { OWNER, socketUrl } from "../../server/db/embedded-cluster.js";
import { assertCountersAgree } from "./counters.js";
import { withClient } from "./postgres.js";
import { until } from "./postgres-watch.js";
import { type SpawnedServer, spawnServer } from "./server.js";

/** What is killed with SIGKILL. */
export type Victim = "server" | "postgres" | "backend" | "server and postgres";

const VICTIMS: Victim[] = ["server", "postgres", "backend", "server and postgres"];

/** How a run of chaos went. */
export interface ChaosReport {
  kills: Record<Victim, number>;
  /** Messages whose append was acknowledged. */
  acknowledged: number;
  /** Appends that were acknowledged after more than one attempt, and those that were replays. */
  retried: number;
  replayed: number;
  /** Appends that failed in the end, and how many of them had been written all the same. */
  failed: number;
  failedButWritten: number;
}

interface Append {
  session: bigint;
  contents: string[];
  /** The seqs that were acknowledged; absent when the append failed. */
  seqs?: bigint[];
}

const WRITERS = 6;
const SESSIONS = 3;

/**
 * Lets writers append while so many kills happen, one after the other, and asserts that afterwards
 * every acknowledged message is there once, in its place, and no other one twice.
 *
 * @param seed decides the victims and the moments; the machine decides the rest
 */
export async function runChaos(rounds: number, seed: number): Promise<ChaosReport> {
  const random = randomFrom(seed);
  const dataDir = await mkdtemp(join(tmpdir(), "chaos-"));
  const port = await freePort();
  const serve = () => spawnServer(["--data-dir", dataDir, "--port", String(port)]);
  let server = await serve();
  const report: ChaosReport = {
    kills: { server: 0, postgres: 0, backend: 0, "server and postgres": 0 },
    acknowledged: 0,
    retried: 0,
    replayed: 0,
    failed: 0,
    failedButWritten: 0,
  };
  const appends: Append[] = [];
  let writing = true;
  try {
    const setUp = new AgentStoreClient(server.url);
    const sessions: bigint[] = [];
    for (let n = 0; n < SESSIONS; n++) sessions.push((await setUp.createSession("chaos")).id);
    setUp.close();
    const writers = Promise.all(
      Array.from({ length: WRITERS }, () =>
        write(server.url, sessions, random, appends, report, () => writing),
      ),
    );
    // Heard of at the end, or when the writers' silence ends the run.
    writers.catch(() => {});
    for (let round = 0; round < rounds; round++) {
      // In the middle of appends: some have been acknowledged since the last kill.
      await acknowledgedMore(appends, 5 + random(20), server);
      await sleep(random(250));
      const victim = VICTIMS[round % VICTIMS.length]!;
      report.kills[victim]++;
      server = await kill(victim, server, dataDir, serve);
    }
    await acknowledgedMore(appends, 20, server);
    writing = false;
    await writers;
    await verify(databaseUrl(dataDir), server.url, sessions, appends, report);
    expect(await server.end("SIGTERM"), server.output()).toBe(0);
  } catch (error) {
    const said = `What the last server said:\n${server.output().slice(-8_000)}`;
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${said}`, {
      cause: error,
    });
  } finally {
    writing = false;
    await server.end("SIGKILL");
    killPostgres(dataDir);
    await rm(dataDir, { recursive: true, force: true, maxRetries: 10 });
  }
  return report;
}

// One writer: single appends and batches, each retried by the client under its request_id.
async function write(
  url: string,
  sessions: bigint[],
  random: (below: number) => number,
  appends: Append[],
  report: ChaosReport,
  goOn: () => boolean,
): Promise<void> {
  const client = new AgentStoreClient({ url, timeoutMs: 20_000 });
  await client.waitForReady();
  while (goOn()) {
    const session = sessions[random(sessions.length)]!;
    const size = random(3) === 0 ? 1 + random(20) : 1;
    const append: Append = { session, contents: Array.from({ length: size }, () => randomUUID()) };
    appends.push(append);
    const options = {
      onWritten({ attempts, replayed }: { attempts: number; replayed: boolean }) {
        if (attempts > 1) report.retried++;
        if (replayed) report.replayed++;
      },
    };
    try {
      const stored =
        size === 1
          ? [await client.addMessage(session, "user", append.contents[0]!, options)]
          : await client.addMessages(
              session,
              append.contents.map((content) => ({ role: "assistant" as const, content })),
              options,
            );
      append.seqs = stored.map(({ seq }) => seq);
      report.acknowledged += size;
    } catch (error) {
      // Only a store that is away may refuse these writes.
      if (!(error instanceof AgentStoreError)) throw error;
      expect(["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]).toContain(error.code);
      report.failed++;
    }
  }
  client.close();
}

async function acknowledgedMore(
  appends: Append[],
  count: number,
  { child }: SpawnedServer,
): Promise<void> {
  const acknowledged = () => appends.filter(({ seqs }) => seqs !== undefined).length;
  const before = acknowledged();
  await until("appends go on", () => {
    if (child.exitCode !== null) throw new Error("the server has ended by itself");
    return acknowledged() >= before + count;
  });
}

async function kill(
  victim: Victim,
  server: SpawnedServer,
  dataDir: string,
  serve: () => Promise<SpawnedServer>,
): Promise<SpawnedServer> {
  switch (victim) {
    case "server":
      await server.end("SIGKILL");
      return await serve();
    case "postgres":
      killPostgres(dataDir);
      return server;
    case "backend": {
      const backends = backendsOf(postmasterOf(dataDir)!.pid);
      const backend = backends[Math.floor(backends.length / 2)];
      if (backend !== undefined) process.kill(backend, "SIGKILL");
      return server;
    }
    case "server and postgres":
      killPostgres(dataDir);
      await server.end("SIGKILL");
      return await serve();
  }
}

/** What Postgres has written about itself into the cluster, while it runs. */
export function postmasterOf(dataDir: string): { pid: number; socketDir: string } | undefined {
  try {
    const lines = readFileSync(join(dataDir, "postgres", "postmaster.pid"), "utf8").split("\n");
    return { pid: Number(lines[0]), socketDir: lines[4]! };
  } catch {
    return undefined;
  }
}

/** The connection string of the database that a server keeps in its data directory. */
export function databaseUrl(dataDir: string): string {
  return socketUrl(postmasterOf(dataDir)!.socketDir, OWNER);
}

/** Kills the Postgres of a data directory, if it runs. */
export function killPostgres(dataDir: string): void {
  const postmaster = postmasterOf(dataDir);
  if (!postmaster || postmaster.pid <= 1) return;
  try {
    process.kill(postmaster.pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** The processes that a process has started and that still run. */
export function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((child) => {
      const parent = /^\d+ \(.*\) \S (\d+)/.exec(readProc(child, "stat"))?.[1];
      return Number(parent) === pid;
    });
}

/** A Postgres' processes: the postmaster and its children, each of which is a group of its own. */
export function postgresProcesses(postmaster: number): number[] {
  return [postmaster, ...childrenOf(postmaster)];
}

/** Those that serve connections to the store's database. */
export function backendsOf(postmaster: number): number[] {
  return postgresProcesses(postmaster).filter((pid) =>
    readProc(pid, "cmdline").includes(`${OWNER} ${OWNER}`),
  );
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}

async function verify(
  database: string,
  url: string,
  sessions: bigint[],
  appends: Append[],
  report: ChaosReport,
): Promise<void> {
  expect(await assertCountersAgree(database)).toBe(sessions.length);
  const placeOf = await withClient(database, async (client) => {
    const { rows } = await client.query<{ conversation_id: string; seq: string; content: string }>(
      "SELECT conversation_id, seq, content FROM conversation_messages",
    );
    const places = new Map(rows.map((row) => [row.content, `${row.conversation_id}/${row.seq}`]));
    expect(places.size, "every content is there once").toBe(rows.length);
    return places;
  });
  let accounted = 0;
  for (const { session, contents, seqs } of appends) {
    const places = contents.map((content) => placeOf.get(content));
    if (seqs) {
      expect(places, "an acknowledged append is where it was said to be").toEqual(
        seqs.map((seq) => `${session}/${seq}`),
      );
      expect(seqs).toEqual(seqs.map((_, n) => seqs[0]! + BigInt(n)));
    } else {
      const written = places.filter((place) => place !== undefined).length;
      expect([0, contents.length], "a failed append is there as a whole or not").toContain(written);
      if (written > 0) report.failedButWritten++;
    }
    accounted += places.filter((place) => place !== undefined).length;
  }
  expect(accounted, "nothing is there that nobody wrote").toBe(placeOf.size);

  // And readers are told the same.
  const client = new AgentStoreClient(url);
  for (const session of sessions) {
    let seq = 0n;
    for await (const message of client.streamMessages(session)) {
      expect(message.seq).toBe(++seq);
      expect(placeOf.get(message.content)).toBe(`${session}/${seq}`);
    }
    expect((await client.getSession(session)).lastSeq).toBe(seq);
  }
  client.close();
}

/** A port that nobody serves on at the moment. */
export async function freePort(): Promise<number> {
  return await new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Whole numbers from 0 to below a bound, the same ones for the same seed (mulberry32). */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
