// Calls that take longer than the server allows are ended by it.
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditSealer } from "../../server/audit/sealer.js";
import { withoutAuthentication } from "../../server/auth/tokens.js";
import { ChangeFeed } from "../../server/changes/feed.js";
import { limits } from "../../server/config.js";
import { Database } from "../../server/db/database.js";
import { makeLogger } from "../../server/log.js";
import { AppendQueue } from "../../server/messages/append-queue.js";
import { streamMessages } from "../../server/messages/stream-messages.js";
import { addServices } from "../../server/rpc/adapter.js";
import { CallsInFlight } from "../../server/rpc/calls-in-flight.js";
import type { AdminRpcs, Rpcs } from "../../server/rpc/method.js";
import { allMethods } from "../../server/rpc/methods.js";
import { getSession } from "../../server/sessions/get-session.js";
import { PolicySnapshots } from "../../server/snapshots/policy-snapshots.js";
import { Watches } from "../../server/watch/watches.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { holdLock, untilQuiet } from "../harness/postgres-watch.js";
import { failureOf, Stubs } from "../harness/stubs.js";

const logger = makeLogger("silent");
let database: TestDatabase;
let db: Database;
let server: Server;
let calls: CallsInFlight;
let stubs: Stubs;

beforeAll(async () => {
  database = await createDatabase();
  db = new Database(database.url, { poolSize: 2 });
  server = new Server();
  calls = new CallsInFlight();
  const environment = {
    db,
    appends: new AppendQueue(db),
    audit: new AuditSealer(db, logger),
    snapshots: new PolicySnapshots(db, logger),
    watches: new Watches(db, new ChangeFeed(db, logger, true), logger),
    limits: { ...limits, callMs: 50 as typeof limits.callMs, messageBytes: 1_000 },
  };
  const methods = allMethods(
    { store: { getSession, streamMessages } as Rpcs, admin: {} as AdminRpcs },
    { logger, authenticate: withoutAuthentication },
  );
  addServices(server, methods, environment, calls);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  stubs = new Stubs(`127.0.0.1:${port}`);
});
afterAll(async () => {
  stubs?.close();
  server?.forceShutdown();
  calls?.close();
  await db?.close();
  await database?.drop();
});

test("a call, and the page of a stream, may take so long and no longer", async () => {
  const rows = await withClient(database.url, async (client) => {
    await client.query("INSERT INTO models (id) VALUES ('m')");
    const insert = `INSERT INTO conversations (model_id, created_at, updated_at)
      VALUES ('m', now(), now()) RETURNING id::text`;
    return (await client.query<{ id: string }>(insert)).rows;
  });
  const conversationId = BigInt(rows[0]!.id);
  const read = () => stubs.call("getSession", { conversationId });
  expect((await read()).session!.id).toBe(conversationId);
  const lock = await holdLock(database.url, "LOCK TABLE conversations IN ACCESS EXCLUSIVE MODE");
  try {
    expect(await failureOf(read())).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
    const stream = failureOf(stubs.readStream({ conversationId }));
    expect(await stream).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
    await untilQuiet(database.url);
  } finally {
    await lock.release();
  }
  expect((await read()).session!.id).toBe(conversationId);
});
