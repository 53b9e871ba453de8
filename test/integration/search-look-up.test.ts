// FULL_TEXT with long queries: what the index is asked for is but a part of them, what is found has it all.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SearchMode, SearchOrder } from "../../gen/agentstore/v1/search.js";
import { withClient } from "../harness/postgres.js";
import { untilIndexed } from "../harness/search.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const MODEL = "long";
/** More than a search walks through before it asks the index of words. */
const MESSAGES = 2_400;

const CHINESE = "你能帮我算一下打折后需要支付多少";
const ENGLISH =
  "please cancel economy flights boston friday refund golden card rebook morning train hotel breakfast";
const WORDS = ENGLISH.split(" ");

/** Each the n-th message of many, none of them among the newest ones. */
const OLD = [
  CHINESE,
  `前面${CHINESE}后面`,
  ENGLISH,
  WORDS.toReversed().join(" "),
  `${ENGLISH} 苹果手机`,
  // All pairs of characters, and not side by side.
  `${CHINESE.slice(0, 8)}，${CHINESE.slice(7)}`,
  `${CHINESE.slice(0, 5)}x${CHINESE.slice(4)}`,
  // All but one.
  ...[3, 8, 12].map((at) => `${CHINESE.slice(0, at)}错${CHINESE.slice(at + 1)}`),
  ...[1, 4, 13].map((at) => WORDS.toSpliced(at, 1, "other").join(" ")),
];

const contents = Array.from({ length: MESSAGES }, (_, n) => {
  const old = n < 1_200 && n % 3 === 0 ? OLD[(n / 3) % OLD.length] : undefined;
  // The others have half of it: no part of it is rare.
  const half =
    n % 2 === 0
      ? `${WORDS.slice(0, 7).join(" ")} ${CHINESE.slice(0, 9)}`
      : `${WORDS.slice(7).join(" ")} ${CHINESE.slice(8)}`;
  return `${old ?? half} ${n}`;
});

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
  const { session } = await stubs.call("createSession", { modelId: MODEL });
  for (let start = 0; start < MESSAGES; start += 800) {
    await stubs.call("addMessages", {
      conversationId: session!.id,
      messages: contents
        .slice(start, start + 800)
        .map((content, n) => newMessage({ content, timestampMs: BigInt(start + n) })),
    });
  }
  await untilIndexed(stubs);
  // What is rare is reckoned by what Postgres knows of the number of rows.
  await withClient(server.databaseUrl, (client) => client.query("ANALYZE message_search"));
}, 60_000);

afterAll(async () => {
  stubs.close();
  await server.stop();
});

const has = (content: string, words: string[]) => {
  const there = new Set(content.split(" "));
  return words.every((word) => there.has(word));
};

describe.each<[query: string, matches: (content: string) => boolean]>([
  [CHINESE, (content) => content.includes(CHINESE)],
  [`"${CHINESE}"`, (content) => content.includes(CHINESE)],
  [ENGLISH, (content) => has(content, WORDS)],
  [`"${ENGLISH}"`, (content) => content.includes(ENGLISH)],
  [`${ENGLISH} -苹果`, (content) => has(content, WORDS) && !content.includes("苹果")],
  [`${ENGLISH} 苹果手机`, (content) => has(content, WORDS) && content.includes("苹果手机")],
  [
    `${ENGLISH} or nothing`,
    (content) => has(content, WORDS.slice(0, -1)) && /\b(?:breakfast|nothing)\b/.test(content),
  ],
  [
    `"${CHINESE}" or "${ENGLISH}"`,
    (content) => content.includes(CHINESE) || content.includes(ENGLISH),
  ],
])("%s", (query, matches) => {
  const expected = contents.filter(matches).toReversed();
  const request = { modelId: MODEL, query, mode: SearchMode.FULL_TEXT };

  test("newest first: all that have it, and nothing else", async () => {
    expect(expected.length).toBeGreaterThan(20);
    const found: string[] = [];
    for (let pageToken = ""; ; ) {
      const page = await stubs.call("searchMessages", {
        ...request,
        order: SearchOrder.NEWEST_FIRST,
        limit: 30,
        pageToken,
      });
      found.push(...page.results.map(({ message }) => message!.content));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    expect(found).toEqual(expected);
  });

  test("best first: all that have it are among what is found", async () => {
    const page = await stubs.call("searchMessages", { ...request, limit: 1_000 });
    const found = page.results.map(({ message }) => message!.content);
    expect(new Set(found).size).toBe(found.length);
    expect(found).toEqual(expect.arrayContaining(expected));
  });
});

test.each([CHINESE, ENGLISH])(
  "best first, where no word is rare: nothing else than %s",
  async (query) => {
    const request = { modelId: MODEL, query, mode: SearchMode.FULL_TEXT, limit: 1_000 };
    const { results } = await stubs.call("searchMessages", request);
    const matches = (content: string) =>
      query === CHINESE ? content.includes(CHINESE) : has(content, WORDS);
    expect(results.map(({ message }) => message!.content).toSorted()).toEqual(
      contents.filter(matches).toSorted(),
    );
  },
);
