// Runs AgentStore's own Postgres: makes the cluster, starts it, restarts it when it dies, stops it.

import { realpathSync } from "node:fs";
import type { Server } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { Logger } from "pino";
import { findBinaries, removeOldCopies } from "./embedded-binaries.js";
import {
  ensureCluster,
  ensureSocketDir,
  makeDataDir,
  OWNER,
  prepareDataDir,
  removeHalfMadeClusters,
  socketUrl,
} from "./embedded-cluster.js";
import { DataDirectoryInUseError, EmbeddedPostgresError } from "./embedded-error.js";
import { livingOwner, showOwner, takeOwnership } from "./embedded-owner.js";
import {
  connectWhenReady,
  type Postmaster,
  type PostmasterOptions,
  removeStaleLocks,
  runningPostmaster,
  spawnPostmaster,
  stopForeignPostmaster,
} from "./embedded-postmaster.js";
import { postgresUser } from "./embedded-user.js";

export { DataDirectoryInUseError, EmbeddedPostgresError } from "./embedded-error.js";
export { defaultDataDir } from "./embedded-user.js";

/** A running Postgres that this process owns. */
export interface EmbeddedPostgres {
  /** The connection string of its database, on a Unix socket. Stays the same over restarts. */
  url: string;
  /** The version of Postgres, for example "18.4". */
  version: string;
  /** The absolute path of the data directory. */
  dataDir: string;
  /** The process id of Postgres, or undefined while it is being restarted. */
  pid(): number | undefined;
  /** Stops Postgres in an orderly way. Repeated calls wait for the same stop. */
  stop(): Promise<void>;
  /**
   * Calls `listener` if Postgres is gone for good, which happens only when another server has
   * taken the data directory over. Every other death of Postgres is repaired without a word here.
   */
  onExit(listener: (reason: Error) => void): void;
}

/** Where the data is kept and where the log goes. */
export interface EmbeddedPostgresOptions {
  /** The data directory; made if it is not there. */
  dataDir: string;
  log: Logger;
}

const STOP_PATIENCE_MS = 60_000;
/** A Postgres that lived this long was healthy: its death starts the back-off anew. */
const HEALTHY_MS = 30_000;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 10_000;

/**
 * Starts the Postgres of a data directory and keeps it running. Takes over a Postgres whose server
 * has died.
 *
 * @throws DataDirectoryInUseError when a living server owns the data directory
 * @throws EmbeddedPostgresError when Postgres cannot run here; the message says what to do
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const wanted = resolve(options.dataDir);
  makeDataDir(wanted);
  const user = postgresUser(join(wanted, "postgres"));
  await prepareDataDir(wanted, user);
  const dataDir = realpathSync(wanted);
  const binaries = await findBinaries(dataDir, user, options.log);
  const socketDir = ensureSocketDir(dataDir, user);
  const owner = await livingOwner(socketDir);
  if (owner) throw new DataDirectoryInUseError(dataDir, owner.pid);
  const cluster = await ensureCluster(dataDir, binaries, user);
  const logFile = join(dataDir, "postgres.log");
  const supervisor = new Supervisor(dataDir, options.log, {
    binaries,
    cluster,
    socketDir,
    logFile,
    user,
  });
  const version = await supervisor.start();
  await removeHalfMadeClusters(dataDir);
  await removeOldCopies(dataDir, binaries);
  return {
    url: socketUrl(socketDir, OWNER),
    version,
    dataDir,
    pid: () => supervisor.pid(),
    stop: () => supervisor.stop(),
    onExit: (listener) => supervisor.onExit(listener),
  };
}

/** Owns one cluster: at any time it has at most one Postgres and the lock on it. */
class Supervisor {
  readonly #dataDir: string;
  readonly #log: Logger;
  readonly #options: PostmasterOptions;
  readonly #exitListeners: ((reason: Error) => void)[] = [];
  readonly #stopping = new AbortController();
  #postmaster: Postmaster | undefined;
  #ownerSocket: Server | undefined;
  #supervision: Promise<void> | undefined;

  constructor(dataDir: string, log: Logger, options: PostmasterOptions) {
    this.#dataDir = dataDir;
    this.#log = log;
    this.#options = options;
  }

  /** Starts Postgres for the first time; returns its version. */
  async start(): Promise<string> {
    const lock = await this.#bringUp();
    try {
      this.#ownerSocket = await showOwner(this.#options.socketDir);
      const database = await lock.query("SELECT FROM pg_database WHERE datname = $1", [OWNER]);
      if (database.rowCount === 0) await lock.query(`CREATE DATABASE ${OWNER}`);
      const { rows } = await lock.query<{ server_version: string }>("SHOW server_version");
      this.#supervision = this.#supervise(lock);
      return rows[0]?.server_version ?? "";
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  pid(): number | undefined {
    return this.#postmaster?.alive() ? this.#postmaster.pid : undefined;
  }

  onExit(listener: (reason: Error) => void): void {
    this.#exitListeners.push(listener);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#stopPostmaster();
    await this.#supervision;
    // A start that was under way may have come through meanwhile.
    await this.#stopPostmaster();
    this.#ownerSocket?.close();
  }

  async #stopPostmaster(): Promise<void> {
    const postmaster = this.#postmaster;
    if (postmaster === undefined) return;
    postmaster.signal("SIGINT");
    const impatience = setTimeout(() => postmaster.signal("SIGQUIT"), STOP_PATIENCE_MS);
    await postmaster.exited;
    clearTimeout(impatience);
  }

  /** Starts Postgres again whenever it ends, and takes the lock again whenever that is lost. */
  async #supervise(first: pg.Client): Promise<void> {
    let lock = first;
    let delay = 0;
    for (;;) {
      const since = Date.now();
      const end = await this.#endOf(lock);
      if (this.#stopping.signal.aborted) return;
      if (end !== undefined) {
        this.#log.error(
          { pid: end.pid, reason: end.reason, postgresLog: this.#options.logFile },
          "Postgres has ended unexpectedly; starting it again",
        );
        delay = Date.now() - since > HEALTHY_MS ? 0 : delay;
      }
      for (;;) {
        await sleep(delay, undefined, this.#stopping).catch(() => {});
        if (this.#stopping.signal.aborted) return;
        delay = Math.min(Math.max(delay * 2, FIRST_DELAY_MS), LONGEST_DELAY_MS);
        try {
          lock = await this.#bringUp();
          break;
        } catch (error) {
          if (this.#stopping.signal.aborted) return;
          if (error instanceof DataDirectoryInUseError) {
            this.#giveUp(error);
            return;
          }
          this.#log.error(
            { err: error, retryInMs: delay, postgresLog: this.#options.logFile },
            "Postgres does not start; trying again",
          );
        }
      }
      if (end !== undefined) this.#log.info({ pid: this.pid() }, "Postgres is up again");
    }
  }

  /** Waits until Postgres ends (returns how) or only the lock's connection does (undefined). */
  async #endOf(lock: pg.Client): Promise<{ pid: number; reason: string } | undefined> {
    const postmaster = this.#postmaster as Postmaster;
    const lost = new Promise<undefined>((resolve) => lock.once("end", () => resolve(undefined)));
    const exited = postmaster.exited.then(({ reason }) => ({ pid: postmaster.pid, reason }));
    const end = await Promise.race([exited, lost]);
    if (end !== undefined) return end;
    // The connection ends with Postgres as well; a moment tells the two apart.
    return await Promise.race([exited, sleep(200, undefined, { ref: false })]);
  }

  #giveUp(error: Error): void {
    this.#log.fatal({ err: error }, "Postgres was taken over by another server");
    for (const listener of this.#exitListeners) listener(error);
  }

  /**
   * Gets Postgres up as a child of this process and returns the connection that holds the lock.
   *
   * @throws DataDirectoryInUseError when another living server holds it
   */
  async #bringUp(): Promise<pg.Client> {
    for (;;) {
      if (!this.#postmaster?.alive()) {
        await this.#takeOver();
        removeStaleLocks(this.#options.cluster, this.#options.socketDir);
        this.#postmaster = await spawnPostmaster(this.#options);
      }
      const postmaster = this.#postmaster;
      const client = await connectWhenReady(() =>
        postmaster.alive() && !this.#stopping.signal.aborted ? this.#options.socketDir : undefined,
      );
      const owned = client && (await takeOwnership(client));
      if (client !== undefined && owned === true) return client;
      if (client !== undefined && owned === false) {
        // Another server was quicker to connect; it stops this Postgres and starts its own.
        postmaster.abandon();
        this.#postmaster = undefined;
        await client.end();
        throw await this.#inUse();
      }
      if (this.#stopping.signal.aborted) throw new EmbeddedPostgresError("The server is stopping");
      // A connection may also break while Postgres lives on: then it is asked for another one.
      if (!postmaster.alive()) await this.#survive(await postmaster.exited);
    }
  }

  /** Stops a Postgres that runs on the cluster without a living server. */
  async #takeOver(): Promise<void> {
    const { cluster } = this.#options;
    const running = runningPostmaster(cluster);
    if (running === undefined) return;
    this.#log.warn(
      { pid: running.pid },
      "found a running Postgres; asking whether it has an owner",
    );
    const client = await connectWhenReady(() => {
      const now = this.#stopping.signal.aborted ? undefined : runningPostmaster(cluster);
      return now?.pid === running.pid ? now.socketDir : undefined;
    });
    const owned = client && (await takeOwnership(client));
    if (client === undefined || owned === undefined) return;
    if (!owned) {
      await client.end();
      throw await this.#inUse();
    }
    this.#log.warn({ pid: running.pid }, "its server has died; restarting it as this server's own");
    await stopForeignPostmaster(cluster, running.pid, STOP_PATIENCE_MS);
  }

  async #inUse(): Promise<DataDirectoryInUseError> {
    const owner = await livingOwner(this.#options.socketDir);
    return new DataDirectoryInUseError(this.#dataDir, owner ? owner.pid : undefined);
  }

  /** Waits a moment after a failed start that a later one survives; throws after any other. */
  async #survive(end: { reason: string; log: string }): Promise<void> {
    const { why } =
      /(?<why>lock file ".*" already exists|shared memory block .* still in use|received fast shutdown request)/.exec(
        end.log,
      )?.groups ?? {};
    if (why === undefined) {
      throw new EmbeddedPostgresError(
        `Postgres does not start (${end.reason}). Its log, ${this.#options.logFile}, ends with:\n` +
          end.log,
      );
    }
    this.#log.warn(
      { why },
      "another Postgres is still there, or processes of one; waiting until they have gone",
    );
    await sleep(500, undefined, this.#stopping).catch(() => {});
  }
}
