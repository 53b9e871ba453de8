// Connections to Postgres that nobody uses: kept for three minutes, and then closed.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Database, statement } from "../../server/db/database.js";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";
import { poolActivity, until } from "../harness/postgres-watch.js";

const whoAnswers = statement<{ pid: number }>("who_answers", "SELECT pg_backend_pid() AS pid");

let database: TestDatabase;
let db: Database;

beforeEach(async () => {
  database = await createDatabase();
  // Time passes when the test says so.
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  db = new Database(database.url, { poolSize: 2 });
});

afterEach(async () => {
  vi.useRealTimers();
  await db.close();
  await database.drop();
});

async function answering(): Promise<number> {
  const [row] = await db.query(whoAnswers, [], new AbortController().signal);
  return row!.pid;
}

test("a connection is there for a call that comes within three minutes, and then no more", async () => {
  const pid = await answering();
  vi.advanceTimersByTime(179_000);
  expect(await answering()).toBe(pid);
  // The time begins anew with each use.
  vi.advanceTimersByTime(179_000);
  expect(await answering()).toBe(pid);
  vi.advanceTimersByTime(181_000);
  await until("it is closed", async () => (await poolActivity(database.url)).length === 0);
  expect(await answering()).not.toBe(pid);
});
