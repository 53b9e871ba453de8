// FULL_TEXT marks the words of a query in what it finds, in texts of mixed scripts: beside a model that
// looks at each character.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SearchMode, SearchOrder } from "../../gen/agentstore/v1/search.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const MODEL = "marks";
const MESSAGES = 300;

const WORDS = ["flight", "été", "hat001", "рейс"];
const STRETCHES = ["苹果手机", "果", "東京タワー", "𠮷野家"];

// Other cases and forms of the same letters, what is but like them, and what stands between.
const PIECES = [
  ...WORDS,
  ...STRETCHES,
  ..."Flight FLIGHT ﬂight ｆｌｉｇｈｔ 𝐟𝐥𝐢𝐠𝐡𝐭 flights fligh Été e\u0301te\u0301 ete HAT001 РЕЙС рейсы".split(
    " ",
  ),
  ..."苹果 果手 手机 机 東京 タワ ー 𠮷 𠮷野 野家 が か\u3099 한글".split(" "),
  ..." |, |. |\n|-|/|🙂|👩\u200d👧🏽|\u0301|1|x".split("|"),
];
const content = fc
  .array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 120, size: "max" })
  .map((pieces) => pieces.join(""));

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
  const { session } = await stubs.call("createSession", { modelId: MODEL });
  const contents = fc.sample(content, { numRuns: MESSAGES, seed: 11 });
  await stubs.call("addMessages", {
    conversationId: session!.id,
    messages: contents.map((text) => newMessage({ content: text })),
  });
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

const isCjk = (character: string | undefined) =>
  /^[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}ー]/u.test(character ?? "");
const isLetter = (character: string | undefined) =>
  !isCjk(character) && /^[\p{L}\p{M}\p{N}]/u.test(character ?? "");

/** Which characters of a text are marked: 0 for none, else the number of the mark. */
function marksOf(characters: string[], words: string[], stretches: string[]): number[] {
  const marks = characters.map(() => 0);
  let mark = 0;
  // Each character of a stretch, or each two side by side.
  const alone = stretches.filter((stretch) => [...stretch].length === 1);
  const pairs = stretches.flatMap((stretch) =>
    [...stretch].slice(1).map((second, index) => [...stretch][index] + second),
  );
  const counts = (at: number) =>
    isCjk(characters[at]) &&
    (alone.includes(characters[at]!) ||
      pairs.includes(`${characters[at - 1]}${characters[at]}`) ||
      pairs.includes(`${characters[at]}${characters[at + 1]}`));
  for (let at = 0; at < characters.length; at++) {
    if (counts(at)) marks[at] = counts(at - 1) ? marks[at - 1]! : ++mark;
    // An accent alone does not begin a word.
    if (!isLetter(characters[at]) || /^\p{M}/u.test(characters[at]!)) continue;
    const start = at;
    while (isLetter(characters[at + 1])) at++;
    const word = characters.slice(start, at + 1).join("");
    if (words.includes(word.normalize("NFKC").toLowerCase())) marks.fill(++mark, start, at + 1);
  }
  return marks;
}

test.each([
  [[...WORDS], []],
  [[], [...STRETCHES]],
  [["flight"], ["苹果手机"]],
  [["été", "рейс"], ["果"]],
])("%j and %j", async (words, stretches) => {
  const { results } = await stubs.call("searchMessages", {
    modelId: MODEL,
    query: [...words, ...stretches].join(" or "),
    mode: SearchMode.FULL_TEXT,
    language: "simple",
    order: SearchOrder.NEWEST_FIRST,
    limit: 1_000,
  });
  let marked = 0;
  for (const { message, snippet } of results) {
    const characters = [...message!.content];
    const { offset, text, hits } = snippet!;
    const length = [...text].length;
    expect(characters.slice(offset, offset + length).join("")).toBe(text);
    const shown = hits.map((hit) => [...text].slice(hit.offset, hit.offset + hit.length).join(""));
    const marks = marksOf(characters, words, stretches).slice(offset, offset + length);
    const expected = [...new Set(marks)]
      .filter((mark) => mark > 0)
      .map((mark) => [...text].filter((_, at) => marks[at] === mark).join(""));
    expect(shown, message!.content).toEqual(expected);
    marked += hits.length > 0 ? 1 : 0;
  }
  expect(marked).toBeGreaterThan(MESSAGES / 10);
});
