// Columns in the binary format arrive in Postgres as what they were made of.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  byteaColumn,
  int8Column,
  jsonbColumn,
  jsonColumn,
  textColumn,
} from "../../server/db/array-parameter.js";
import { BinaryRow } from "../../server/db/binary-row.js";
import { Database, statement } from "../../server/db/database.js";
import { createDatabase, type TestDatabase } from "../harness/postgres.js";

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

interface Row {
  int8: bigint | null;
  text: string | null;
  json: string | null;
  jsonb: string | null;
  bytea: Buffer | null;
}

// Not what Postgres' text does not hold.
const text = fc
  .string({ unit: "binary", maxLength: 60 })
  .map((value) => value.toWellFormed().replaceAll("\0", " "));
const json = fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.stringify(value));
const rows = fc.array(
  fc.record<Row>({
    int8: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
    text: fc.option(fc.oneof(text, fc.constantFrom("", "NULL", '{"a\\,}', "x".repeat(10_000)))),
    json: fc.option(json),
    jsonb: fc.option(json.map((value) => value.replaceAll("\\u0000", " "))),
    bytea: fc.option(fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes))),
  }),
  { minLength: 1, maxLength: 40 },
);

const asTyped = statement<Record<keyof Row, unknown>>(
  "as_typed",
  `SELECT int8, text, json::text AS json, jsonb = json_again::jsonb AS jsonb, bytea
     FROM unnest($1::bigint[], $2::text[], $3::json[], $4::jsonb[], $5::bytea[], $6::text[])
       WITH ORDINALITY AS rows (int8, text, json, jsonb, bytea, json_again, place)
    ORDER BY place`,
);

test("every value comes back, and a column without one is NULL throughout", async () => {
  await fc.assert(
    fc.asyncProperty(rows, async (given) => {
      const values = [
        int8Column(given, (row) => row.int8),
        textColumn(given, (row) => row.text),
        jsonColumn(given, (row) => row.json),
        jsonbColumn(given, (row) => row.jsonb),
        byteaColumn(given, (row) => row.bytea),
        textColumn(given, (row) => row.jsonb),
      ];
      // Without any column at all there is nothing to unnest.
      fc.pre(values.some((value) => value !== null));
      const longest = values.every((value) => value === null) ? 0 : given.length;
      const read = await db.query(asTyped, values, signal);
      expect(read).toHaveLength(longest);
      expect(read).toEqual(
        given.map((row) => ({ ...row, jsonb: row.jsonb === null ? null : true })),
      );
    }),
  );
});

test("numbers and undefined are taken too", async () => {
  const column = int8Column([1, undefined, -2n, null], (value) => value);
  const read = await db.query(
    statement<{ values: string[] }>("as_text", "SELECT $1::bigint[]::text AS values"),
    [column],
    signal,
  );
  expect(read).toEqual([{ values: "{1,NULL,-2,NULL}" }]);
  expect(int8Column([undefined, null], (value) => value)).toBeNull();
  expect(textColumn([], (value: string) => value)).toBeNull();
});

test("rows in the binary format are read column by column", async () => {
  const read: unknown[] = [];
  await db.queryRows(
    statement("row", "SELECT $1::bigint, $2::text, ''::text, -1::bigint"),
    [2n ** 63n - 1n, "漢字 é"],
    (bytes, start) => {
      const row = new BinaryRow(bytes, start);
      read.push(row.int8(), row.text(), row.text(), row.int8());
    },
    signal,
  );
  expect(read).toEqual([2n ** 63n - 1n, "漢字 é", "", -1n]);
});
