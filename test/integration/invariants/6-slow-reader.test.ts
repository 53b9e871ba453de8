// A reader that stalls costs the server a page or two, however long the stream.
import { afterAll, beforeAll, expect, test } from "vitest";
import { assertCountersAgree } from "../../harness/counters.js";
import { fillLongSession } from "../../harness/long-session.js";
import { growthUntilCalm, residentBytes } from "../../harness/memory.js";
import { createDatabase, type TestDatabase } from "../../harness/postgres.js";
import { type SpawnedServer, spawnServer } from "../../harness/server.js";
import { pages, Stubs } from "../../harness/stubs.js";

const MESSAGES = 100_000;
const CONTENT = 2_500;
const MIB = 1024 * 1024;

let database: TestDatabase;
let server: SpawnedServer;
let stubs: Stubs;
const conversationId = 1n;

// 250 MB.
beforeAll(async () => {
  database = await createDatabase();
  await fillLongSession(database.url, { messages: MESSAGES, characters: CONTENT });
  expect(await assertCountersAgree(database.url)).toBe(1);
  server = await spawnServer(["--database-url", database.url, "--log-level", "warn"]);
  stubs = new Stubs(server.address);
  // What a server needs once it has worked at all is no growth.
  await stubs.call("getMessages", { conversationId, pageSize: 1_000 });
});

afterAll(async () => {
  stubs?.close();
  await server?.end("SIGTERM");
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

/** The growth of the server's memory while nobody reads: one that reads on would read all. */
function growthWhileStalled(before: number): Promise<number> {
  return growthUntilCalm(server.child.pid!, before, MESSAGES * CONTENT);
}

test("one reader stalls, then reads on and gets all 100,000 in order", async () => {
  const before = residentBytes(server.child.pid!);
  const { own, reader, first } = await stalledReader();
  const growth = await growthWhileStalled(before);
  report(
    `1 stalled reader: +${mib(growth)} over ${mib(before)}, stream of ${mib(MESSAGES * CONTENT)}`,
  );
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
  const growth = await growthWhileStalled(before);
  report(`8 stalled readers: +${mib(growth)} over ${mib(before)}`);
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
