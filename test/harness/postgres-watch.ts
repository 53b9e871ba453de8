// Looks into Postgres from the side: who runs what, who waits, and locks that make others wait.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { withClient } from "./postgres.js";

/** A connection that holds locks until it lets go. */
export interface HeldLock {
  /** Ends the transaction without a trace. */
  release(): Promise<void>;
  /** Commits the transaction. */
  commit(): Promise<void>;
}

/** Runs statements in a transaction and leaves it open. */
export async function holdLock(
  databaseUrl: string,
  sql: string,
  values: unknown[] = [],
): Promise<HeldLock> {
  const client = new pg.Client({ connectionString: databaseUrl });
  // The database may be dropped or killed under it.
  client.on("error", () => {});
  await client.connect();
  await client.query("BEGIN");
  await client.query(sql, values);
  const end = async (how: string) => {
    await client.query(how).catch(() => {});
    await client.end().catch(() => {});
  };
  return { release: () => end("ROLLBACK"), commit: () => end("COMMIT") };
}

/** Holds the row of a session, as an append under way does. */
export async function holdSession(databaseUrl: string, id: bigint): Promise<HeldLock> {
  return await holdLock(databaseUrl, "SELECT 1 FROM conversations WHERE id = $1 FOR UPDATE", [id]);
}

/** Makes commits that change sessions wait for the advisory lock 42, as for a slow disk. */
export async function makeCommitsWait(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, (client) =>
    client.query(`
      CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT OR UPDATE ON conversations
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_commit()`),
  );
}

/** What a connection of the service is doing. */
export interface Activity {
  pid: number;
  state: "active" | "idle" | "idle in transaction" | "idle in transaction (aborted)";
  query: string;
  waits: boolean;
}

/** The connections of the service's pool to a database. */
export async function poolActivity(databaseUrl: string): Promise<Activity[]> {
  return await withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<Activity>(
      `SELECT pid, state, query, coalesce(wait_event_type = 'Lock', false) AS waits
         FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'agentstore'`,
    );
    return rows;
  });
}

/** Waits until so many of the pool's queries wait for a lock; returns them. */
export async function untilBlocked(databaseUrl: string, count = 1): Promise<Activity[]> {
  return await until(`${count} queries wait for a lock`, async () => {
    const blocked = (await poolActivity(databaseUrl)).filter(({ waits }) => waits);
    return blocked.length >= count && blocked;
  });
}

/** Waits until no connection of the pool runs a query or has a transaction open. */
export async function untilQuiet(databaseUrl: string): Promise<void> {
  await until("no query of the service runs", async () =>
    (await poolActivity(databaseUrl)).every(({ state }) => state === "idle"),
  );
}

/**
 * Asks again and again until the answer is something.
 *
 * @throws Error naming what was awaited, after 30 seconds
 */
export async function until<T>(
  what: string,
  ask: () => Promise<T | false | undefined> | T | false | undefined,
): Promise<T> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`waited 30 seconds in vain until ${what}`);
    await sleep(20);
  }
}
