// An orderly end: readers can resume, calls in flight finish, nothing is left running.
import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { AgentStoreError } from "../../../client/errors.js";
import { databaseUrl, killPostgres, postmasterOf } from "../../harness/chaos.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { watchHealth } from "../../harness/health.js";
import { type HeldLock, holdSession, until, untilBlocked } from "../../harness/postgres-watch.js";
import { type SpawnedServer, spawnServer, startServer } from "../../harness/server.js";
import { failureOf, newMessage, pages, Stubs } from "../../harness/stubs.js";
import { SessionsWatcher, SessionWatcher } from "../../harness/watching.js";

let dataDir: string;
let server: SpawnedServer;
let stubs: Stubs;
let conversationId: bigint;
let lock: HeldLock | undefined;
let postgres: number;

async function start(...flags: string[]): Promise<void> {
  server = await spawnServer(["--data-dir", dataDir, ...flags]);
  stubs = new Stubs(server.address);
  postgres = postmasterOf(dataDir)!.pid;
}

async function startWithSession(...flags: string[]): Promise<void> {
  await start(...flags);
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  conversationId = session!.id;
}

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "shutdown-"));
});

afterEach(async () => {
  stubs?.close();
  await lock?.release();
  lock = undefined;
  await server?.end("SIGKILL");
  killPostgres(dataDir);
  await rm(dataDir, { recursive: true, force: true, maxRetries: 10 });
});

// In an object, because an async function would wait for the call itself.
async function blockedAppend(content: string) {
  lock = await holdSession(databaseUrl(dataDir), conversationId);
  const call = stubs.call("addMessage", {
    conversationId,
    message: newMessage({ content }),
    requestId: content,
  });
  call.catch(() => {});
  await untilBlocked(databaseUrl(dataDir));
  return { call };
}

async function fill(batches: number): Promise<void> {
  const content = "x".repeat(20_000);
  for (let n = 0; n < batches; n++) {
    const messages = Array.from({ length: 50 }, () => newMessage({ content }));
    await stubs.call("addMessages", { conversationId, messages });
  }
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    if (child.exitCode !== null) resolve(child.exitCode);
    else child.once("exit", (code) => resolve(code));
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("SIGTERM: streams end resumably, a call in flight finishes, new ones are refused", async () => {
  await startWithSession();
  // 20 MB: more than a connection buffers, so the stream is in its middle.
  await fill(20);
  const stream = stubs.stream({ conversationId, pageSize: 10 });
  const reader = pages(stream);
  const seen: bigint[] = [];
  const first = await reader.next();
  if (!first.done) seen.push(...first.value.messages.map(({ seq }) => seq));
  const watch = watchHealth(stubs);
  await watch.until("SERVING");
  const { call: append } = await blockedAppend("in flight");

  server.child.kill("SIGTERM");
  await watch.until("NOT_SERVING");
  const failure = await failureOf(
    (async () => {
      for await (const page of reader) seen.push(...page.messages.map(({ seq }) => seq));
    })(),
  );
  expect(failure).toMatchObject({ code: "UNAVAILABLE", reason: "SHUTTING_DOWN" });
  expect(seen.length).toBeLessThan(1_000);
  const late = new Stubs(server.address);
  expect(await failureOf(late.call("getSession", { conversationId }))).toMatchObject({
    code: "UNAVAILABLE",
  });
  late.close();
  watch.stop();

  await lock!.release();
  expect((await append).message?.seq).toBe(1_001n);
  expect(await exitOf(server.child), server.output()).toBe(0);
  expect(isRunning(postgres)).toBe(false);

  // What was acknowledged is there after the next start, and the reader goes on where it was.
  stubs.close();
  await start();
  const rest = await stubs.readStream({ conversationId, afterSeq: seen.at(-1)! });
  seen.push(...rest.flatMap(({ messages }) => messages.map(({ seq }) => seq)));
  expect(seen).toEqual(Array.from({ length: 1_001 }, (_, n) => BigInt(n + 1)));
  await assertCountersAgree(databaseUrl(dataDir));
  expect(await server.end("SIGINT")).toBe(0);
});

test("SIGTERM: watches end resumably, idle ones too, and go on after the next start", async () => {
  await startWithSession();
  const { channel } = stubs;
  const watcher = new SessionWatcher(channel, conversationId);
  const ofAll = new SessionsWatcher(channel);
  await Promise.all([watcher.untilKind("caughtUp"), ofAll.untilKind("caughtUp")]);
  await stubs.call("addMessage", { conversationId, message: newMessage({ content: "first" }) });
  await watcher.until("the first", (told) => told.at(-1)?.content === "first");
  await ofAll.until("the first", (told) => told.at(-1)?.content === "first");
  server.child.kill("SIGTERM");
  for (const watch of [watcher, ofAll]) {
    expect(await watch.end()).toMatchObject({ code: "UNAVAILABLE", reason: "SHUTTING_DOWN" });
  }
  expect(await exitOf(server.child), server.output()).toBe(0);
  stubs.close();

  await start();
  await stubs.call("addMessage", { conversationId, message: newMessage({ content: "second" }) });
  const resumed = new SessionWatcher(stubs.channel, conversationId, watcher.revision);
  const resumedOfAll = new SessionsWatcher(stubs.channel, { afterPosition: ofAll.position });
  for (const watch of [resumed, resumedOfAll]) {
    await watch.untilKind("caughtUp");
    expect(watch.told.map(({ content }) => content)).toEqual(["second"]);
    watch.cancel();
  }
});

test("calls that outlast the grace period are told to come back, and have written nothing", async () => {
  await startWithSession("--grace-seconds", "1");
  await fill(20);
  // A reader that does not read, which must not hold the server either.
  const stalled = stubs.stream({ conversationId });
  await new Promise((resolve) => stalled.once("data", resolve));
  stalled.pause();
  const append = failureOf((await blockedAppend("too late")).call);
  server.child.kill("SIGTERM");
  expect(await append).toMatchObject({ code: "UNAVAILABLE", reason: "SHUTTING_DOWN" });
  expect(await exitOf(server.child), server.output()).toBe(0);
  expect(isRunning(postgres)).toBe(false);
  await lock!.release();
  stubs.close();

  await start();
  const { session } = await stubs.call("getSession", { conversationId });
  expect(session?.lastSeq).toBe(1_000n);
  const retried = await stubs.call("addMessage", {
    conversationId,
    message: newMessage({ content: "too late" }),
    requestId: "too late",
  });
  expect(retried.replayed).toBe(false);
});

test("a second signal ends it at once, and takes Postgres along", async () => {
  await startWithSession("--grace-seconds", "3600");
  const append = failureOf((await blockedAppend("never")).call);
  server.child.kill("SIGTERM");
  await until("it stops", () => server.output().includes('"stopping'));
  server.child.kill("SIGTERM");
  expect(await exitOf(server.child)).toBe(130);
  expect(await append).toBeInstanceOf(AgentStoreError);
  await until("Postgres has ended", () => !isRunning(postgres));

  stubs.close();
  await start();
  const { session } = await stubs.call("getSession", { conversationId });
  expect(session?.lastSeq).toBe(0n);
});

test("whoever watches its health does not keep it up", async () => {
  const inProcess = await startServer({ graceMs: 3_600_000 });
  const watcher = new Stubs(inProcess.address);
  const watch = watchHealth(watcher);
  await watch.until("SERVING");
  // Otherwise it waits for the grace period to pass, or for grpc-js to lose its patience.
  await inProcess.stop();
  expect(watch.statuses).toEqual(["SERVING", "NOT_SERVING"]);
  watcher.close();
}, 20_000);
