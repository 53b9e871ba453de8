// Reads the columns of a row in Postgres' binary format, one after another.

const COUNT_BYTES = 2;
const LENGTH_BYTES = 4;
const NULL_LENGTH = -1;

/** A row of queryRows(); valid as long as the row's bytes are. */
export class BinaryRow {
  #at: number;

  /** @param start where the row's count of columns stands */
  constructor(
    readonly bytes: Buffer,
    start: number,
  ) {
    this.#at = start + COUNT_BYTES;
  }

  /** The next column, a bigint that is not NULL. */
  int8(): bigint {
    const value = this.bytes.readBigInt64BE(this.#at + LENGTH_BYTES);
    this.#at += LENGTH_BYTES + 8;
    return value;
  }

  /** The next column, a bigint or NULL. */
  int8OrNull(): bigint | null {
    if (this.bytes.readInt32BE(this.#at) !== NULL_LENGTH) return this.int8();
    this.#at += LENGTH_BYTES;
    return null;
  }

  /** The next column, a boolean that is not NULL. */
  bool(): boolean {
    const value = this.bytes[this.#at + LENGTH_BYTES] === 1;
    this.#at += LENGTH_BYTES + 1;
    return value;
  }

  /** The next column, a real that is not NULL. */
  float4(): number {
    const value = this.bytes.readFloatBE(this.#at + LENGTH_BYTES);
    this.#at += LENGTH_BYTES + 4;
    return value;
  }

  /** The next column, a bytea that is not NULL; valid as long as the row is. */
  bytea(): Buffer {
    const start = this.#at + LENGTH_BYTES;
    const end = start + this.bytes.readInt32BE(this.#at);
    this.#at = end;
    return this.bytes.subarray(start, end);
  }

  /** The next column, a text that is not NULL. */
  text(): string {
    const start = this.#at + LENGTH_BYTES;
    const end = start + this.bytes.readInt32BE(this.#at);
    this.#at = end;
    return this.bytes.toString("utf8", start, end);
  }
}
