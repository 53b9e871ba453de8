// Streams at once, read slowly, given up and broken, whose bytes are all their own: rows are read
// from memory that is used again for the next ones, and so are pages.
import { connect } from "node:net";
import type { ClientReadableStream } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type AgentMessage,
  GetMessagesRequest,
  GetMessagesResponse,
  MessageOrder,
  MessageView,
  type StreamMessagesResponse,
} from "../../gen/agentstore/v1/messages.js";
import { pgBouncerIsThere, startPgBouncer } from "../harness/pgbouncer.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";
import { overTcp, overTls } from "../harness/postgres-ways.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const SESSIONS = 6;
const COUNT = 700;
const PAGE_SIZES = [1_000, 100, 30, 7];

// What a message says is different in each, at each place of it. Most are short; every 50th one has
// more than a socket gives at a time, every 333rd more than a page should have.
const sayings = (session: bigint, seq: number) => {
  const repeats = seq % 333 === 0 ? 130_000 : seq % 50 === 0 ? 8_000 : 1 + (seq % 90);
  return `${session}:${seq} `.repeat(repeats);
};
const SAYINGS = `repeat($1 || ':' || seq || ' ',
  CASE WHEN seq % 333 = 0 THEN 130000 WHEN seq % 50 = 0 THEN 8000 ELSE 1 + seq % 90 END)`;

let database: TestDatabase;
let sessions: bigint[];

beforeAll(async () => {
  database = await createDatabase();
  sessions = await withClient(database.url, async (client) => {
    await client.query("INSERT INTO models (id) VALUES ('m')");
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO conversations (model_id, last_seq, revision, message_count)
       SELECT 'm', $1::bigint, $1::bigint + 1, $1::bigint FROM generate_series(1, $2::int) RETURNING id`,
      [COUNT, SESSIONS],
    );
    for (const { id } of rows) {
      await client.query(
        `INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, name, metadata)
         SELECT $1::text::bigint, seq, seq + 1, 'user', ${SAYINGS}, $1 || '/' || seq,
           CASE WHEN seq % 11 = 0 THEN jsonb_build_object('of', $1 || '/' || seq) END
         FROM generate_series(1, $2::int) AS seq`,
        [id, COUNT],
      );
    }
    return rows.map(({ id }) => BigInt(id));
  });
});
afterAll(async () => {
  await database?.drop();
});

describe.each([
  ["a Unix socket", async (url: string) => ({ url, cut: undefined, close: async () => {} })],
  ["TCP, in pieces", overTcp],
  ["TLS", overTls],
])("over %s", (_, openWay) => {
  let way: { url: string; cut: (() => void) | undefined; close(): Promise<void> };
  let server: TestServer;
  let stubs: Stubs;

  beforeAll(async () => {
    way = await openWay(database.url);
    server = await startServer({ databaseUrl: way.url, httpPort: 0 });
    stubs = new Stubs(server.address);
  });
  afterAll(async () => {
    stubs?.close();
    await server?.stop();
    await way?.close();
  });

  test("slow readers and writers", () => slowReaders(server, stubs));

  test("readers of connections that break", async () => {
    if (!way.cut) return;
    for (let round = 0; round < 3; round++) {
      const readers = startReaders(stubs, round);
      await Promise.all(readers.map((reader) => reader.page()));
      way.cut();
      // Each ends, by itself or by the break; what has come until then is right.
      await Promise.allSettled(readers.map((reader) => reader.rest()));
      readers.forEach((reader) => expect(reader.wrong).toEqual([]));
    }
    await slowReaders(server, stubs);
  });
});

describe.skipIf(!pgBouncerIsThere())("PgBouncer (skipped where pgbouncer is not installed)", () => {
  test("slow readers and writers", async () => {
    const bouncer = await startPgBouncer(database.url, 3);
    const server = await startServer({ databaseUrl: bouncer.url, httpPort: 0 });
    const stubs = new Stubs(server.address);
    try {
      await slowReaders(server, stubs);
    } finally {
      stubs.close();
      await server.stop();
      await bouncer.stop();
    }
  });
});

// Two readers of each session, in turns: while one reads a page, the others' pages wait in the
// server, as those over HTTP do. Some go away in between, and appends are answered all the time.
async function slowReaders(server: TestServer, stubs: Stubs): Promise<void> {
  const { session } = await stubs.call("createSession", { modelId: "m" });
  const own = session!.id;
  const readers = [...startReaders(stubs, 0), ...startReaders(stubs, 1)];
  const reading = new Set(readers);
  const overHttp = askOverHttp(server);
  let appended = 0;
  for (let turn = 0; reading.size > 0; turn++) {
    for (const reader of reading) if (!(await reader.page())) reading.delete(reader);
    if (turn === 2) {
      for (const reader of readers.slice(0, 2)) {
        reader.stream.cancel();
        reading.delete(reader);
      }
    }
    const contents = Array.from({ length: 1 + (turn % 60) }, (__, index) =>
      sayings(own, appended + index + 1),
    );
    const { messages } = await stubs.call("addMessages", {
      conversationId: own,
      messages: contents.map((content) => newMessage({ content })),
      view: MessageView.FULL,
    });
    expect(messages.every(({ content }, index) => content === contents[index])).toBe(true);
    appended += contents.length;
  }
  await overHttp.read();
  for (const reader of readers) expect(reader.wrong).toEqual([]);
  for (const reader of readers.slice(2)) expect(reader.read).toBe(COUNT);
}

// Asks for a page of each session, again and again on one connection, and reads none for now: more
// than the sockets take.
function askOverHttp({ httpUrl }: TestServer): { read(): Promise<void> } {
  const { hostname, port } = new URL(httpUrl);
  const asked = Array.from({ length: 5 }, () => sessions).flat();
  const socket = connect(Number(port), hostname);
  for (const [index, conversationId] of asked.entries()) {
    const request = GetMessagesRequest.fromPartial({ conversationId, pageSize: 1_000 });
    const body = GetMessagesRequest.encode(request).finish();
    const last = index === asked.length - 1 ? "connection: close\r\n" : "";
    socket.write(
      `POST /agentstore.v1.AgentStore/GetMessages HTTP/1.1\r\nhost: ${hostname}\r\n${last}` +
        `content-type: application/proto\r\ncontent-length: ${body.length}\r\n\r\n`,
    );
    socket.write(body);
  }
  return {
    async read() {
      const chunks: Buffer[] = [];
      for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
      let rest = Buffer.concat(chunks);
      for (const session of asked) {
        const start = rest.indexOf("\r\n\r\n") + 4;
        const length = /^content-length: (\d+)/im.exec(rest.toString("latin1", 0, start))![1];
        const end = start + Number(length);
        const { messages } = GetMessagesResponse.decode(rest.subarray(start, end));
        expect(messages.length).toBeGreaterThan(100);
        expect(messages.every((each, at) => isRight(each, session, at + 1))).toBe(true);
        rest = rest.subarray(end);
      }
    },
  };
}

function isRight(message: AgentMessage, session: bigint, seq: number): boolean {
  const name = `${session}/${seq}`;
  return (
    message.conversationId === session &&
    message.seq === BigInt(seq) &&
    message.name === name &&
    message.content === sayings(session, seq) &&
    message.metadata?.of === (seq % 11 === 0 ? name : undefined)
  );
}

function startReaders(stubs: Stubs, round: number): Reader[] {
  return sessions.map((session, index) => {
    const newest = (index + round) % 2 === 1;
    const pageSize = PAGE_SIZES[(index + round) % PAGE_SIZES.length]!;
    return new Reader(stubs, session, newest, pageSize);
  });
}

class Reader {
  readonly stream: ClientReadableStream<StreamMessagesResponse>;
  read = 0;
  /** The messages that were not as they were written. */
  readonly wrong: string[] = [];
  readonly #pages: AsyncIterator<StreamMessagesResponse>;

  constructor(
    stubs: Stubs,
    readonly session: bigint,
    readonly newest: boolean,
    pageSize: number,
  ) {
    const order = newest ? MessageOrder.NEWEST_FIRST : MessageOrder.OLDEST_FIRST;
    this.stream = stubs.stream({ conversationId: session, pageSize, order });
    this.#pages = this.stream[Symbol.asyncIterator]() as AsyncIterator<StreamMessagesResponse>;
  }

  /** Reads a page and looks at each of its messages; returns whether there was one. */
  async page(): Promise<boolean> {
    const { done, value } = await this.#pages.next();
    if (done) return false;
    for (const message of value.messages) {
      const seq = this.newest ? COUNT - this.read : this.read + 1;
      this.read++;
      if (!isRight(message, this.session, seq)) this.wrong.push(`${this.session}/${seq}`);
    }
    return true;
  }

  async rest(): Promise<void> {
    while (await this.page());
  }
}
