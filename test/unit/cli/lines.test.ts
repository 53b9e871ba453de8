// Lines of a byte stream: wherever it is cut, whatever ends a line.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Occurrences } from "../../../cli/import/occurrences.js";
import { type Line, readLines } from "../../../server/lines.js";

async function read(bytes: Buffer, cuts: number[] = [], most = 1000): Promise<Line[]> {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort(
    (a, b) => a - b,
  );
  async function* chunks(): AsyncGenerator<Buffer> {
    for (const [index, place] of places.entries()) {
      yield bytes.subarray(place, places[index + 1] ?? bytes.length);
    }
  }
  const lines: Line[] = [];
  for await (const line of readLines(chunks(), most)) lines.push(line);
  return lines;
}

describe("readLines", () => {
  it("finds the same lines however the stream is cut", async () => {
    const line = fc.stringMatching(/^[a-z{}é你 \t]{0,12}$/u);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(line, fc.constantFrom("\n", "\r\n"))),
        line,
        fc.array(fc.nat()),
        async (lines, last, cuts) => {
          const text = lines.map((parts) => parts.join("")).join("") + last;
          const expected = [...lines.map(([content]) => content), last]
            .map((content, index) => ({ content, number: index + 1 }))
            .filter(({ content }) => content.trim() !== "");
          const found = await read(Buffer.from(text), cuts);
          expect(found.map(({ bytes, number }) => ({ content: bytes.toString(), number }))).toEqual(
            expected,
          );
          for (const { endOffset, bytes } of found) {
            const before = Buffer.from(text).subarray(0, endOffset).toString().trimEnd();
            expect(before.endsWith(bytes.toString().trimEnd())).toBe(true);
          }
        },
      ),
    );
  });

  it("takes a byte order mark away at the beginning only", async () => {
    const lines = await read(Buffer.from("\ufeff{}\n\ufeff{}"), [1, 2]);
    expect(lines.map((line) => line.bytes.toString())).toEqual(["{}", "\ufeff{}"]);
  });

  it("ends a file of line breaks with nothing", async () => {
    expect(await read(Buffer.from("\n\r\n \n"))).toEqual([]);
    expect(await read(Buffer.alloc(0))).toEqual([]);
  });

  it("reads past a line that is too long and says so", async () => {
    const bytes = Buffer.from(`a\n${"x".repeat(50)}\nb`);
    const lines = await read(bytes, [10, 20, 30], 20);
    expect(
      lines.map(({ number, bytes: line, tooLong }) => [number, line.toString(), tooLong]),
    ).toEqual([
      [1, "a", false],
      [2, "", true],
      [3, "b", false],
    ]);
    expect(lines[2]?.endOffset).toBe(bytes.length);
  });
});

describe("Occurrences", () => {
  it("counts each line by itself, also after the table has grown", () => {
    const occurrences = new Occurrences();
    const digest = (index: number): Buffer => {
      const bytes = Buffer.alloc(32);
      // Equal low bits, so that keys meet in one slot.
      bytes.writeBigUInt64LE(BigInt(index) << 16n);
      return bytes;
    };
    const keys = Array.from({ length: 3000 }, (_, index) => digest(index));
    for (const round of [1, 2, 3]) {
      expect(keys.map((key) => occurrences.next(key)).every((count) => count === round)).toBe(true);
    }
  });
});
