// Starts one Postgres for the whole run of tests, with a migrated database to make others from.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { pino } from "pino";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../../server/db/embedded.js";
import { migrate } from "../../server/db/migrations.js";
import { databaseUrl, TEMPLATE } from "./postgres-names.js";

declare module "vitest" {
  interface ProvidedContext {
    /** A connection string of the run's Postgres with the right to create databases. */
    postgresUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), "agentstore-test-"));
  const postgres = await startEmbeddedPostgres({ dataDir, log: pino({ level: "warn" }) });
  const teardown = async () => {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    await makeTemplate(postgres.url);
  } catch (error) {
    await teardown();
    throw error;
  }
  project.provide("postgresUrl", postgres.url);
  return teardown;
}

async function makeTemplate(url: string): Promise<void> {
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  try {
    // This cluster is thrown away after the run: tests of durability start their own.
    await admin.query("ALTER SYSTEM SET fsync = off");
    await admin.query("ALTER SYSTEM SET synchronous_commit = off");
    await admin.query("ALTER SYSTEM SET full_page_writes = off");
    await admin.query("SELECT pg_reload_conf()");
    await admin.query(`CREATE DATABASE ${TEMPLATE}`);
    await migrate(databaseUrl(url, TEMPLATE));
    await admin.query(`ALTER DATABASE ${TEMPLATE} IS_TEMPLATE true ALLOW_CONNECTIONS false`);
  } finally {
    await admin.end();
  }
}
