// Writes protobuf and gRPC bytes by hand, valid or not, and reads fields without their types.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** A varint; negative numbers take ten bytes, as int32 and int64 do. */
export function varint(value: bigint | number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** A field's tag. */
export function tag(field: number, wireType: number): Buffer {
  return varint((BigInt(field) << 3n) | BigInt(wireType));
}

/** A field of an integer, bool or enum. */
export function int(field: number, value: bigint | number): Buffer {
  return Buffer.concat([tag(field, 0), varint(value)]);
}

/** A field of a double. */
export function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([tag(field, 1), bytes]);
}

/** A field of a string, of bytes or of a message; several parts are joined. */
export function bytes(field: number, ...parts: (Uint8Array | string)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  return Buffer.concat([tag(field, 2), varint(body.length), body]);
}

/** Joins fields to a message. */
export function message(...fields: Uint8Array[]): Buffer {
  return Buffer.concat(fields);
}

/** A gRPC frame: the message behind its flag and length, which may be lies. */
export function frame(
  body: Uint8Array,
  { flag = 0, length = body.length }: { flag?: number; length?: number } = {},
): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flag, 0);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, body]);
}

/** The strings, bytes or messages that a message has under a field's number. */
export function fieldsOf(body: Uint8Array, field: number): Uint8Array[] {
  const reader = new BinaryReader(body);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number === field && wireType === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(wireType, number);
  }
  return found;
}
