// A reader that stalls costs the server a page or two, however long the stream.
import { afterAll, beforeAll, expect, test } from "vitest";
import { assertCountersAgree } from "../../harness/counters.js";
import { fillLongSession } from "../../harness/long-session.js";
import { residentBytes } from "../../harness/memory.js";
import { createDatabase, type TestDatabase } from "../../harness/postgres.js";
import { type Proxy, proxyToPostgres } from "../../harness/proxy.js";
import { type SpawnedServer, spawnServer } from "../../harness/server.js";
import { pages, Stubs } from "../../harness/stubs.js";

const MESSAGES = 40_000;
const CONTENT = 2_500;
const MIB = 1024 * 1024;
const STREAM = MESSAGES * CONTENT;

let database: TestDatabase;
let postgres: Proxy;
let server: SpawnedServer;
let stubs: Stubs;
const conversationId = 1n;

// 100 MB.
beforeAll(async () => {
  database = await createDatabase();
  await fillLongSession(database.url, { messages: MESSAGES, characters: CONTENT });
  expect(await assertCountersAgree(database.url)).toBe(1);
  postgres = await proxyToPostgres(database.url);
  server = await spawnServer(["--database-url", postgres.address, "--log-level", "warn"]);
  stubs = new Stubs(server.address);
  // What a server needs once it has worked at all is no growth.
  await stubs.call("getMessages", { conversationId, pageSize: 1_000 });
});

afterAll(async () => {
  stubs?.close();
  await server?.end("SIGTERM");
  await postgres?.close();
  await database?.drop();
});

/** Opens a stream on a connection of its own, reads one page and stalls. */
async function stalledReader() {
  const own = new Stubs(server.address);
  const stream = own.stream({ conversationId, pageSize: 1_000 });
  const reader = pages(stream);
  const first = await reader.next();
  if (first.done) throw new Error("the stream is empty");
  return { own, reader, first: first.value };
}

/**
 * Reads the whole stream beside those who stall: a server that read on for them would do so as fast as
 * for this reader.
 *
 * @param before the server's memory before anybody stalled
 * @returns by how much it has grown at the most, and what the server has read of Postgres
 */
async function readWhileOthersStall(before: number): Promise<{ growth: number; read: number }> {
  const own = new Stubs(server.address);
  const readBefore = postgres.received();
  let growth = 0;
  for await (const _ of pages(own.stream({ conversationId, pageSize: 1_000 }))) {
    growth = Math.max(growth, residentBytes(server.child.pid!) - before);
  }
  own.close();
  return { growth, read: postgres.received() - readBefore };
}

test("one reader stalls, then reads on and gets all 40,000 in order", async () => {
  const before = residentBytes(server.child.pid!);
  const { own, reader, first } = await stalledReader();
  const { growth, read } = await readWhileOthersStall(before);
  report(`1 stalled reader: +${mib(growth)} over ${mib(before)}; ${mib(read)} read`);
  // The stream once, for the other reader, and what a client takes before it stalls.
  expect(read).toBeLessThan(1.5 * STREAM);
  // Two pages, their encoded forms, and garbage not yet collected.
  expect(growth).toBeLessThan(100 * MIB);

  let seq = BigInt(first.messages.length);
  expect(first.messages[0]?.seq).toBe(1n);
  for await (const page of reader) {
    for (const message of page.messages) {
      if (message.seq !== seq + 1n) throw new Error(`seq ${message.seq} follows ${seq}`);
      if (!message.content.endsWith(`x${message.seq}`)) throw new Error(`wrong at ${message.seq}`);
      seq = message.seq;
    }
    expect(page.lastSeq).toBe(seq);
  }
  expect(seq).toBe(BigInt(MESSAGES));
  report(`read to its end: +${mib(residentBytes(server.child.pid!) - before)}`);
  own.close();
});

test("eight readers stall at once, and the server serves others meanwhile", async () => {
  const before = residentBytes(server.child.pid!);
  const readers = await Promise.all(Array.from({ length: 8 }, stalledReader));
  const { growth, read } = await readWhileOthersStall(before);
  report(`8 stalled readers: +${mib(growth)} over ${mib(before)}; ${mib(read)} read`);
  // Of nine times the stream.
  expect(read).toBeLessThan(4 * STREAM);
  expect(growth).toBeLessThan(220 * MIB);
  // No stalled reader holds one of the 16 connections.
  const answers = await Promise.all(
    Array.from({ length: 40 }, () => stubs.call("getSession", { conversationId })),
  );
  expect(answers).toHaveLength(40);
  for (const { own, reader } of readers) {
    await reader.return();
    own.close();
  }
});

function mib(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}

function report(line: string): void {
  process.stdout.write(`slow reader: ${line}\n`);
}
