// A PgBouncer in transaction mode between a server and its Postgres.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { postgresUser } from "../../server/db/embedded-user.js";
import { until } from "./postgres-watch.js";

/** A PgBouncer that runs until it is stopped. */
export interface PgBouncer {
  /** The connection string of the same database, through it. */
  url: string;
  /** Kills it: all its connections break, and new ones are refused. */
  kill(): Promise<void>;
  /** Starts it again. */
  start(): Promise<void>;
  /** Kills it and removes its files. */
  stop(): Promise<void>;
}

const PORT = 6432;
// Debian installs it where ordinary users do not look.
const PATH = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`;

/** Whether PgBouncer is installed. */
export function pgBouncerIsThere(): boolean {
  try {
    execFileSync("pgbouncer", ["--version"], { env: { PATH } });
    return true;
  } catch {
    return false;
  }
}

/**
 * Starts a PgBouncer in transaction mode.
 *
 * @param databaseUrl names a Unix socket
 * @param poolSize connections to Postgres at the most
 */
export async function startPgBouncer(databaseUrl: string, poolSize: number): Promise<PgBouncer> {
  const { pathname, searchParams, username, port } = new URL(databaseUrl);
  const database = pathname.slice(1);
  const directory = await mkdtemp(join(tmpdir(), "pgbouncer-"));
  const config = join(directory, "pgbouncer.ini");
  await writeFile(
    config,
    `[databases]
${database} = host=${searchParams.get("host")} port=${port} user=${username}
[pgbouncer]
listen_port = ${PORT}
unix_socket_dir = ${directory}
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 200
`,
  );
  // It does not run as root.
  const user = postgresUser(directory);
  if (user) chownSync(directory, user.uid, user.gid);
  chmodSync(config, 0o644);
  const url = new URL(databaseUrl);
  url.searchParams.set("host", directory);
  url.port = String(PORT);

  let end = async () => {};
  const start = async () => {
    const ids = user ? { uid: user.uid, gid: user.gid } : {};
    const child = spawn("pgbouncer", [config], {
      env: { PATH },
      stdio: ["ignore", "ignore", "pipe"],
      ...ids,
    });
    let output = "";
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const ended = once(child, "exit");
    end = async () => {
      child.kill("SIGKILL");
      await ended;
    };
    await until("PgBouncer answers", async () => {
      if (child.exitCode !== null) throw new Error(`PgBouncer has ended:\n${output}`);
      return await answers(url.href);
    });
  };
  await start();
  return {
    url: url.href,
    kill: () => end(),
    start,
    async stop() {
      await end();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("SELECT 1");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}
