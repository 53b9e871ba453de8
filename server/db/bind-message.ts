// Runs a prepared statement whose parameters are all in the binary format (PostgreSQL documentation,
// 54.7: Bind, Describe, Execute), as one piece of memory.
//
// pg's own writer begins with 256 bytes and copies all into half as much again whenever that is
// full: for a group of appends, three times as many bytes of garbage as the group has.

const BIND = 0x42;
const BINARY = 1;
// Describe the portal, so that the rows are announced; execute it to its end.
const AFTER_BIND = Buffer.from("D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0", "latin1");
// Its length, the portal's empty name, the number of formats and one format, for the parameters and
// for the columns, and the number of parameters.
const FIXED_BYTES = 4 + 1 + 4 + 2 + 4;
const LENGTH_BYTES = 4;

/** Are all parameters of a kind that bindAndExecute() takes? */
export function areBinary(values: readonly unknown[]): values is (Buffer | null)[] {
  return values.every((value) => value === null || Buffer.isBuffer(value));
}

/**
 * Encodes the messages that run a prepared statement, up to the Sync.
 *
 * @param name the statement's
 * @param values the parameters; those that are not null in the binary format of their type
 */
export function bindAndExecute(name: string, values: readonly (Buffer | null)[]): Buffer {
  const nameBytes = Buffer.byteLength(name) + 1;
  let length = FIXED_BYTES + nameBytes;
  for (const value of values) length += LENGTH_BYTES + (value?.length ?? 0);
  const bytes = Buffer.allocUnsafe(1 + length + AFTER_BIND.length);
  let at = bytes.writeUInt8(BIND, 0);
  at = bytes.writeInt32BE(length, at);
  at = bytes.writeUInt8(0, at);
  at += bytes.write(name, at);
  at = bytes.writeUInt8(0, at);
  at = bytes.writeInt16BE(1, at);
  at = bytes.writeInt16BE(BINARY, at);
  at = bytes.writeInt16BE(values.length, at);
  for (const value of values) {
    at = bytes.writeInt32BE(value?.length ?? -1, at);
    if (value === null) continue;
    bytes.set(value, at);
    at += value.length;
  }
  at = bytes.writeInt16BE(1, at);
  at = bytes.writeInt16BE(BINARY, at);
  bytes.set(AFTER_BIND, at);
  return bytes;
}
