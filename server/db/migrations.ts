// Brings a database to the schema that this version of AgentStore needs, or says why it cannot.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import { projectRoot } from "../paths.js";
import { isPooled } from "./inspect.js";

/**
 * What is wrong with a schema: `absent`, `old` and `newer` compare the database with this program;
 * `changed` means that a migration is not the one that was applied; `failed` that a migration did
 * not go through (the database is as it was); `unsupported` that the database cannot be used.
 */
export type SchemaErrorKind = "absent" | "old" | "newer" | "changed" | "failed" | "unsupported";

/** A schema that this program cannot work with. The message is for operators. */
export class SchemaError extends Error {
  override readonly name = "SchemaError";

  constructor(
    readonly kind: SchemaErrorKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** How migrations are run. */
export interface MigrateOptions {
  /** Hears what each migration did. */
  log?: Logger;
  /** Where the numbered SQL files are; the project's own by default. */
  directory?: string;
}

interface Migration {
  version: number;
  name: string;
  sql: string;
  checksum: string;
  /** False for a single statement that Postgres refuses inside a transaction. */
  transactional: boolean;
}

interface Applied {
  version: number;
  name: string;
  checksum: string;
}

const OWN_MIGRATIONS = join(projectRoot, "migrations");
const OLDEST_POSTGRES = 150_000;
/** One runner at a time in a database. */
const LOCK = "7020577301640913218";
const LOCK_POLL_MS = 100;
const LOCK_NOT_AVAILABLE = "55P03";
const DEPENDENT_OBJECTS = "2BP01";
const NOT_SUPPORTED = "0A000";
/** How long a migration waits for tables that another session uses, before it gives up. */
const LOCK_TIMEOUT = "30s";

/**
 * Applies the migrations that the database has not seen, in order, each one wholly or not at all.
 * Any number of processes may call this at once: one works, the others wait for it.
 *
 * @param url the connection string; a pooler may stand in front of Postgres, and needs two
 *   connections to it at a time
 * @returns the schema's version before and after; 0 is a database without a schema
 * @throws SchemaError when the database is newer than this program, was migrated by other files, is
 *   too old a Postgres, or when a migration fails
 */
export async function migrate(
  url: string,
  options: MigrateOptions = {},
): Promise<{ from: number; to: number }> {
  const known = await readMigrations(options.directory ?? OWN_MIGRATIONS);
  return await withClient(url, async (client) => {
    await requireUsable(client);
    const before = await readApplied(client);
    if (pending(known, before).length === 0) return { from: before.length, to: before.length };

    client.on("notice", (notice) => options.log?.info(notice.message));
    const pooled = await isPooled(client);
    return await withLock(url, options.log, async () => {
      await client.query(
        `BEGIN; SET LOCAL client_min_messages = warning;
         CREATE TABLE IF NOT EXISTS agentstore_migrations (
           version int PRIMARY KEY,
           name text NOT NULL,
           checksum text NOT NULL,
           applied_at timestamptz NOT NULL DEFAULT now()
         );
         COMMIT`,
      );
      const applied = await readApplied(client);
      for (const migration of pending(known, applied)) {
        const start = performance.now();
        await apply(client, migration, pooled);
        const ms = Math.round(performance.now() - start);
        options.log?.info({ version: migration.version, name: migration.name, ms }, "migrated");
      }
      return { from: applied.length, to: known.length };
    });
  });
}

/**
 * Checks that the database has exactly the schema that this program needs. Changes nothing.
 *
 * @throws SchemaError when it has not
 */
export async function checkSchema(
  url: string,
  options: Pick<MigrateOptions, "directory"> = {},
): Promise<void> {
  const known = await readMigrations(options.directory ?? OWN_MIGRATIONS);
  await withClient(url, async (client) => {
    await requireUsable(client);
    const applied = await readApplied(client);
    const missing = pending(known, applied).length;
    if (missing === 0) return;
    throw applied.length === 0
      ? new SchemaError(
          "absent",
          "The database has no AgentStore schema yet. Run `agentstore migrate` to make it.",
        )
      : new SchemaError(
          "old",
          `The database's schema has version ${applied.length}; this AgentStore needs version ` +
            `${known.length}. Run \`agentstore migrate\`.`,
        );
  });
}

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: "agentstore migrate" });
  // A connection that breaks also fails the query under way; unheard, "error" would end the process.
  client.on("error", () => {});
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}

async function requireUsable(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ version: number; name: string; schema: string | null }>(
    `SELECT current_setting('server_version_num')::int AS version,
            current_setting('server_version') AS name, current_schema() AS schema`,
  );
  const server = rows[0];
  if (server === undefined || server.version < OLDEST_POSTGRES) {
    throw new SchemaError(
      "unsupported",
      `AgentStore needs PostgreSQL 15 or newer; this one is ${server?.name}.`,
    );
  }
  if (server.schema === null) {
    throw new SchemaError(
      "unsupported",
      "The search_path of this connection names no schema that exists. Create one, or set another " +
        "search_path for this user or database.",
    );
  }
}

async function readMigrations(directory: string): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".sql")).sort();
  return await Promise.all(
    names.map(async (file, index) => {
      const match = /^(\d{4})_([a-z0-9_]+)\.sql$/.exec(file);
      const version = Number(match?.[1]);
      if (version !== index + 1) {
        throw new SchemaError("changed", `${join(directory, file)}: expected number ${index + 1}`);
      }
      // A checkout may have changed the line ends; that makes no other migration of it.
      const sql = (await readFile(join(directory, file), "utf8")).replaceAll("\r\n", "\n");
      return {
        version,
        name: match?.[2] ?? "",
        sql,
        checksum: createHash("sha256").update(sql).digest("hex"),
        transactional: !sql.startsWith("-- no-transaction\n"),
      };
    }),
  );
}

async function readApplied(client: pg.Client): Promise<Applied[]> {
  const table = await client.query<{ found: boolean }>(
    "SELECT to_regclass('agentstore_migrations') IS NOT NULL AS found",
  );
  if (table.rows[0]?.found !== true) return [];
  const { rows } = await client.query<Applied>(
    "SELECT version, name, checksum FROM agentstore_migrations ORDER BY version",
  );
  return rows;
}

/** Returns the migrations to apply, after holding those that were applied against the files. */
function pending(known: Migration[], applied: Applied[]): Migration[] {
  const last = applied.at(-1);
  if (last !== undefined && last.version > known.length) {
    throw new SchemaError(
      "newer",
      `The database's schema has version ${last.version} (${last.name}); this AgentStore knows ` +
        `versions up to ${known.length}. A newer AgentStore has migrated it: upgrade agentstore.`,
    );
  }
  applied.forEach(({ version, name, checksum }, index) => {
    const migration = known[index];
    if (version !== index + 1 || migration?.checksum !== checksum) {
      throw new SchemaError(
        "changed",
        `Migration ${version} (${name}) of the database is not the one that this AgentStore has ` +
          `(${migration?.name}, other checksum). Applied migrations never change: restore the file.`,
      );
    }
  });
  return known.slice(applied.length);
}

/**
 * Runs work while no other runner works. The lock is that of a transaction on a connection of its
 * own, because behind a pooler that is all that keeps a session: a lock of the session would stay
 * with whoever borrows it next. The transaction has no snapshot, so CREATE INDEX CONCURRENTLY does
 * not wait for it.
 *
 * Polls, because a session that waits for the lock inside Postgres is in a deadlock with a runner
 * that waits for all sessions in CREATE INDEX CONCURRENTLY.
 */
async function withLock<T>(
  url: string,
  log: Logger | undefined,
  work: () => Promise<T>,
): Promise<T> {
  return await withClient(url, async (holder) => {
    for (let attempt = 0; ; attempt++) {
      await holder.query(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 0",
      );
      // Without a parameter: a portal of the extended protocol would keep its snapshot.
      const { rows } = await holder.query<{ taken: boolean }>(
        `SELECT pg_try_advisory_xact_lock(${LOCK}) AS taken`,
      );
      if (rows[0]?.taken === true) break;
      await holder.query("ROLLBACK");
      if (attempt === 0) log?.info("another process is migrating the database; waiting for it");
      await sleep(LOCK_POLL_MS);
    }
    const done = await work();
    await holder.query("ROLLBACK");
    return done;
  });
}

async function apply(client: pg.Client, migration: Migration, pooled: boolean): Promise<void> {
  try {
    if (migration.transactional) {
      await client.query(
        `BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '${LOCK_TIMEOUT}';
         SET LOCAL idle_in_transaction_session_timeout = 0;
         SET LOCAL client_min_messages = warning`,
      );
      await client.query(migration.sql);
      await record(client, migration);
      await client.query("COMMIT");
    } else {
      // Outside of a transaction, only a session of one's own can be told something.
      if (!pooled) await client.query("SET statement_timeout = 0; SET lock_timeout = 0");
      await applyOutside(client, migration);
      await record(client, migration);
    }
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    throw failure(migration, error);
  }
}

async function record(client: pg.Client, { version, name, checksum }: Migration): Promise<void> {
  await client.query(
    "INSERT INTO agentstore_migrations (version, name, checksum) VALUES ($1, $2, $3)",
    [version, name, checksum],
  );
}

/**
 * Runs a statement that Postgres refuses inside a transaction. An index that is built CONCURRENTLY
 * and fails half-way stays behind as INVALID: it is dropped and built again. One that is valid was
 * built by a run that was killed before it could say so.
 */
async function applyOutside(client: pg.Client, { sql }: Migration): Promise<void> {
  const index = /^CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(\w+)\s+ON\b/im.exec(sql)?.[1];
  if (index !== undefined) {
    const { rows } = await client.query<{ valid: boolean }>(
      "SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass($1)",
      [index],
    );
    if (rows[0]?.valid === true) return;
    if (rows[0]?.valid === false) await client.query(`DROP INDEX CONCURRENTLY ${index}`);
  }
  // The extended protocol takes exactly one statement. pg's typings leave the mode out.
  const config: pg.QueryConfig & { queryMode: "extended" } = { text: sql, queryMode: "extended" };
  await client.query(config);
}

function failure(migration: Migration, error: unknown): SchemaError {
  const { code, message, detail, hint } = error as pg.DatabaseError;
  const notes = [`Migration ${migration.version} (${migration.name}) failed: ${message}.`];
  // A detail may quote a row; these speak of what depends on a column or a table.
  if (code === DEPENDENT_OBJECTS || code === NOT_SUPPORTED) notes.push(detail ?? "");
  if (code === LOCK_NOT_AVAILABLE) {
    notes.push("Another session uses the table: stop what else uses the database, then try again.");
  }
  notes.push(hint ?? "");
  notes.push(migration.transactional ? "The database is as it was before this migration." : "");
  return new SchemaError("failed", notes.filter((note) => note !== "").join(" "), { cause: code });
}
