// Describes a database's schema as text that is the same for the same schema, like pg_dump would.
import type pg from "pg";

/** A column as its table shows it, for example `"text NOT NULL DEFAULT ''::text"`. */
export type Columns = Record<string, string>;

/** Returns the columns of a table by name, in their order. */
export async function columnsOf(client: pg.Client, table: string): Promise<Columns> {
  const { rows } = await client.query<{ name: string; definition: string }>(
    `SELECT attname AS name,
            concat_ws(' ', format_type(atttypid, atttypmod),
              CASE WHEN attnotnull THEN 'NOT NULL' END,
              CASE WHEN attidentity <> '' THEN 'GENERATED AS IDENTITY' END,
              'DEFAULT ' || pg_get_expr(adbin, adrelid)) AS definition
       FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
      WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
      ORDER BY attnum`,
    [table],
  );
  return Object.fromEntries(rows.map(({ name, definition }) => [name, definition]));
}

/** Returns the constraints of a table by name, without those that only say NOT NULL. */
export async function constraintsOf(client: pg.Client, table: string): Promise<Columns> {
  const { rows } = await client.query<{ name: string; definition: string }>(
    `SELECT conname AS name, pg_get_constraintdef(oid) AS definition
       FROM pg_constraint WHERE conrelid = $1::regclass AND contype <> 'n' ORDER BY conname`,
    [table],
  );
  return Object.fromEntries(rows.map(({ name, definition }) => [name, definition]));
}

/** Returns the whole schema that the connection sees, as SQL. */
export async function describeSchema(client: pg.Client): Promise<string> {
  const parts: string[] = [];
  for (const { name } of await relations(client, "S")) {
    const { rows } = await client.query<{ text: string }>(
      `SELECT format('CREATE SEQUENCE %s AS %s START %s INCREMENT %s MINVALUE %s MAXVALUE %s%s;',
                $1::regclass, format_type(seqtypid, NULL), seqstart, seqincrement, seqmin, seqmax,
                ' OWNED BY ' || refobjid::regclass || '.' || attname) AS text
         FROM pg_sequence
         LEFT JOIN pg_depend ON objid = seqrelid AND deptype = 'a'
         LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE seqrelid = $1::regclass`,
      [name],
    );
    parts.push(rows[0]?.text ?? "");
  }
  for (const { name } of await relations(client, "r")) {
    const columns = Object.entries(await columnsOf(client, name)).map(([column, definition]) => {
      return `  ${column} ${definition}`;
    });
    const constraints = Object.entries(await constraintsOf(client, name)).map(
      ([constraint, definition]) => `  CONSTRAINT ${constraint} ${definition}`,
    );
    parts.push(`CREATE TABLE ${name} (\n${[...columns, ...constraints].join(",\n")}\n);`);
    const { rows } = await client.query<{ definition: string }>(
      `SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index
        WHERE indrelid = $1::regclass
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')
        ORDER BY indexrelid::regclass::text`,
      [name],
    );
    parts.push(...rows.map(({ definition }) => `${definition};`));
  }
  const { rows: routines } = await client.query<{ definition: string }>(
    `SELECT pg_get_functiondef(oid) AS definition FROM pg_proc
      WHERE pronamespace = current_schema()::regnamespace ORDER BY oid::regprocedure::text`,
  );
  parts.push(...routines.map(({ definition }) => `${definition.trim()};`));
  return `${parts.join("\n\n")}\n`;
}

async function relations(client: pg.Client, kind: "r" | "S"): Promise<{ name: string }[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT oid::regclass::text AS name FROM pg_class
      WHERE relnamespace = current_schema()::regnamespace AND relkind = $1
      ORDER BY relname COLLATE "C"`,
    [kind],
  );
  return rows;
}
