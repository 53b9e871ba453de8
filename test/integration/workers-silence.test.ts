// A worker that stands still without dying: noticed after half a minute, and replaced.
import { afterEach, beforeEach, expect, test } from "vitest";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";
import { until } from "../harness/postgres-watch.js";
import { type SpawnedServer, spawnServer } from "../harness/server.js";
import { Stubs } from "../harness/stubs.js";
import { loggedBy, workersOf } from "../harness/worker-processes.js";

let database: TestDatabase;
let server: SpawnedServer;
let channels: Stubs[];

beforeEach(async () => {
  database = await createDatabase();
  server = await spawnServer(["--database-url", database.url, "--workers", "2"]);
  // New connections go to the workers in turn: one to each.
  channels = [new Stubs(server.address), new Stubs(server.address)];
});

afterEach(async () => {
  for (const channel of channels) channel.close();
  await server.end("SIGKILL");
  await database.drop();
});

test("it is killed, its calls fail, another serves in its place, and the rest goes on", async () => {
  const create = () =>
    Promise.allSettled(channels.map((stubs) => stubs.call("createSession", { modelId: "gpt-4" })));
  for (const { status } of await create()) expect(status).toBe("fulfilled");
  const [silent, lively] = workersOf(server);
  process.kill(silent!, "SIGSTOP");
  const outcomes = await create();
  expect(outcomes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  expect(outcomes.find(({ status }) => status === "rejected")).toMatchObject({
    reason: { code: "UNAVAILABLE" },
  });
  await until("another serves in its place", () =>
    loggedBy(server).some(({ msg }) => msg === "a worker serves in its place"),
  );
  const killed = loggedBy(server).filter(({ msg }) => msg.includes("does not answer"));
  expect(killed).toMatchObject([{ worker: silent, silent_ms: 30_000 }]);
  expect(workersOf(server)).toContain(lively);
  for (const { status } of await create()) expect(status).toBe("fulfilled");
  expect(await server.end("SIGTERM"), server.output()).toBe(0);
}, 120_000);
