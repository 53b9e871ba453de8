// Reads a byte stream line by line, in memory that does not depend on its length.

/** One line that is not blank. */
export interface Line {
  /** 1 for the first line of the file; blank lines count. */
  number: number;
  /** The line's bytes without its line break and without a byte order mark. */
  bytes: Buffer;
  /** How many bytes of the file lie before the line's end, its line break included. */
  endOffset: number;
  /** True when the line was longer than the limit; bytes is empty then. */
  tooLong: boolean;
}

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const EMPTY = Buffer.alloc(0);

/**
 * Splits a byte stream at LF or CRLF. A last line without a line break counts; blank lines are
 * skipped.
 * @param chunks the bytes, cut anywhere
 * @param maxLineBytes longer lines are read past and reported as tooLong
 */
export async function* readLines(
  chunks: AsyncIterable<Buffer>,
  maxLineBytes: number,
): AsyncGenerator<Line> {
  let number = 0;
  let offset = 0;
  let length = 0;
  let parts: Buffer[] = [];

  const take = (part: Buffer): void => {
    length += part.length;
    offset += part.length;
    if (length <= maxLineBytes) parts.push(part);
    else parts = [];
  };
  const finish = (breakBytes: number): Line | undefined => {
    number += 1;
    offset += breakBytes;
    const tooLong = length > maxLineBytes;
    const line = { number, bytes: tidy(Buffer.concat(parts), number), endOffset: offset, tooLong };
    parts = [];
    length = 0;
    return tooLong || !isBlank(line.bytes) ? line : undefined;
  };

  for await (const chunk of chunks) {
    let from = 0;
    for (;;) {
      const at = chunk.indexOf(NEWLINE, from);
      if (at < 0) break;
      take(chunk.subarray(from, at));
      const line = finish(1);
      if (line) yield line;
      from = at + 1;
    }
    if (from < chunk.length) take(chunk.subarray(from));
  }
  if (length > 0) {
    const line = finish(0);
    if (line) yield line;
  }
}

function tidy(bytes: Buffer, number: number): Buffer {
  let tidied = bytes;
  if (number === 1 && tidied.subarray(0, 3).equals(BYTE_ORDER_MARK)) tidied = tidied.subarray(3);
  if (tidied.at(-1) === CARRIAGE_RETURN) tidied = tidied.subarray(0, -1);
  return tidied.length === 0 ? EMPTY : tidied;
}

function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));
}
