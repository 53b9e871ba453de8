// Starts `agentstore serve` from dist/ as a child process, as an operator would.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, open, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { projectRoot } from "../../server/paths.js";

/** pgbench with 256 clients, while the backends of its last run are still ending, and the servers. */
const CONNECTIONS = 600;

/** A server in a process of its own. */
export interface BenchServer {
  /** For example `127.0.0.1:40123`. */
  address: string;
  /** The server's process, without its Postgres. */
  pid: number;
  stop(): Promise<void>;
}

/** An embedded Postgres with a server on it. */
export interface BenchStore extends BenchServer {
  /** The connection string of a database of the embedded Postgres. */
  databaseUrl: (name?: string) => string;
  /** The directory of its Unix socket. */
  socketDir: string;
  /** Where its files are; for those of further servers too. */
  directory: string;
}

/** Starts a server over a database that is there. Its log goes to `logFile`; args are flags. */
export function startServer(
  databaseUrl: string,
  logFile: string,
  ...args: string[]
): Promise<BenchServer> {
  return spawnServe(["--database-url", databaseUrl, ...args], logFile);
}

/**
 * Starts a server with an embedded Postgres in a fresh directory, which stop() removes. The server
 * makes the cluster; then Postgres is started again exactly as the server did, but with connections
 * enough for pgbench.
 */
export async function startStore(): Promise<BenchStore> {
  const directory = await mkdtemp(join(tmpdir(), "agentstore-bench-"));
  // Postgres does not run as root: where this does, another user has to reach the data.
  await chmod(directory, 0o711);
  const dataDir = join(directory, "data");
  const log = join(directory, "server.log");
  const cluster = join(dataDir, "postgres");
  const first = await spawnServe(["--data-dir", dataDir], log);
  const pidFile = await readFile(join(cluster, "postmaster.pid"), "utf8");
  const socketDir = pidFile.split("\n")[4] ?? "";
  const command = await readFile(join(cluster, "postmaster.opts"), "utf8");
  await first.stop();
  const databaseUrl = (name = "agentstore") =>
    `postgresql://agentstore@localhost:5432/${name}?host=${encodeURIComponent(socketDir)}`;
  const postgres = await startPostgres(command, cluster, databaseUrl());
  const server = await startServer(databaseUrl(), log);
  return {
    ...server,
    socketDir,
    directory,
    databaseUrl,
    async stop() {
      await server.stop();
      await stop(postgres, "SIGINT");
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** @param command the contents of postmaster.opts: the program and its arguments, in quotes */
async function startPostgres(command: string, cluster: string, url: string): Promise<ChildProcess> {
  const [program = "", ...args] = command.trim().split(/ (?=")/);
  const { uid, gid } = await stat(cluster);
  const child = spawn(
    program,
    [...args.map((arg) => arg.slice(1, -1)), "-c", `max_connections=${CONNECTIONS}`],
    { uid, gid, cwd: "/", env: { LC_ALL: "C", TZ: "UTC" }, stdio: "ignore" },
  );
  for (;;) {
    if (child.exitCode !== null) throw new Error(`Postgres ended with code ${child.exitCode}`);
    const client = new pg.Client(url);
    try {
      await client.connect();
      await client.end();
      return child;
    } catch {
      await sleep(50);
    }
  }
}

async function spawnServe(args: string[], logFile: string): Promise<BenchServer> {
  const nodeArgs = (process.env.BENCH_SERVER_NODE_ARGS ?? "").split(" ").filter(Boolean);
  const log = await open(logFile, "a");
  const child = spawn(
    process.execPath,
    [
      ...nodeArgs,
      join(projectRoot, "dist/cli/main.js"),
      "serve",
      "--port",
      "0",
      "--http-port",
      "0",
      ...args,
    ],
    { stdio: ["ignore", "pipe", log.fd] },
  );
  await log.close();
  const address = await new Promise<string>((resolve, reject) => {
    let output = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      const found = /^AgentStore serves gRPC on (\S+)$/m.exec(output)?.[1];
      if (found) resolve(found);
    });
    child.once("close", (code) => {
      reject(new Error(`serve ended with code ${code}; its log is ${logFile}`));
    });
  });
  return { address, pid: child.pid ?? 0, stop: () => stop(child) };
}

async function stop(child: ChildProcess, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}
