// Looks at a database before it is used: what stands in front of it, and what its commits mean.
import pg from "pg";
import type { Logger } from "pino";
import { findShards, type ShardRange } from "./shards.js";

/** What connections to a database have to take into account. */
export interface DatabaseTraits {
  /**
   * A pooler stands in front of it, and statements may reach another session of Postgres each time:
   * nothing that belongs to a session outlives a transaction.
   */
  pooled: boolean;
  /** Its synchronous_commit is off: an acknowledged write must be on disk all the same. */
  asynchronous: boolean;
  /** Where it is a Citus that has distributed the sessions: its shards. */
  shards?: ShardRange[] | undefined;
}

/**
 * Whether a connection ends at a pooler. One that lends connections out cannot hand its client the
 * keys of any of them, so it gives keys of its own, with another process id than Postgres has.
 *
 * Session pooling looks the same and is treated the same.
 */
export async function isPooled(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  return rows[0]?.pid !== (client as unknown as { processID: number | null }).processID;
}

/** Inspects a database; warns of settings that lose acknowledged writes in a crash. */
export async function inspectDatabase(url: string, logger: Logger): Promise<DatabaseTraits> {
  const client = new pg.Client({ connectionString: url, application_name: "agentstore" });
  // A connection that breaks also fails the query under way; unheard, "error" would end the process.
  client.on("error", () => {});
  await client.connect();
  try {
    const pooled = await isPooled(client);
    if (pooled) logger.info("the database is reached through a pooler: statements have no names");
    const { rows } = await client.query<{ name: string; setting: string }>(
      `SELECT name, setting FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'`,
    );
    const off = rows.map(({ name }) => name);
    for (const name of off.filter((name) => name !== "synchronous_commit")) {
      logger.warn(`${name} is off in this database: a crash can lose acknowledged writes`);
    }
    const shards = await findShards(client);
    if (shards) logger.info({ shards: shards.length }, "sessions are distributed by Citus");
    return { pooled, asynchronous: off.includes("synchronous_commit"), shards };
  } finally {
    await client.end();
  }
}
