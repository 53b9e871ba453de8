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
// Room for a message that has begun; for a longer one it grows with what arrives.
const ROOM_BYTES = 1024 * 1024;

/** Stands between a connection's socket and pg's parser. */
export class RowSplitter {
  /** Who takes the rows of the answer that arrives; undefined: the parser. */
  onRow: OnRow | undefined;
  readonly #parse: (bytes: Buffer) => void;
  // What has arrived of a message that is not there in whole, in room for all of it or for its next
  // part. As long as its length is not known, that part is its header.
  #message = Buffer.alloc(0);
  #arrived = 0;

  /**
   * @param parse takes all that is not given to onRow: whole messages, one or several, which are
   *   not valid any longer when the function has returned
   */
  constructor(parse: (bytes: Buffer) => void) {
    this.#parse = parse;
  }

  /** Takes the next bytes off the socket; their memory may be used again afterwards. */
  push(chunk: Buffer): void {
    let at = 0;
    while (this.#arrived > 0 && at < chunk.length) at += this.#complete(chunk, at);
    if (at < chunk.length) this.#split(chunk, at);
  }

  // Adds to the message that has begun; returns how many bytes that took.
  #complete(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#message, this.#arrived, at);
    this.#arrived += taken;
    if (this.#arrived < this.#message.length) return taken;
    const message = this.#message;
    if (message.length < messageLength(message, 0)) this.#keep(message);
    else {
      this.#arrived = 0;
      this.#split(message, 0);
    }
    return taken;
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
    if (at < bytes.length) this.#keep(bytes.subarray(at));
  }

  // Keeps a copy of a message's first bytes, with room for what comes next.
  #keep(start: Buffer): void {
    const length = start.length < HEADER ? HEADER : messageLength(start, 0);
    this.#message = Buffer.allocUnsafe(Math.min(length, Math.max(ROOM_BYTES, 2 * start.length)));
    this.#arrived = start.copy(this.#message);
  }
}

function messageLength(bytes: Buffer, at: number): number {
  return 1 + bytes.readUInt32BE(at + 1);
}
