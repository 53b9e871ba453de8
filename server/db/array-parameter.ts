// Parameters in Postgres' binary format; above all, columns of rows as arrays, for unnest().
//
// As text, each element is quoted, escaped and joined here and taken apart again there, which took
// more of an append's time than anything else on the way to Postgres.

const OID = { bytea: 17, int8: 20, text: 25, json: 114, jsonb: 3802 } as const;

// Dimensions, whether there are nulls, the elements' type, their number, the first one's index.
const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;
const INT8_BYTES = 8;
// A timestamptz counts microseconds from here.
const YEAR_2000_MS = Date.UTC(2000, 0, 1);
/** The version of jsonb's binary format, which stands before its text. */
const JSONB_VERSION = 1;

/**
 * Makes a bigint[] of a column of the rows.
 *
 * @param valueOf a row's value; null and undefined are NULL
 * @returns null when no row has a value: unnest() fills the column with NULL
 */
export function int8Column<Row>(
  rows: readonly Row[],
  valueOf: (row: Row) => bigint | number | null | undefined,
): Buffer | null {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + rows.length * (LENGTH_BYTES + INT8_BYTES));
  let at = HEADER_BYTES;
  let nulls = 0;
  for (const row of rows) {
    const value = valueOf(row);
    if (value === null || value === undefined) {
      at = bytes.writeInt32BE(-1, at);
      nulls++;
    } else {
      at = bytes.writeInt32BE(INT8_BYTES, at);
      at = bytes.writeBigInt64BE(BigInt(value), at);
    }
  }
  if (nulls === rows.length) return null;
  writeHeader(bytes, OID.int8, rows.length, nulls);
  return bytes.subarray(0, at);
}

/** Makes a bigint, for a statement whose parameters are all in the binary format. */
export function int8Parameter(value: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(INT8_BYTES);
  bytes.writeBigInt64BE(value);
  return bytes;
}

/** Makes a timestamptz, as int8Parameter(). */
export function timeParameter(ms: number): Buffer {
  return int8Parameter(BigInt(ms - YEAR_2000_MS) * 1_000n);
}

/** Makes a text[]; otherwise as int8Column(). */
export function textColumn<Row>(
  rows: readonly Row[],
  valueOf: (row: Row) => string | null | undefined,
): Buffer | null {
  return texts(rows, valueOf, OID.text);
}

/** Makes a json[] of JSON texts; otherwise as int8Column(). */
export function jsonColumn<Row>(
  rows: readonly Row[],
  valueOf: (row: Row) => string | null | undefined,
): Buffer | null {
  return texts(rows, valueOf, OID.json);
}

/** Makes a jsonb[] of JSON texts; otherwise as int8Column(). */
export function jsonbColumn<Row>(
  rows: readonly Row[],
  valueOf: (row: Row) => string | null | undefined,
): Buffer | null {
  return texts(rows, valueOf, OID.jsonb);
}

/** Makes a bytea[]; otherwise as int8Column(). */
export function byteaColumn<Row>(
  rows: readonly Row[],
  valueOf: (row: Row) => Uint8Array | null | undefined,
): Buffer | null {
  const values = rows.map(valueOf);
  let size = HEADER_BYTES;
  let nulls = 0;
  for (const value of values) {
    size += LENGTH_BYTES + (value?.length ?? 0);
    if (!value) nulls++;
  }
  if (nulls === rows.length) return null;
  const bytes = Buffer.allocUnsafe(size);
  writeHeader(bytes, OID.bytea, rows.length, nulls);
  let at = HEADER_BYTES;
  for (const value of values) {
    at = bytes.writeInt32BE(value?.length ?? -1, at);
    if (!value) continue;
    bytes.set(value, at);
    at += value.length;
  }
  return bytes;
}

function texts<Row>(
  rows: readonly Row[],
  valueOf: (row: Row) => string | null | undefined,
  oid: number,
): Buffer | null {
  const values = rows.map(valueOf);
  const before = oid === OID.jsonb ? 1 : 0;
  const lengths: number[] = [];
  let size = HEADER_BYTES;
  let nulls = 0;
  for (const value of values) {
    const isNull = value === null || value === undefined;
    const length = isNull ? -1 : Buffer.byteLength(value) + before;
    lengths.push(length);
    size += LENGTH_BYTES + (isNull ? 0 : length);
    if (isNull) nulls++;
  }
  if (nulls === rows.length) return null;
  const bytes = Buffer.allocUnsafe(size);
  writeHeader(bytes, oid, rows.length, nulls);
  let at = HEADER_BYTES;
  for (const [index, value] of values.entries()) {
    at = bytes.writeInt32BE(lengths[index] as number, at);
    if (value === null || value === undefined) continue;
    if (before > 0) at = bytes.writeUInt8(JSONB_VERSION, at);
    at += bytes.write(value, at);
  }
  return bytes;
}

function writeHeader(bytes: Buffer, oid: number, count: number, nulls: number): void {
  bytes.writeInt32BE(1, 0);
  bytes.writeInt32BE(nulls > 0 ? 1 : 0, 4);
  bytes.writeInt32BE(oid, 8);
  bytes.writeInt32BE(count, 12);
  bytes.writeInt32BE(1, 16);
}
