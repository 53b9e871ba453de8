// Makes sure that a commit means what it says.
import pg from "pg";
import type { Logger } from "pino";

/**
 * Looks at the database's durability settings and warns of those that lose
 * acknowledged writes in a crash.
 *
 * @returns a statement for each new connection to run, where the database's
 *   synchronous_commit is off: an acknowledged write must be on disk
 */
export async function inspectDurability(url: string, logger: Logger): Promise<string | undefined> {
  const client = new pg.Client({ connectionString: url, application_name: "agentstore" });
  // A connection that breaks also fails the query under way; unheard, "error" would end the process.
  client.on("error", () => {});
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string; setting: string }>(
      `SELECT name, setting FROM pg_settings
        WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'`,
    );
    const off = rows.map(({ name }) => name);
    for (const name of off.filter((name) => name !== "synchronous_commit")) {
      logger.warn(`${name} is off in this database: a crash can lose acknowledged writes`);
    }
    return off.includes("synchronous_commit") ? "SET synchronous_commit TO on" : undefined;
  } finally {
    await client.end();
  }
}
