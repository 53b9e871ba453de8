// Raw texts of members and elements: every byte of any JSON text, however it is spaced.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compact, elements, member, members } from "../../../cli/json-slices.js";

const space = fc.stringMatching(/^[ \t\r\n]{0,3}$/);
const numberText = fc.oneof(
  fc.constantFrom("0", "-0", "1.0", "9007199254740993", "1e400", "-2.50E-7"),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
);
const stringText = fc.oneof(
  fc.string({ unit: "binary" }).map((value) => JSON.stringify(value)),
  fc.constantFrom('"\\ud800"', '"\\u0000"', '"\\/"', '"}]\\"{[,:"', '"\\\\"', '"\u2028"'),
);
/** JSON texts of all kinds, with whitespace anywhere and duplicate keys. */
const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom("null", "true", "false"),
    numberText,
    stringText,
    fc
      .array(fc.tuple(space, tie("json"), space))
      .map((items) => `[${items.map((item) => item.join("")).join(",")}]`),
    fc
      .array(fc.tuple(space, stringText, space, tie("json"), space))
      .map((items) => `{${items.map(([a, k, b, v, c]) => `${a}${k}${b}:${b}${v}${c}`).join(",")}}`),
  ),
}));

describe("elements", () => {
  it("returns each element's text as it is", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(space, json, space)), (items) => {
        const text = `[${items.map((item) => item.join("")).join(",")}]`;
        expect(elements(text)).toEqual(items.map(([, value]) => value));
      }),
    );
  });

  it("passes over empty arrays", () => {
    expect(elements(" [ \n ] ")).toEqual([]);
  });
});

describe("members", () => {
  it("returns each value's text as it is, in order, duplicates included", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(space, stringText, space, json)), (items) => {
        const text = `{${items.map(([a, key, b, value]) => `${a}${key}${b}:${a}${value}${b}`).join(",")}}`;
        expect(members(text)).toEqual(
          items.map(([, key, , value]) => ({ key: JSON.parse(key) as string, raw: value })),
        );
      }),
    );
  });

  it("chooses the member that JSON.parse keeps", () => {
    expect(member('{"a": 1, "b": {"a": 3}, "\\u0061": 2.0}', "a")).toBe("2.0");
    expect(member('{"b": {"a": 3}}', "a")).toBeUndefined();
  });

  it("needs no stack for depth", () => {
    const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
    expect(members(`{"deep": ${deep} , "after": 1}`)).toEqual([
      { key: "deep", raw: deep },
      { key: "after", raw: "1" },
    ]);
  });

  it("refuses what is neither an object nor an array", () => {
    expect(() => members('"{}"')).toThrow(TypeError);
  });
});

describe("compact", () => {
  it("removes whitespace between tokens only", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(compact(JSON.stringify(value, null, 3))).toBe(JSON.stringify(value));
      }),
    );
    expect(compact('{ "a b" : [ 1.0 , " " ] }')).toBe('{"a b":[1.0," "]}');
  });
});
