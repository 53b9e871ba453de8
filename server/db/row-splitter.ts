// Cuts what Postgres sends at its messages, and takes the rows out that somebody wants as bytes.

/**
 * Receives a DataRow (PostgreSQL documentation, 54.7) from its column count on. The bytes are the
 * socket's: they are not valid any longer when the function has returned.
 */
export type OnRow = (bytes: Buffer, start: number, end: number) => void;

const ROW_DESCRIPTION = 0x54;
const DATA_ROW = 0x44;
// One byte of code, then the length, which counts itself but not the code.
const HEADER = 5;

/** Stands between a connection's socket and pg's parser. */
export class RowSplitter {
  /** Who takes the rows of the answer that arrives; undefined: the parser. */
  onRow: OnRow | undefined;
  readonly #parse: (bytes: Buffer) => void;
  // A message that has not arrived in whole, and its length as far as that is known.
  #pieces: Buffer[] = [];
  #arrived = 0;
  #length = HEADER;

  /** @param parse takes all that is not given to onRow: whole messages, one or several */
  constructor(parse: (bytes: Buffer) => void) {
    this.#parse = parse;
  }

  /** Takes the next bytes off the socket. */
  push(chunk: Buffer): void {
    let at = 0;
    while (this.#arrived > 0 && at < chunk.length) at += this.#complete(chunk, at);
    if (at < chunk.length) this.#split(chunk, at);
  }

  // Adds to the message that has begun; returns how many bytes that took.
  #complete(chunk: Buffer, at: number): number {
    const piece = chunk.subarray(at, at + this.#length - this.#arrived);
    this.#pieces.push(piece);
    this.#arrived += piece.length;
    if (this.#arrived < this.#length) return piece.length;
    const bytes = Buffer.concat(this.#pieces);
    this.#length = messageLength(bytes, 0);
    if (this.#length > bytes.length) {
      this.#pieces = [bytes];
      return piece.length;
    }
    this.#pieces = [];
    this.#arrived = 0;
    this.#length = HEADER;
    this.#split(bytes, 0);
    return piece.length;
  }

  #split(bytes: Buffer, from: number): void {
    let passed = from;
    let at = from;
    while (at + HEADER <= bytes.length) {
      const end = at + messageLength(bytes, at);
      if (end > bytes.length) break;
      const code = bytes[at];
      if (code === DATA_ROW && this.onRow) {
        if (passed < at) this.#parse(bytes.subarray(passed, at));
        this.onRow(bytes, at + HEADER, end);
        passed = end;
      } else if (code === ROW_DESCRIPTION) {
        // Tells whose rows come next.
        this.#parse(bytes.subarray(passed, end));
        passed = end;
      }
      at = end;
    }
    if (passed < at) this.#parse(bytes.subarray(passed, at));
    if (at < bytes.length) this.#begin(bytes.subarray(at));
  }

  #begin(piece: Buffer): void {
    this.#pieces = [piece];
    this.#arrived = piece.length;
    this.#length = piece.length < HEADER ? HEADER : messageLength(piece, 0);
  }
}

function messageLength(bytes: Buffer, at: number): number {
  return 1 + bytes.readUInt32BE(at + 1);
}
