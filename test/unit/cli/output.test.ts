// What people see: tables of any script in any width, and nothing that moves the cursor.
import fc from "fast-check";
import stringWidth from "string-width";
import { describe, expect, it } from "vitest";
import { oneLine, shorten, table, toJson, visible } from "../../../cli/output.js";
import { formatTime } from "../../../cli/show/text.js";

const COLUMNS = [
  { header: "ID", align: "right" },
  { header: "TITLE", shrinks: true },
  { header: "N", align: "right" },
  { header: "TEXT", shrinks: true },
] as const;
const words = fc.array(
  fc.constantFrom(
    "a",
    "发票",
    "👩‍👩‍👧‍👦",
    "é",
    " ",
    "日本語",
    "\n",
    "\x1b[31m",
    "한",
    "🇨🇭",
    "\u0301",
  ),
);
const cell = words.map((parts) => parts.join(""));

describe("table", () => {
  it("keeps to the width, and its columns in line, whatever the cells hold", () => {
    const rows = fc.array(
      fc.tuple(fc.nat({ max: 999 }).map(String), cell, fc.constant("7"), cell),
      { minLength: 1 },
    );
    fc.assert(
      fc.property(rows, fc.integer({ min: 30, max: 120 }), (cells, width) => {
        const lines = table(COLUMNS, cells, width).trimEnd().split("\n");
        expect(lines).toHaveLength(cells.length + 1);
        for (const line of lines) expect(stringWidth(line)).toBeLessThanOrEqual(width);
      }),
    );
  });

  it("puts columns where their headers are, also behind wide characters", () => {
    const text = table(
      COLUMNS,
      [
        ["1", "发票", "10", "x"],
        ["22", "invoice 👍", "5", "y"],
      ],
      Infinity,
    );
    expect(text).toBe(
      ["ID  TITLE        N  TEXT", " 1  发票        10  x", "22  invoice 👍   5  y", ""].join("\n"),
    );
  });

  it("shortens the widest column first and says so", () => {
    const text = table(COLUMNS, [["1", "short", "2", "long ".repeat(20)]], 40);
    expect(text).toContain("short");
    expect(text).toContain("…\n");
  });
});

describe("shorten", () => {
  it("never cuts what people see as one character", () => {
    expect(shorten("👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 4)).toBe("👩‍👩‍👧‍👦…");
    expect(shorten("发票发票", 8)).toBe("发票发票");
    expect(shorten("发票发票", 6)).toBe("发票…");
  });
});

describe("visible", () => {
  it("lets no control character through but line breaks and tabs", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(visible(text)).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
      }),
    );
    expect(visible("a\u0000\u001b[2J\r\n\tb")).toBe("a␀␛[2J␍\n\tb");
    expect(oneLine(" a\n b\tc ")).toBe("a b c");
  });
});

describe("toJson", () => {
  it("follows protobuf's JSON mapping", () => {
    const value = { id: 2n ** 63n - 1n, at: new Date(0), list: [1n], none: undefined };
    expect(toJson(value)).toBe(
      '{"id":"9223372036854775807","at":"1970-01-01T00:00:00.000Z","list":["1"]}',
    );
  });
});

describe("formatTime", () => {
  it("shows seconds in UTC, also far from today", () => {
    expect(formatTime(new Date("2024-05-15T15:00:00.999Z"))).toBe("2024-05-15 15:00:00Z");
    expect(formatTime(new Date("-000001-01-01T00:00:00Z"))).toBe("-000001-01-01 00:00:00Z");
  });
});
