// Starts one Postgres process, tells when it is ready, and deals with one that others have left.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, readFileSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type PostgresBinaries, postgresEnvironment } from "./embedded-binaries.js";
import { openLog, PORT, SOCKET_NAME, socketUrl } from "./embedded-cluster.js";
import type { SystemUser } from "./embedded-user.js";

/** How a Postgres is started. */
export interface PostmasterOptions {
  binaries: PostgresBinaries;
  cluster: string;
  socketDir: string;
  logFile: string;
  user: SystemUser | undefined;
}

/** A Postgres process that is a child of this one. */
export interface Postmaster {
  pid: number;
  /** Resolves when the process has ended, with what it wrote to its log. */
  exited: Promise<{ reason: string; log: string }>;
  /** True until the process has ended. */
  alive(): boolean;
  signal(signal: "SIGINT" | "SIGQUIT"): void;
  /** Lets this process end before Postgres does. */
  abandon(): void;
}

const SETTINGS = {
  listen_addresses: "",
  port: String(PORT),
  unix_socket_permissions: "0700",
  max_connections: "200",
  shared_buffers: "128MB",
  lc_messages: "C",
  // Details and failing statements of errors may quote rows; no log holds what agents said.
  log_error_verbosity: "terse",
  log_min_error_statement: "panic",
};

/**
 * Starts Postgres in a session of its own, so that Ctrl-C in the terminal reaches the server but not
 * Postgres, which is stopped after the server's last query.
 */
export async function spawnPostmaster(options: PostmasterOptions): Promise<Postmaster> {
  const log = await openLog(options.logFile);
  const logStart = statSync(options.logFile).size;
  const settings = { ...SETTINGS, unix_socket_directories: options.socketDir };
  const identity = options.user && { uid: options.user.uid, gid: options.user.gid };
  let child: ChildProcess;
  try {
    child = spawn(
      options.binaries.postgres,
      ["-D", options.cluster, ...Object.entries(settings).flatMap(([k, v]) => ["-c", `${k}=${v}`])],
      {
        ...identity,
        cwd: "/",
        env: postgresEnvironment,
        detached: true,
        stdio: ["ignore", log, log],
      },
    );
    if (child.pid === undefined) await once(child, "spawn");
  } finally {
    closeSync(log);
  }
  // A server that ends without a word (an exception, a second signal) takes Postgres with it.
  const stopWithUs = () => child.kill("SIGINT");
  process.once("exit", stopWithUs);
  const exited = once(child, "exit").then(async ([code, signal]) => {
    process.off("exit", stopWithUs);
    return {
      reason: signal === null ? `exit code ${code}` : `signal ${signal}`,
      log: await readFrom(options.logFile, logStart).catch(() => ""),
    };
  });
  return {
    pid: child.pid as number,
    exited,
    alive: () => child.exitCode === null && child.signalCode === null,
    signal: (signal) => void child.kill(signal),
    abandon: () => {
      process.off("exit", stopWithUs);
      child.unref();
    },
  };
}

/** Returns up to 2 KB of what was written to the file after `start`. */
async function readFrom(path: string, start: number): Promise<string> {
  const handle = await open(path, "r");
  try {
    const { size } = await handle.stat();
    const from = Math.max(start, size - 2048);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2048), 0, 2048, from);
    return buffer.subarray(0, bytesRead).toString("utf8").trim();
  } finally {
    await handle.close();
  }
}

const POLL_MS = 20;

/** What a running Postgres has written into its cluster about itself. */
export interface PostmasterFile {
  pid: number;
  /** Empty while Postgres has not opened its socket yet. */
  socketDir: string;
}

/** Returns the Postgres that runs on the cluster, whoever started it, or undefined. */
export function runningPostmaster(cluster: string): PostmasterFile | undefined {
  const lines = readLines(join(cluster, "postmaster.pid"));
  const pid = Number(lines[0]);
  return isPostgres(pid) ? { pid, socketDir: lines[4] ?? "" } : undefined;
}

/**
 * Removes the lock files of a Postgres that was killed if its process id now belongs to another
 * program, as is common where a container starts again, or to a process that nobody has reaped:
 * Postgres itself would respect them for ever. What guards the data then is that Postgres also
 * refuses shared memory that is still in use.
 */
export function removeStaleLocks(cluster: string, socketDir: string): void {
  for (const path of [join(cluster, "postmaster.pid"), join(socketDir, `${SOCKET_NAME}.lock`)]) {
    const pid = Number(readLines(path)[0]);
    if (isAlive(pid) && !isPostgres(pid)) rmSync(path, { force: true });
  }
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Whether the process is a Postgres; one that has ended and waits to be reaped is none. */
function isPostgres(pid: number): boolean {
  if (!isAlive(pid)) return false;
  try {
    const command =
      process.platform === "linux"
        ? (readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0] ?? "")
        : execFileSync("ps", ["-o", "comm=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return /^(postgres|postmaster)\b/.test(basename(command));
  } catch {
    return false;
  }
}

/**
 * Stops a Postgres that is no child of this process: ends its sessions and waits for its orderly
 * shutdown; after `patienceMs` without one it is told to end at once, which its next start repairs.
 */
export async function stopForeignPostmaster(
  cluster: string,
  pid: number,
  patienceMs: number,
): Promise<void> {
  const deadline = Date.now() + patienceMs;
  let immediate = false;
  process.kill(pid, "SIGINT");
  while (runningPostmaster(cluster)?.pid === pid) {
    if (!immediate && Date.now() > deadline) {
      immediate = true;
      process.kill(pid, "SIGQUIT");
    }
    await sleep(POLL_MS);
  }
}

/** Errors that pass by themselves while Postgres starts, recovers or stops. */
const PASSING = new Set([
  "57P03",
  "57P01",
  "57P02",
  "53300",
  "ECONNREFUSED",
  "ENOENT",
  "ECONNRESET",
]);

/**
 * Connects as soon as Postgres accepts connections: recovery after a crash may take its time.
 *
 * @param socketDir asked before each attempt: the directory of the socket, "" while it is not known
 *   yet, undefined to end the waiting
 * @returns the connection, or undefined when the waiting was ended
 */
export async function connectWhenReady(
  socketDir: () => string | undefined,
): Promise<pg.Client | undefined> {
  for (let place = socketDir(); place !== undefined; place = socketDir()) {
    const client = place === "" ? undefined : await tryToConnect(place);
    if (client !== undefined) return client;
    await sleep(POLL_MS);
  }
  return undefined;
}

async function tryToConnect(socketDir: string): Promise<pg.Client | undefined> {
  const client = new pg.Client({
    connectionString: socketUrl(socketDir, "postgres"),
    application_name: `agentstore owner ${process.pid}`,
  });
  // A connection that breaks says so on "end" too; unheard, "error" would end the process.
  client.on("error", () => {});
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.end().catch(() => {});
    const { code, message } = error as NodeJS.ErrnoException;
    if (PASSING.has(code ?? "") || message.includes("terminated unexpectedly")) return undefined;
    throw error;
  }
}
