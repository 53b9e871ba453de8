// SearchMessages by words: which forms are found, what queries may ask for, and what comes first.
import { describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import {
  SearchMode,
  SearchOrder,
  type SearchResult,
  type SearchSnippet,
} from "../../gen/agentstore/v1/search.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();

async function sessionOf(modelId: string, contents: string[]): Promise<bigint> {
  const conversationId = await store.newSession({ modelId });
  await store.call("addMessages", {
    conversationId,
    messages: contents.map((content, index) => ({
      role: Role.USER,
      content,
      timestampMs: BigInt(index + 1),
    })),
  });
  return conversationId;
}

async function search(modelId: string, query: string, more: object = {}): Promise<SearchResult[]> {
  const request = { modelId, query, mode: SearchMode.FULL_TEXT, ...more };
  return (await store.call("searchMessages", request)).results;
}

/** What words count for is known of those that are indexed. */
async function untilIndexed(modelId: string): Promise<void> {
  for (let unindexed = 1n; unindexed > 0n; ) {
    const answer = await store.call("searchMessages", { modelId, query: "x" });
    unindexed = answer.unindexedMessages;
  }
}

const contentsOf = (results: SearchResult[]) => results.map(({ message }) => message!.content);
const newest = { order: SearchOrder.NEWEST_FIRST };

describe("finds", () => {
  test.each([
    [
      "other forms",
      "cancelled flights",
      ["I want to cancel my flight."],
      ["cancel it", "a flight"],
    ],
    ["whatever case", "REFUND", ["refunds", "Refunded!"], ["fund"]],
    ["whole words alone", "art", ["modern art"], ["start", "party"]],
    ["accents in either form", "cafe\u0301", ["un café"], ["cafe"]],
    ["full-width letters", "ABC", ["ＡＢＣ公司"], ["AB C"]],
    ["parts of a path", "server/main", ["see src/server/main.ts"], ["main server"]],
    ["JSON", "HAT001", ['{"flight_number":"HAT001","price":5}'], ["HAT002"]],
    ["a phrase", '"cancel my flight"', ["please cancel my flight"], ["flight: cancel my"]],
    ["without a word", "flight -cancel", ["my flight"], ["canceling a flight"]],
    ["without a phrase", 'flight -"first flight"', ["a flight, the first"], ["first flights"]],
    [
      "one or the other",
      "train or plane ticket",
      ["a plane ticket", "train tickets"],
      ["a ticket"],
    ],
    ["what is left of small words", "what is the refund", ["refund"], ["the what"]],
    ["Chinese without spaces", "苹果手机", ["我想买一部苹果手机。"], ["手", "苹果", "手工苹果机"]],
    ["one Chinese character", "猫", ["一只猫在睡觉", "猫", "熊猫"], ["狗"]],
    ["two scripts in one word", "iPhone手机", ["新款 iPhone 手机壳"], ["iPhone", "手机"]],
    ["a phrase of two scripts", '"iPhone 手机壳"', ["买iPhone手机壳"], ["手机壳 iPhone"]],
    ["Japanese", "東京タワー", ["東京タワーに行きたい"], ["東京"]],
    ["Korean", "비행기", ["비행기 표를 예약하고 싶어요"], ["기차"]],
    [
      "German forms",
      "Häuser",
      ["Das Haus ist nicht sehr groß und die Straße ist laut"],
      ["Hausen"],
    ],
    [
      "French forms",
      "annulation",
      ["Je veux des annulations pour les billets et la chambre"],
      ["nu"],
    ],
    ["Russian forms", "билеты", ["Я хочу купить билет на самолёт"], ["билась"]],
    ["numbers", "3.14", ["pi is 3.14 or so"], ["314"]],
  ])("%s", async (_, query, found, others) => {
    const modelId = uniqueModel();
    await sessionOf(modelId, [...found, ...others]);
    expect(contentsOf(await search(modelId, query, newest))).toEqual(found.toReversed());
    // Best first, those that have it all come first.
    const best = contentsOf(await search(modelId, query));
    expect(best.slice(0, found.length).toSorted()).toEqual(found.toSorted());
  });
});

test("the language of a query says which forms are found", async () => {
  const modelId = uniqueModel();
  const german = "Die Häuser sind nicht teuer und wir haben auch eine Wohnung für Sie";
  await sessionOf(modelId, [german]);
  const of = async (language: string) =>
    contentsOf(await search(modelId, "Häusern", { language, ...newest }));
  expect(await of("german")).toEqual([german]);
  expect(await of("english")).toEqual([]);
  expect(await of("")).toEqual([german]);
});

describe("best first", () => {
  test("rare words count more than common ones, and short messages more than long ones", async () => {
    const modelId = uniqueModel();
    const common = Array.from({ length: 40 }, (_, n) => `the booking number ${n} of a customer`);
    const long = `zebra ${"and many other words that say something else ".repeat(20)}`;
    await sessionOf(modelId, [...common, long, "zebra booking", "a zebra", "zebra zebra zebra"]);
    await untilIndexed(modelId);
    const results = await search(modelId, "zebra booking");
    const contents = contentsOf(results);
    expect(contents.indexOf("zebra booking")).toBeLessThan(contents.indexOf("a zebra"));
    expect(contents.indexOf("a zebra")).toBeLessThan(contents.indexOf(long));
    expect(contents.indexOf("zebra zebra zebra")).toBeLessThan(contents.indexOf("a zebra"));
    const scores = results.map(({ score }) => score);
    expect(scores).toEqual(scores.toSorted((a, b) => b - a));
    expect(scores.at(-1)).toBeGreaterThan(0);
  });

  test("words side by side come before words apart", async () => {
    const modelId = uniqueModel();
    await sessionOf(modelId, [
      "order of the gift that is a card",
      "a gift card for the order",
      "card of which a gift was made, an order",
    ]);
    expect(contentsOf(await search(modelId, "gift card"))[0]).toBe("a gift card for the order");
  });

  test("pages follow each other without gaps and repeats, whatever comes in between", async () => {
    const modelId = uniqueModel();
    const contents = Array.from({ length: 60 }, (_, n) => `apple ${"pear ".repeat(n % 7)}${n}`);
    const conversationId = await sessionOf(modelId, contents);
    for (const order of [SearchOrder.BEST_FIRST, SearchOrder.NEWEST_FIRST]) {
      const all = contentsOf(await search(modelId, "apple", { limit: 1_000, order }));
      const paged: string[] = [];
      let pageToken = "";
      do {
        const page = await store.call("searchMessages", {
          modelId,
          query: "apple",
          mode: SearchMode.FULL_TEXT,
          order,
          limit: 7,
          pageToken,
        });
        paged.push(...contentsOf(page.results));
        pageToken = page.nextPageToken;
        const message = { role: Role.USER, content: "pear", timestampMs: 1_000n };
        await store.call("addMessage", { conversationId, message });
      } while (pageToken !== "");
      expect(paged).toEqual(all);
      expect(new Set(paged).size).toBe(60);
    }
  });
});

describe("snippets", () => {
  const marked = ({ text, hits }: SearchSnippet) => {
    const characters = [...text];
    return hits.map(({ offset, length }) => characters.slice(offset, offset + length).join(""));
  };

  test("show where the words are, in a long text of several scripts", async () => {
    const modelId = uniqueModel();
    const filler = "🙂 lorem ipsum dolor sit amet ".repeat(100);
    const content = `${filler}They were Cancelling the flights of 苹果手机公司 today. ${filler}`;
    await sessionOf(modelId, [content]);
    const [result] = await search(modelId, "cancel flight 手机");
    const { text, offset, hits } = result!.snippet!;
    expect(marked({ text, offset, hits })).toEqual(["Cancelling", "flights", "手机"]);
    expect([...content].slice(offset, offset + [...text].length).join("")).toBe(text);
    expect([...text].length).toBeLessThanOrEqual(300);
  });

  test("mark the words of a phrase", async () => {
    const modelId = uniqueModel();
    await sessionOf(modelId, ["a gift card"]);
    const [result] = await search(modelId, '"gift card"');
    expect(marked(result!.snippet!)).toEqual(["gift", "card"]);
  });
});

test.each([
  [{ query: "" }, ["query"]],
  [{ query: "a\0b" }, ["query"]],
  [{ query: '- "" | ! & () :* <->' }, ["query"]],
  [{ query: "-word" }, ["query"]],
  [{ query: "--double -" }, ["query"]],
  [{ query: "or or or" }, ["query"]],
  [{ query: "%_%" }, ["query"]],
  [{ query: "🙂" }, ["query"]],
  [{ query: "x", language: "klingon" }, ["language"]],
  [{ query: "x", mode: SearchMode.SUBSTRING, language: "english" }, ["language"]],
  [
    { query: "x", queryEmbedding: [1], embeddingModel: "m" },
    ["query_embedding", "embedding_model"],
  ],
])("%# refuses %o", async (request, fields) => {
  const full = { mode: SearchMode.FULL_TEXT, ...request };
  await store.refuses("searchMessages", full, { reason: "INVALID_FIELD", fields });
});

test.each([
  "a & b | !c <-> (d)",
  "'quoted' \\ backslash:*",
  '"unclosed phrase',
  "x or",
  "the of and",
  '"the of"',
  `"${"word ".repeat(1_000)}手手"`,
  "x".repeat(10_000),
  "word ".repeat(2_000),
  "手".repeat(10_000),
  "a'b\\c:*d",
])("%# answers whatever is asked: %j", async (query) => {
  const modelId = uniqueModel();
  await sessionOf(modelId, ["a b c d quoted backslash or x unclosed word 手手手"]);
  for (const order of [SearchOrder.BEST_FIRST, SearchOrder.NEWEST_FIRST]) {
    expect((await search(modelId, query, { order })).length).toBeLessThanOrEqual(1);
  }
});
