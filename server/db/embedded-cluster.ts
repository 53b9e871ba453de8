// Lays out the data directory: the cluster, the socket directory and the log of Postgres.
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  statSync,
} from "node:fs";
import { lchown, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { type PostgresBinaries, postgresEnvironment } from "./embedded-binaries.js";
import { EmbeddedPostgresError } from "./embedded-error.js";
import { blockingDirectory, type SystemUser } from "./embedded-user.js";

const run = promisify(execFile);

/** The superuser and the database of every embedded cluster. */
export const OWNER = "agentstore";
export const PORT = 5432;

/** What a kernel takes as the path of a Unix socket, in bytes. */
const SOCKET_PATH_BYTES = process.platform === "darwin" ? 103 : 107;
export const SOCKET_NAME = `.s.PGSQL.${PORT}`;
const LOG_LIMIT_BYTES = 10 * 1024 * 1024;
/** Everything that a data directory holds; one that holds nothing else is ours. */
const OUR_ENTRIES = /^(postgres(\.init-.*)?|run|binaries|postgres\.log(\.1)?)$/;

/**
 * Makes the data directory if it is not there; nobody else can look into one that is made here.
 *
 * @throws EmbeddedPostgresError when it cannot be made
 */
export function makeDataDir(dataDir: string): void {
  try {
    mkdirSync(dirname(dataDir), { recursive: true });
    if (!existsSync(dataDir)) mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    if (!statSync(dataDir).isDirectory()) throw new Error("it is a file");
  } catch (error) {
    throw new EmbeddedPostgresError(
      `The data directory ${dataDir} cannot be made: ${(error as Error).message}`,
    );
  }
}

/**
 * Checks that `user` (undefined: the current user) can work in the data directory, and gives it to
 * that user where it holds nothing but what this service puts there.
 *
 * @throws EmbeddedPostgresError when that user cannot
 */
export async function prepareDataDir(dataDir: string, user: SystemUser | undefined): Promise<void> {
  if (user === undefined) {
    requireOwn(dataDir);
    return;
  }
  const { uid } = statSync(dataDir);
  if (uid === 0 && (await readdir(dataDir)).every((name) => OUR_ENTRIES.test(name))) {
    chownSync(dataDir, user.uid, user.gid);
  }
  const blocked = blockingDirectory(dataDir, user);
  if (blocked !== undefined) {
    throw new EmbeddedPostgresError(
      `Postgres does not run as root; it runs as ${user.name}, who may not enter ${blocked}, so it ` +
        `cannot keep its data in ${dataDir}. Give another data directory (for example ` +
        `/var/lib/agentstore), or let that user in: chmod o+x ${blocked}`,
    );
  }
}

/** Checks that the current user, an ordinary one, can work in the data directory. */
function requireOwn(dataDir: string): void {
  let owner = statSync(dataDir).uid;
  try {
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
    owner = statSync(join(dataDir, "postgres"), { throwIfNoEntry: false })?.uid ?? -1;
    if (owner === -1 || owner === process.getuid?.()) return;
  } catch {
    // The owner of the directory itself is the one to name.
  }
  throw new EmbeddedPostgresError(
    `The data directory ${dataDir} belongs to another user (uid ${owner}); perhaps root has started ` +
      "a server there. Start this one as that user or as root, or give it another data directory.",
  );
}

/**
 * Makes the cluster `<dataDir>/postgres` unless it is there. It is made beside its place and then
 * renamed, so a kill at any moment leaves a whole cluster or none.
 *
 * @returns the cluster's directory
 * @throws EmbeddedPostgresError when it cannot be made or needs another major version of Postgres
 */
export async function ensureCluster(
  dataDir: string,
  binaries: PostgresBinaries,
  user: SystemUser | undefined,
): Promise<string> {
  const cluster = join(dataDir, "postgres");
  if (!existsSync(cluster)) await createCluster(cluster, binaries, user);
  const version = await readFile(join(cluster, "PG_VERSION"), "utf8").catch(() => undefined);
  if (version === undefined) {
    throw new EmbeddedPostgresError(
      `${cluster} is not a Postgres cluster: it has no readable PG_VERSION. Move it away, or give ` +
        "another data directory.",
    );
  }
  if (version.trim() !== binaries.major) {
    throw new EmbeddedPostgresError(
      `The data directory ${dataDir} was made by PostgreSQL ${version.trim()}; this AgentStore ` +
        `comes with PostgreSQL ${binaries.major}. Start it with the AgentStore that made it, dump ` +
        "the database there and restore it here, or set DATABASE_URL.",
    );
  }
  if (user !== undefined && statSync(cluster).uid !== user.uid) await giveTo(cluster, user);
  return cluster;
}

async function createCluster(
  cluster: string,
  binaries: PostgresBinaries,
  user: SystemUser | undefined,
): Promise<void> {
  const half = `${cluster}.init-${randomBytes(6).toString("hex")}`;
  mkdirSync(half, { mode: 0o700 });
  if (user !== undefined) chownSync(half, user.uid, user.gid);
  try {
    await initdb(half, binaries, user);
    await rename(half, cluster);
    await sync(join(cluster, ".."));
  } catch (error) {
    await rm(half, { recursive: true, force: true });
    // Another server may have made the cluster meanwhile; which one gets it is decided later.
    if (!existsSync(cluster)) throw error;
  }
}

async function initdb(
  directory: string,
  binaries: PostgresBinaries,
  user: SystemUser | undefined,
): Promise<void> {
  const identity = user && { uid: user.uid, gid: user.gid };
  let failure = "";
  // LC_CTYPE decides what pg_trgm takes for a letter, so it must be a UTF-8 one; not every system
  // knows it by the name C.UTF-8.
  for (const locale of ["C.UTF-8", "en_US.UTF-8"]) {
    try {
      await run(
        binaries.initdb,
        [
          `--pgdata=${directory}`,
          `--username=${OWNER}`,
          "--auth=trust",
          "--encoding=UTF8",
          "--locale-provider=builtin",
          "--builtin-locale=C.UTF-8",
          `--locale=${locale}`,
          "--lc-messages=C",
          "--no-instructions",
        ],
        { ...identity, cwd: "/", env: postgresEnvironment },
      );
      return;
    } catch (error) {
      failure = (error as { stderr?: string }).stderr || (error as Error).message;
      if (!failure.includes("invalid locale name")) break;
    }
  }
  throw new EmbeddedPostgresError(`initdb could not make a cluster: ${failure.trim()}`);
}

/** Makes a rename in `directory` durable. */
async function sync(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function giveTo(directory: string, user: SystemUser): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    await lchown(join(entry.parentPath, entry.name), user.uid, user.gid);
  }
  await lchown(directory, user.uid, user.gid);
}

/** Removes what an initdb that was killed has left beside the cluster. */
export async function removeHalfMadeClusters(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (name.startsWith("postgres.init-")) {
      await rm(join(dataDir, name), { recursive: true, force: true });
    }
  }
}

/**
 * Makes the directory of the Unix socket, which nobody but its owner can enter: `<dataDir>/run`, or
 * one under the system's temporary directory where that path is too long for a socket.
 *
 * @throws EmbeddedPostgresError when somebody else has made that directory
 */
export function ensureSocketDir(dataDir: string, user: SystemUser | undefined): string {
  const directory = socketDir(dataDir);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const uid = user?.uid ?? process.getuid?.();
  const found = lstatSync(directory);
  const trusted = found.isDirectory() && (found.uid === uid || found.uid === process.getuid?.());
  if (!trusted) {
    throw new EmbeddedPostgresError(
      `${directory}, where the database's socket is to be, belongs to somebody else (uid ` +
        `${found.uid}). Remove it, or use a data directory with a shorter path.`,
    );
  }
  if (user !== undefined) chownSync(directory, user.uid, user.gid);
  chmodSync(directory, 0o700);
  return directory;
}

function socketDir(dataDir: string): string {
  const name = `agentstore-${createHash("sha256").update(dataDir).digest("hex").slice(0, 16)}`;
  const candidates = [join(dataDir, "run"), join(tmpdir(), name)];
  const fits = (directory: string) =>
    Buffer.byteLength(join(directory, SOCKET_NAME)) <= SOCKET_PATH_BYTES;
  return candidates.find(fits) ?? join("/tmp", name);
}

/** The connection string of a database on the Unix socket in `directory`. */
export function socketUrl(directory: string, database: string): string {
  const host = encodeURIComponent(directory);
  return `postgresql://${OWNER}@localhost:${PORT}/${database}?host=${host}&sslmode=disable`;
}

/** Opens the log of Postgres for appending, after putting a large one aside as `.1`. */
export async function openLog(path: string): Promise<number> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LOG_LIMIT_BYTES) await rename(path, `${path}.1`);
  return openSync(path, "a", 0o600);
}
