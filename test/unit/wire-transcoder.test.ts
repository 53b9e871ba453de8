// Pages written from Postgres' rows are those that the generated encoder writes.
import fc from "fast-check";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentMessage, StreamMessagesResponse } from "../../gen/agentstore/v1/messages.js";
import { Database, statement } from "../../server/db/database.js";
import { type OnRow, RowSplitter } from "../../server/db/row-splitter.js";
import { toAgentMessage } from "../../server/messages/message.js";
import { MESSAGE_COLUMNS, type MessageRow } from "../../server/messages/sql.js";
import { MessagePage, WIRE_COLUMNS } from "../../server/messages/wire/message-page.js";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";

// Rows come from here: a table of any rows, also of those that an older table may hold.
const TYPES: Record<string, string> = {
  role: "text",
  content: "text",
  name: "text",
  tool_calls: "json",
  tool_call_id: "text",
  payload: "text",
  payload_type: "text",
  metadata: "jsonb",
  exact: "bytea",
  edited_at: "timestamptz",
  deleted_at: "timestamptz",
};
const columns = MESSAGE_COLUMNS.map((column) => ({ column, type: TYPES[column] ?? "bigint" }));
const FROM = `FROM unnest(${columns.map(({ type }, index) => `$${index + 1}::${type}[]`).join(", ")})
  WITH ORDINALITY AS rows (${MESSAGE_COLUMNS.join(", ")}, place) ORDER BY place`;
const asObjects = statement<MessageRow>(
  "as_objects",
  `SELECT ${MESSAGE_COLUMNS.join(", ")} ${FROM}`,
);
const asBytes = statement<MessageRow>("as_bytes", `SELECT ${WIRE_COLUMNS.join(", ")} ${FROM}`);
const { signal } = new AbortController();

let database: TestDatabase;
let db: Database;
beforeAll(async () => {
  database = await createDatabase();
  db = new Database(database.url, { poolSize: 2 });
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: -300n, max: 300n }),
  fc.nat({ max: 63 }).chain((bit) => fc.constantFrom(2n ** BigInt(bit) - 1n, -(2n ** BigInt(bit)))),
);
// Not what Postgres' text does not hold.
const anyText = fc
  .string({ unit: "binary", maxLength: 40 })
  .map((text) => text.toWellFormed().replaceAll("\0", " "));
const text = fc.oneof(
  { weight: 8, arbitrary: anyText },
  { weight: 2, arbitrary: fc.constantFrom("", "\uFEFFx", "a".repeat(127), "é".repeat(64)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(anyText, fc.constantFrom(128, 16_383, 16_384, 70_000))
      .map(([start, length]) => start + "x".repeat(length)),
  },
);
const orNull = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { freq: 2 });
const jsonText = fc.string({ unit: "binary", maxLength: 20 }).map((value) => value.toWellFormed());
const toolCalls = fc
  .array(fc.record({ id: jsonText, name: jsonText, arguments: jsonText }), { maxLength: 3 })
  .map((calls) => JSON.stringify(calls));
const metadata = fc
  .dictionary(anyText, fc.jsonValue({ maxDepth: 3 }), { maxKeys: 4 })
  .map((value) => JSON.stringify(value).replaceAll("\\u0000", " "))
  // A jsonb number takes what a double does not.
  .filter((json) => !/e\+?\d{3}/i.test(json));
const exact = fc
  .record({
    content: jsonText,
    name: jsonText,
    toolCallId: jsonText,
    payload: jsonText,
    payloadType: jsonText,
  })
  .map((texts) => Buffer.from(AgentMessage.encode(AgentMessage.fromPartial(texts)).finish()));

// The service writes whole milliseconds.
const time = fc.date({
  min: new Date("0001-01-01T00:00:00Z"),
  max: new Date("9999-12-31T23:59:59.999Z"),
  noInvalidDate: true,
});

const ROW: Record<string, fc.Arbitrary<unknown>> = {
  role: fc.oneof(
    fc.constantFrom("system", "user", "assistant", "tool"),
    fc.constantFrom(
      "",
      "uses",
      "User",
      "users",
      "toolbox",
      "developer",
      "constructor",
      "__proto__",
    ),
  ),
  content: text,
  id: int64,
  conversation_id: int64,
  seq: int64,
  revision: int64,
  tool_calls: orNull(fc.oneof(toolCalls, fc.constant("null"))),
  metadata: orNull(fc.oneof(metadata, fc.constant("null"))),
  exact: fc.option(exact, { freq: 6 }),
  version: int64,
  edited_at: orNull(time),
  deleted_at: orNull(time),
};
const row = fc.tuple(
  ...columns.map(
    ({ column, type }) => ROW[column] ?? (type === "text" ? orNull(text) : orNull(int64)),
  ),
);

test("a page has the bytes of the generated encoder, whatever the rows hold", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 60 }), async (rows) => {
      const values = columns.map((_, column) => rows.map((cells) => cells[column]));
      const messages = (await db.query(asObjects, values, signal)).map(toAgentMessage);
      const lastSeq = messages.at(-1)!.seq;
      const page = new MessagePage();
      await db.queryRows(
        asBytes,
        values,
        (bytes, start, end) => page.add(bytes, start, end),
        signal,
      );

      expect(page.count).toBe(messages.length);
      expect(BigInt.asIntN(64, page.lastSeq)).toBe(lastSeq);
      const rest = StreamMessagesResponse.encode({ messages: [], lastSeq }).finish();
      const bytes = page.encode(rest).take();
      expect(StreamMessagesResponse.decode(bytes)).toEqual(
        StreamMessagesResponse.decode(
          StreamMessagesResponse.encode({ messages, lastSeq }).finish(),
        ),
      );
      expect(bytes.equals(StreamMessagesResponse.encode({ messages, lastSeq }).finish())).toBe(
        true,
      );
    }),
    { numRuns: 150 },
  );
});

test("rows are the same wherever the socket's chunks are cut", async () => {
  const count = 30;
  const values = columns.map(({ column, type }) =>
    Array.from({ length: count }, (_, index) => {
      // One is longer than what a splitter makes room for at first.
      if (column === "content") return `${index} `.repeat(index === 20 ? 600_000 : index * 19);
      if (column === "role") return "user";
      return type === "bigint" ? BigInt(index) : null;
    }),
  );
  const messages = (await db.query(asObjects, values, signal)).map(toAgentMessage);
  const expected = StreamMessagesResponse.encode({ messages, lastSeq: 0n }).finish();
  const wire = await record(asBytes.text, values);
  const plain = textsOf(wire);
  // Cuts in the large row alone would be nearly all of them.
  const cuts = fc.oneof(
    fc.nat({ max: wire.length }),
    fc.nat({ max: 20_000 }),
    fc.nat({ max: 20_000 }).map((fromEnd) => wire.length - fromEnd),
  );
  fc.assert(
    fc.property(fc.array(cuts, { maxLength: 40 }), (places) => {
      const page = new MessagePage();
      const take: OnRow = (row, start, end) => page.add(row, start, end);
      let parsed = "";
      const rest: string[] = [];
      const splitter = new RowSplitter((bytes) => {
        for (const text of textsOf(bytes)) {
          const code = text[0];
          rest.push(text);
          parsed += code;
          if (code === "T" && parsed.includes("Z")) splitter.onRow = take;
          if (code === "C") splitter.onRow = undefined;
        }
      });
      // All chunks are read into the same memory, as a socket does.
      const memory = Buffer.alloc(64 * 1024);
      let from = 0;
      for (const cut of [...places, wire.length].toSorted((a, b) => a - b)) {
        while (from < cut) {
          const read = wire.copy(memory, 0, from, Math.min(cut, from + memory.length));
          splitter.push(memory.subarray(0, read));
          from += read;
        }
      }
      expect(page.encode(new Uint8Array()).take().equals(expected)).toBe(true);
      // The rows of the other answer are the parser's.
      expect(parsed).toBe(`12TDDDCZ12TCZ`);
      expect(rest).toEqual([...plain.slice(0, 11), ...plain.slice(11 + count)]);
    }),
    { numRuns: 150 },
  );
});

test("a message is given no more room than about what has arrived of it", () => {
  const codes: string[] = [];
  const splitter = new RowSplitter((bytes) => codes.push(...textsOf(bytes)));
  // What a server that is no Postgres may begin with: this says that 4 GiB come.
  const before = process.memoryUsage().arrayBuffers;
  splitter.push(Buffer.from([0x48, 0xff, 0xff, 0xff, 0xff, 0x20]));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 * 1024 * 1024);
  expect(codes).toEqual([]);
});

test("what the receiver of rows throws ends its query alone", async () => {
  const alone = new Database(database.url, { poolSize: 1 });
  try {
    const rows = statement<object>("rows", "SELECT n FROM generate_series(1, 5000) AS n");
    let calls = 0;
    const fail: OnRow = () => {
      calls++;
      throw new Error("no more");
    };
    await expect(alone.queryRows(rows, [], fail, signal)).rejects.toThrow("no more");
    expect(calls).toBe(1);
    // The same connection serves on, with objects and with bytes.
    expect(await alone.query(rows, [], signal)).toHaveLength(5000);
    let sum = 0;
    const add: OnRow = (row, start) => {
      sum += row.readInt32BE(start + 6);
    };
    await alone.queryRows(rows, [], add, signal);
    expect(sum).toBe(12_502_500);
    const failing = statement<object>(
      "failing",
      "SELECT 10 / (3 - n) FROM generate_series(1, 5) n",
    );
    await expect(alone.queryRows(failing, [], add, signal)).rejects.toThrow("division by zero");
    expect(await alone.query(rows, [], signal)).toHaveLength(5000);
  } finally {
    await alone.close();
  }
});

// What Postgres sends for two statements: one of three rows as text, then this one in binary.
async function record(text: string, values: unknown[]): Promise<Buffer> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  const chunks: Buffer[] = [];
  // Copies: pg's parser uses a chunk's memory again.
  client.connection.stream.on("data", (chunk: Buffer) => chunks.push(Buffer.from(chunk)));
  await client.query("SELECT n FROM generate_series(1, $1::int) AS n", [3]);
  // pg makes the wrong values of binary rows; only what came over the wire matters.
  await client.query({ text, values, binary: true } as pg.QueryConfig);
  await client.end();
  return Buffer.concat(chunks);
}

// Whole messages as text; the first character is the code.
function textsOf(bytes: Buffer): string[] {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + bytes.readUInt32BE(at + 1);
    texts.push(bytes.toString("latin1", at, end));
    at = end;
  }
  return texts;
}
