// The migration runner: applies each file once, wholly or not at all, and refuses what it must.
import { execFile } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect, promisify } from "node:util";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { checkSchema, migrate, SchemaError } from "../../server/db/migrations.js";
import { projectRoot } from "../../server/paths.js";
import { createEmptyDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { describeSchema } from "../harness/schema.js";

let database: TestDatabase;
let directory: string;
let known: number;

beforeEach(async () => {
  database = await createEmptyDatabase();
  directory = await mkdtemp(join(tmpdir(), "agentstore-migrations-"));
  await cp(join(projectRoot, "migrations"), directory, { recursive: true });
  known = (await readdir(directory)).length;
});

afterEach(async () => {
  await database.drop();
  await rm(directory, { recursive: true, force: true });
});

/** Adds a migration after the project's own. */
async function addMigration(name: string, sql: string, offset = 1): Promise<void> {
  const number = String(known + offset).padStart(4, "0");
  await writeFile(join(directory, `${number}_${name}.sql`), sql);
}

async function refusal(work: Promise<unknown>): Promise<SchemaError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SchemaError);
  return error as SchemaError;
}

async function schemaNow(): Promise<string> {
  return await withClient(database.url, describeSchema);
}

async function relation(name: string): Promise<string | null> {
  return await withClient(database.url, async (client) => {
    const { rows } = await client.query("SELECT to_regclass($1)::text AS found", [name]);
    return (rows[0] as { found: string | null }).found;
  });
}

test("a fresh database gets the schema of test/schema.sql", async () => {
  expect(await migrate(database.url)).toEqual({ from: 0, to: known });
  // `npm run schema` writes the file anew after a migration was added.
  await expect(await schemaNow()).toMatchFileSnapshot("../schema.sql");
  expect(await migrate(database.url)).toEqual({ from: known, to: known });
  await checkSchema(database.url);
});

test("the schema goes where search_path points to", async () => {
  await withClient(database.url, (client) => client.query("CREATE SCHEMA elsewhere"));
  const url = new URL(database.url);
  url.searchParams.set("options", "-c search_path=elsewhere");
  await migrate(url.href);
  await checkSchema(url.href);
  expect(await relation("public.models")).toBeNull();
  expect(await relation("elsewhere.models")).not.toBeNull();
  const here = await withClient(url.href, describeSchema);
  expect(here.replaceAll("elsewhere.", "public.")).toBe(
    await readFile(join(projectRoot, "test/schema.sql"), "utf8"),
  );
});

test("a search_path to nowhere is named", async () => {
  const url = new URL(database.url);
  url.searchParams.set("options", "-c search_path=nowhere");
  const error = await refusal(migrate(url.href));
  expect(error.kind).toBe("unsupported");
  expect(error.message).toContain("search_path");
});

test("of 20 migrators at once each succeeds and each migration is applied once", async () => {
  await addMigration("probe", "CREATE TABLE probe (); SELECT pg_sleep(0.05);");
  await addMigration(
    "probe_index",
    "-- no-transaction\nCREATE INDEX CONCURRENTLY probe_models ON models (created_at);\n",
    2,
  );
  const results = await Promise.all(
    Array.from({ length: 20 }, () => migrate(database.url, { directory })),
  );
  const to = known + 2;
  expect(results.filter(({ from }) => from === 0)).toEqual([{ from: 0, to }]);
  expect(results.filter(({ from }) => from !== 0)).toEqual(
    Array.from({ length: 19 }, () => ({ from: to, to })),
  );
  const { rowCount } = await withClient(database.url, (client) =>
    client.query("SELECT FROM agentstore_migrations"),
  );
  expect(rowCount).toBe(to);
});

test("migrators in processes of their own do not disturb each other", async () => {
  const script = `
    import { migrate } from ${JSON.stringify(join(projectRoot, "dist/server/db/migrations.js"))};
    console.log(JSON.stringify(await migrate(process.argv[1])));`;
  const run = promisify(execFile);
  const outputs = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const { stdout } = await run(process.execPath, [
        "--input-type=module",
        "--eval",
        script,
        database.url,
      ]);
      return JSON.parse(stdout) as { from: number };
    }),
  );
  expect(outputs.filter(({ from }) => from === 0)).toHaveLength(1);
});

test("a program that is older than the schema refuses it", async () => {
  await addMigration("later", "CREATE TABLE later ();");
  await migrate(database.url, { directory });
  for (const run of [migrate, checkSchema]) {
    const error = await refusal(run(database.url));
    expect(error.kind).toBe("newer");
    expect(error.message).toContain("upgrade agentstore");
    expect(error.message).toContain("later");
  }
});

test("checkSchema tells an absent schema and an old one, and changes nothing", async () => {
  const absent = await refusal(checkSchema(database.url));
  expect(absent.kind).toBe("absent");
  expect(absent.message).toContain("agentstore migrate");
  expect(await relation("agentstore_migrations")).toBeNull();
  await migrate(database.url);
  await addMigration("later", "CREATE TABLE later ();");
  const old = await refusal(checkSchema(database.url, { directory }));
  expect(old.kind).toBe("old");
  expect(old.message).toContain("agentstore migrate");
  expect(await relation("later")).toBeNull();
});

test("an applied migration whose file has changed is refused by name", async () => {
  await addMigration("first", "CREATE TABLE first ();");
  await migrate(database.url, { directory });
  await addMigration("first", "CREATE TABLE first (more int);");
  await addMigration("second", "CREATE TABLE second ();", 2);
  for (const run of [migrate, checkSchema]) {
    const error = await refusal(run(database.url, { directory }));
    expect(error.kind).toBe("changed");
    expect(error.message).toContain("first");
  }
  expect(await relation("second")).toBeNull();
});

test("a column in the place of one that a migration adds is named, with what to do", async () => {
  const early = await mkdtemp(join(tmpdir(), "agentstore-migrations-"));
  await cp(join(directory, "0001_init.sql"), join(early, "0001_init.sql"));
  await migrate(database.url, { directory: early });
  await rm(early, { recursive: true });
  const run = (sql: string) => withClient(database.url, (client) => client.query(sql));
  await run("ALTER TABLE conversations ADD COLUMN lease_holder int");
  const error = await refusal(migrate(database.url));
  expect(error.kind).toBe("failed");
  const rename = /ALTER TABLE conversations RENAME COLUMN lease_holder TO old_lease_holder;/;
  expect(error.message).toMatch(rename);
  await run(rename.exec(error.message)![0]);
  expect(await migrate(database.url)).toEqual({ from: 1, to: known });
});

test("line ends of another system do not change a migration", async () => {
  await addMigration("first", "CREATE TABLE first\n();\n");
  await migrate(database.url, { directory });
  await addMigration("first", "CREATE TABLE first\r\n();\r\n");
  await checkSchema(database.url, { directory });
});

test("a gap in the numbers is an error before anything is touched", async () => {
  await addMigration("too_far", "CREATE TABLE too_far ();", 2);
  expect((await refusal(migrate(database.url, { directory }))).message).toContain("too_far");
  expect(await relation("models")).toBeNull();
});

test("a migration that fails leaves nothing of itself and can be repeated", async () => {
  await addMigration("good", "CREATE TABLE good ();");
  await addMigration("bad", "CREATE TABLE bad (); SELECT 1/0;", 2);
  const error = await refusal(migrate(database.url, { directory }));
  expect(error.kind).toBe("failed");
  expect(error.message).toContain("bad");
  expect(error.message).toContain("division by zero");
  expect(await relation("good")).toBe("good");
  expect(await relation("bad")).toBeNull();
  await addMigration("bad", "CREATE TABLE bad ();", 2);
  expect(await migrate(database.url, { directory })).toEqual({ from: known + 1, to: known + 2 });
});

test("a migration that cannot be recorded did not happen", async () => {
  await addMigration(
    "unrecorded",
    "CREATE TABLE made (); ALTER TABLE agentstore_migrations ADD CHECK (name <> 'unrecorded');",
  );
  expect((await refusal(migrate(database.url, { directory }))).kind).toBe("failed");
  expect(await relation("made")).toBeNull();
});

test("an index whose concurrent build failed half-way is built anew", async () => {
  await migrate(database.url);
  await addMigration(
    "unique_title",
    "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY conversations_title ON conversations (title);\n",
  );
  await withClient(database.url, (client) =>
    client.query(
      `INSERT INTO models (id) VALUES ('m');
       INSERT INTO conversations (model_id, title) VALUES ('m', 'twice'), ('m', 'twice')`,
    ),
  );
  expect((await refusal(migrate(database.url, { directory }))).kind).toBe("failed");
  const valid = async () =>
    await withClient(database.url, async (client) => {
      const { rows } = await client.query(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('conversations_title')",
      );
      return rows.map((row: { indisvalid: boolean }) => row.indisvalid);
    });
  expect(await valid()).toEqual([false]);
  await withClient(database.url, (client) => client.query("DELETE FROM conversations"));
  expect(await migrate(database.url, { directory })).toEqual({ from: known, to: known + 1 });
  expect(await valid()).toEqual([true]);
});

test("an index that was built by a run that died before recording it is taken as it is", async () => {
  await migrate(database.url);
  const statement = "CREATE INDEX CONCURRENTLY conversations_title ON conversations (title);\n";
  await withClient(database.url, (client) => client.query(statement));
  await addMigration("title", `-- no-transaction\n${statement}`);
  expect(await migrate(database.url, { directory })).toEqual({ from: known, to: known + 1 });
});

test("a file outside a transaction holds exactly one statement", async () => {
  await addMigration("two", "-- no-transaction\nCREATE TABLE one (); CREATE TABLE two ();\n");
  expect((await refusal(migrate(database.url, { directory }))).kind).toBe("failed");
  expect(await relation("one")).toBeNull();
});

test("a migrator that waits is told who holds it up, and no password is shown", async () => {
  const holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
  const lines: string[] = [];
  const log = { info: (...line: unknown[]) => void lines.push(JSON.stringify(line)) };
  await holder.query("SELECT pg_advisory_lock(7020577301640913218)");
  const url = new URL(database.url);
  url.password = "hunter2";
  let released = false;
  const done = migrate(url.href, { log: log as never }).then(() => expect(released).toBe(true));
  await expect.poll(() => lines.join()).toContain("waiting");
  released = true;
  await holder.end();
  await done;
  expect(lines.join()).not.toContain("hunter2");
});

test("a server that cannot be reached is an error without the password", async () => {
  const error = await migrate("postgresql://me:hunter2@127.0.0.1:1/none").catch((reason: unknown) =>
    inspect(reason),
  );
  expect(error).toContain("ECONNREFUSED");
  expect(error).not.toContain("hunter2");
});
