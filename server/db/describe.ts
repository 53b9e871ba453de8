// Says which Postgres an address leads to, without its password.
import pg from "pg";

/**
 * Connects and asks.
 *
 * @returns for example "PostgreSQL 16.2, agents on db.example.com:5432"
 * @throws Error with a message for the operator when it cannot be reached
 */
export async function describeDatabase(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  // A connection that breaks also fails the query under way; unheard, "error" would end the process.
  client.on("error", () => {});
  const place = `${client.database} on ${client.host}:${client.port}`;
  try {
    await client.connect();
    const { rows } = await client.query<{ server_version: string }>("SHOW server_version");
    return `PostgreSQL ${rows[0]?.server_version.split(" ")[0]}, ${place}`;
  } catch (error) {
    const why = error instanceof Error ? error.message || String(error) : String(error);
    throw new Error(
      `cannot reach the database ${place}: ${why}. Check DATABASE_URL, or leave it out to use the embedded PostgreSQL`,
      { cause: error },
    );
  } finally {
    await client.end().catch(() => {});
  }
}
