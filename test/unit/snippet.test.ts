// Snippets and where texts stand in others, beside what looking at each character by itself says.
import fc from "fast-check";
import { expect, test } from "vitest";
import { findText, makeSnippet } from "../../server/search/snippet.js";

const CHARACTERS = Array.from(
  "abcIikKsS \n\t.%" +
    "İıŞßẞſÉé\u0301Σσς\u212a\ufb01Ａ" +
    "苹果手机𠮷が゙한글" +
    "🙂👩\u200d👧🏽\u0001",
);
const text = fc
  .array(fc.constantFrom(...CHARACTERS, "the flight ", "苹果手机", "ΟΔΟΣ"), {
    maxLength: 150,
    size: "max",
  })
  .map((parts) => parts.join(""));
const wanted = fc
  .array(fc.constantFrom(...CHARACTERS), { minLength: 1, maxLength: 3 })
  .map((parts) => parts.join(""));

// As Postgres does it: by itself, and to one character.
function lower(character: string): string {
  return [...character.toLowerCase()][0]!;
}

test("a text is found wherever it stands, whatever its case", () => {
  fc.assert(
    fc.property(text, wanted, (content, part) => {
      const characters = [...content].map(lower);
      const length = [...part].length;
      const needle = [...part].map(lower).join("");
      const expected: object[] = [];
      for (let offset = 0; offset + length <= characters.length; ) {
        const here = characters.slice(offset, offset + length).join("") === needle;
        if (here) expected.push({ offset, length });
        offset += here ? length : 1;
      }
      expect(findText(content, part)).toEqual(expected);
    }),
    { numRuns: 1_000 },
  );
});

test("all characters are folded as Postgres does it, wherever they stand in a word", () => {
  for (let code = 1; code < 0x20000; code++) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    const character = String.fromCodePoint(code);
    const folded = lower(character);
    const found = findText(`a${character} ${character}a`, folded);
    if (folded === "a" || folded === " ") continue;
    const expected = [1, 3].map((offset) => ({ offset, length: 1 }));
    if (found.length !== 2) expect(found, code.toString(16)).toEqual(expected);
  }
});

test("a snippet is a part of the text with what was found in it, counted in characters", () => {
  fc.assert(
    fc.property(text, wanted, fc.integer({ min: 4, max: 80 }), (content, part, most) => {
      const characters = [...content];
      const all = findText(content, part);
      const snippet = makeSnippet(content, all, most);
      const { offset, hits } = snippet;
      const length = [...snippet.text].length;
      expect(characters.slice(offset, offset + length).join("")).toBe(snippet.text);
      expect(length).toBeLessThanOrEqual(most);
      if (characters.length <= most) expect(length).toBe(characters.length);
      if (all.length === 0) expect(offset).toBe(0);
      // All that stands in it is marked, as far as it does.
      const within = all
        .map((hit) => [
          Math.max(hit.offset, offset),
          Math.min(hit.offset + hit.length, offset + length),
        ])
        .filter(([start, end]) => start! < end!)
        .map(([start, end]) => ({ offset: start! - offset, length: end! - start! }));
      expect(hits).toEqual(within);
      // Nowhere do more stand close together.
      const closest = all.map(
        (first) =>
          all.filter(
            (hit) => hit.offset >= first.offset && hit.offset + hit.length <= first.offset + most,
          ).length,
      );
      const whole = hits.filter((hit) => hit.length === [...part].length);
      expect(whole.length).toBeGreaterThanOrEqual(Math.max(0, ...closest));
    }),
    { numRuns: 1_000 },
  );
});

test("a snippet begins and ends between words", () => {
  const content = `${"🙂 filler ".repeat(50)}the needle${" end".repeat(50)}`;
  const { text: shown } = makeSnippet(content, findText(content, "needle"), 40);
  expect(shown).toBe("filler the needle end end end end end");
});
