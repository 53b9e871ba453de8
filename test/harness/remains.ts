// Looks for what should be gone from a database.
import type pg from "pg";

/** How many rows of each table with a conversation_id belong to a session; tables without are left out. */
export async function rowsOf(
  client: pg.Client,
  conversationId: bigint,
  except: string[] = [],
): Promise<Record<string, number>> {
  const { rows: tables } = await client.query<{ name: string; col: string }>(
    `SELECT c.relname AS name, a.attname AS col
       FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
      WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
        AND (a.attname = 'conversation_id' OR (c.relname = 'conversations' AND a.attname = 'id'))
        AND NOT a.attisdropped
      ORDER BY 1`,
  );
  const found: Record<string, number> = {};
  for (const { name, col } of tables) {
    if (except.includes(name)) continue;
    const { rows } = await client.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM ${name} WHERE ${col} = $1`,
      [conversationId],
    );
    if (rows[0]!.count > 0) found[name] = rows[0]!.count;
  }
  return found;
}

/**
 * All that a dump of the database holds, a row a line, and where a text occurs in it: as it is, or
 * inside of a bytea.
 */
export async function findInDump(client: pg.Client, text: string): Promise<string[]> {
  const { rows: tables } = await client.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class
      WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' ORDER BY 1`,
  );
  const needles = [text, Buffer.from(text).toString("hex"), JSON.stringify(text).slice(1, -1)];
  const found: string[] = [];
  for (const { name } of tables) {
    const { rows } = await client.query<{ line: string }>(
      `SELECT ${name}::text AS line FROM ${name}`,
    );
    for (const { line } of rows) {
      if (needles.some((needle) => line.includes(needle))) found.push(`${name}: ${line}`);
    }
  }
  return found;
}
