// A growing buffer that protobuf fields are written into.
//
// reserve() first: all methods that do not say so write without looking at the space that is left.

import { Encoded } from "../../rpc/method.js";

const EMPTY = Buffer.alloc(0);
const FIRST_SIZE = 16 * 1024;
// Buffers to write into again. New ones for each page, outgrown one after another, made the garbage
// collector take as much time as all else together.
const SPARE_BYTES = 4 * 1024 * 1024;
// The largest last.
const spares: Buffer[] = [];
let spareBytes = 0;
const KEY_AND_LENGTH = 6;
const TWO_32 = 2 ** 32;
const MOST_SAFE = BigInt(Number.MAX_SAFE_INTEGER);
// Below this, a loop copies faster than a call into the runtime.
const SHORT_COPY = 24;

/** The bytes of a message in the making. */
export class ProtobufBuffer {
  #bytes = takeSpare();
  #at = 0;

  /** How many bytes have been written. */
  get length(): number {
    return this.#at;
  }

  /** Makes room for so many bytes. */
  reserve(count: number): void {
    const needed = this.#at + count;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }

  /** Writes a field's key. */
  key(key: number): void {
    // Below the field number 16 it is one byte.
    if (key < 0x80) this.#bytes[this.#at++] = key;
    else this.varint(key);
  }

  /** Writes a varint of 0 to 2^32 - 1. */
  varint(value: number): void {
    const bytes = this.#bytes;
    let at = this.#at;
    let rest = value;
    while (rest > 0x7f) {
      bytes[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    bytes[at++] = rest;
    this.#at = at;
  }

  /** Writes an int64, given as two unsigned halves. */
  int64(high: number, low: number): void {
    if (high === 0) {
      this.varint(low);
      return;
    }
    const bytes = this.#bytes;
    let at = this.#at;
    let upper = high;
    let lower = low;
    while (upper !== 0 || lower > 0x7f) {
      bytes[at++] = (lower & 0x7f) | 0x80;
      lower = ((lower >>> 7) | (upper << 25)) >>> 0;
      upper >>>= 7;
    }
    bytes[at++] = lower;
    this.#at = at;
  }

  /** Writes an int64 with its key; nothing for 0. */
  bigint(key: number, value: bigint): void {
    if (value === 0n) return;
    this.key(key);
    if (value > 0n && value <= MOST_SAFE) {
      const number = Number(value);
      this.int64(Math.floor(number / TWO_32), number >>> 0);
    } else {
      const bits = BigInt.asUintN(64, value);
      this.int64(Number(bits >> 32n), Number(bits & 0xffffffffn));
    }
  }

  /** Writes a text with its key, and reserves what that takes; nothing for an empty one. */
  text(key: number, value: string): void {
    if (value === "") return;
    const length = Buffer.byteLength(value);
    this.reserve(length + KEY_AND_LENGTH);
    this.key(key);
    this.varint(length);
    this.#at += this.#bytes.write(value, this.#at);
  }

  /** Writes a field of bytes with its key, and reserves what that takes. */
  bytes(key: number, value: Uint8Array): void {
    this.reserve(value.length + KEY_AND_LENGTH);
    this.key(key);
    this.varint(value.length);
    this.raw(value, 0, value.length);
  }

  /** Writes bytes as they are. */
  raw(source: Uint8Array, start: number, end: number): void {
    if (end - start < SHORT_COPY) {
      const bytes = this.#bytes;
      let at = this.#at;
      for (let from = start; from < end; from++) bytes[at++] = source[from] as number;
      this.#at = at;
      return;
    }
    const piece = new Uint8Array(source.buffer, source.byteOffset + start, end - start);
    this.#bytes.set(piece, this.#at);
    this.#at += end - start;
  }

  /**
   * Leaves room for the length of what is written from here on.
   *
   * @param guess about how long it will be; a good guess saves moving it
   * @returns what end() takes
   */
  begin(guess: number): number {
    this.#at += varintSize(guess);
    return this.#at;
  }

  /** Writes the length of what was written since begin(), which must have had the same guess. */
  end(start: number, guess: number): void {
    const length = this.#at - start;
    const lengthAt = start - varintSize(guess);
    const target = lengthAt + varintSize(length);
    if (target !== start) this.#bytes.copyWithin(target, start, this.#at);
    this.#at = lengthAt;
    this.varint(length);
    this.#at = target + length;
  }

  /** All that has been written, as a response. Nothing can be written from here on. */
  finish<Response>(): Encoded<Response> {
    const bytes = this.#bytes;
    this.#bytes = EMPTY;
    return new Encoded(bytes.subarray(0, this.#at), () => keepSpare(bytes));
  }
}

// The largest: one that has to grow leaves garbage of its own size behind.
function takeSpare(): Buffer {
  const spare = spares.pop();
  if (!spare) return Buffer.allocUnsafe(FIRST_SIZE);
  spareBytes -= spare.length;
  return spare;
}

function keepSpare(bytes: Buffer): void {
  if (spareBytes + bytes.length > SPARE_BYTES) return;
  // Nearly all have the same size. Hundreds of answers may be on their way at a time.
  let at = spares.length;
  while (at > 0 && (spares[at - 1] as Buffer).length > bytes.length) at--;
  if (at === spares.length) spares.push(bytes);
  else spares.splice(at, 0, bytes);
  spareBytes += bytes.length;
}

function varintSize(value: number): number {
  if (value < 1 << 7) return 1;
  if (value < 1 << 14) return 2;
  if (value < 1 << 21) return 3;
  return value < 1 << 28 ? 4 : 5;
}
