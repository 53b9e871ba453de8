// Random histories against the plain model; afterwards the counters against the messages.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { verifyAll } from "../../harness/admin-stubs.js";
import { assertChangesTile } from "../../harness/changes.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { history } from "../../harness/histories.js";
import { assertLabelsAgree } from "../../harness/labels.js";
import { Replayer } from "../../harness/replayer.js";
import { assertRoundTrip } from "../../harness/round-trip.js";
import { startServer, type TestServer } from "../../harness/server.js";
import { Stubs } from "../../harness/stubs.js";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 150);

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

test("any history is answered as the model answers it, and its counters agree", async () => {
  let sessions = 0;
  // A slow machine plays fewer histories, and a failing one is shrunk for as long.
  const enough = Date.now() + 30_000;
  await fc.assert(
    fc.asyncProperty(history(40), async (steps) => {
      if (Date.now() > enough) return;
      const replayer = new Replayer(stubs);
      await replayer.play(steps);
      sessions += replayer.model.sessions.filter(({ deleted }) => !deleted).length;
    }),
    { numRuns: RUNS },
  );
  expect(await assertCountersAgree(server.databaseUrl)).toBe(sessions);
  await assertLabelsAgree(server.databaseUrl);
  await assertChangesTile(server.databaseUrl);
  const { fault, checked } = await verifyAll(stubs.channel);
  expect(fault).toBeUndefined();
  expect(checked).toBeGreaterThan(0n);
  expect(await assertRoundTrip(stubs)).toBe(sessions);
});
