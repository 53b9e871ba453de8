// Gives each test a database of its own.
import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import { databaseUrl, TEMPLATE } from "./postgres-names.js";

/** A database that belongs to one test. */
export interface TestDatabase {
  url: string;
  /** Removes the database, ending whatever is connected to it. */
  drop(): Promise<void>;
}

/** Makes a database with the current schema and no rows. */
export async function createDatabase(): Promise<TestDatabase> {
  return await create(`TEMPLATE ${TEMPLATE}`);
}

/** Makes a database without any tables. */
export async function createEmptyDatabase(): Promise<TestDatabase> {
  return await create("TEMPLATE template0");
}

/** Runs `work` on a connection of its own. */
export async function withClient<T>(
  url: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  // A connection that breaks also fails the query under way; tests look at that.
  client.on("error", () => {});
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.end();
  }
}

async function create(template: string): Promise<TestDatabase> {
  const admin = inject("postgresUrl");
  const name = `test_${randomBytes(8).toString("hex")}`;
  await withClient(admin, (client) => client.query(`CREATE DATABASE ${name} ${template}`));
  return {
    url: databaseUrl(admin, name),
    drop: async () => {
      await withClient(admin, (client) =>
        client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
      );
    },
  };
}
