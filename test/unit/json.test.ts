// isJson takes what JSON.parse takes, and nothing else.
import fc from "fast-check";
import { expect, test } from "vitest";
import { isJson } from "../../server/state/json.js";

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

test.each([
  "{}",
  "[]",
  "0",
  "-0",
  "1e9",
  "1E+9",
  "0.5e-3",
  '""',
  "null",
  "true",
  "false",
  ' \t\r\n{ "a" : [ 1 , { } , "b" ] } ',
  '"\\u0000\\ud800\\/"',
  '"\u2028\u007f"',
  '{"a":1,"a":2}',
  "[".repeat(100_000) + "]".repeat(100_000),
])("takes %#", (text) => {
  expect(isJson(text)).toBe(true);
});

test.each([
  "",
  " ",
  "{",
  "}",
  "[",
  "]",
  "[1,]",
  "[,1]",
  "[1 2]",
  "{,}",
  '{"a"}',
  '{"a":}',
  '{"a":1,}',
  "{1:2}",
  '{"a" 1}',
  "[1}",
  '{"a":1]',
  "1 2",
  "01",
  "-",
  "+1",
  ".5",
  "1.",
  "1e",
  "0x1",
  "NaN",
  "Infinity",
  "nul",
  "nulll",
  "TRUE",
  "'a'",
  '"',
  '"a',
  '"\\"',
  '"\\x"',
  '"\\u12g4"',
  '"\u0000"',
  '"\n"',
  '"\t"',
  "\uFEFF1",
  "\u00a01",
  "1\u2028",
  "/**/1",
  "1//",
  "[]]",
  "[[]",
  "{}{}",
  "undefined",
])("refuses %j", (text) => {
  expect(isJson(text)).toBe(false);
  expect(parses(text)).toBe(false);
});

test("agrees with JSON.parse on texts, on JSON, and on JSON with something else put in", () => {
  const piece = fc.constantFrom(
    ...Array.from('{}[],:"\\ \n\t0123-+.eE'),
    "true",
    "false",
    "null",
    '"a"',
    "\\u00e9",
    "\\ud8",
    "\0",
    "a",
    "é",
  );
  const soup = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
  const json = fc
    .jsonValue()
    .chain((value) => fc.constantFrom(JSON.stringify(value), JSON.stringify(value, undefined, 2)));
  const spoilt = fc
    .tuple(json, fc.nat(), fc.nat({ max: 2 }), fc.oneof(fc.constant(""), piece))
    .map(([text, at, drop, put]) => {
      const start = at % (text.length + 1);
      return text.slice(0, start) + put + text.slice(start + drop);
    });
  fc.assert(
    fc.property(fc.oneof(soup, json, spoilt, fc.string()), (text) => {
      expect(isJson(text)).toBe(parses(text));
    }),
    { numRuns: 5_000 },
  );
});
