// FULL_TEXT finds the same before a message is indexed and afterwards, in whichever form a word stands.
import { afterAll, beforeAll, expect, test } from "vitest";
import { SearchMode, SearchOrder } from "../../gen/agentstore/v1/search.js";
import { stopIndexer, untilIndexed } from "../harness/search.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

/** Words that have a form in common, in the language that the text around them is of. */
const FORMS: [language: string, around: string, words: string[]][] = [
  ["english", "this is what the", ["dying", "die", "dies"]],
  ["english", "this is what the", ["skies", "sky"]],
  ["english", "this is what the", ["usability", "usable", "Usable"]],
  ["english", "this is what the", ["nationalization", "nations", "nation"]],
  ["german", "das ist nicht der", ["Häuser", "Haus", "Hauses"]],
  ["german", "das ist nicht der", ["Straße", "Strassen", "straße"]],
  ["french", "ce sont les plus", ["constamment", "constant", "constants"]],
  ["french", "ce sont les plus", ["chevaux", "cheval"]],
  ["spanish", "esta es una", ["canción", "canciones", "cancion"]],
  ["spanish", "esta es una", ["frecuencia", "frecuente"]],
  ["dutch", "dit is niet het", ["vrijheden", "vrijheid"]],
  ["dutch", "dit is niet het", ["manen", "maan"]],
  ["turkish", "bu bir çok", ["kitabı", "kitap", "kitaplar"]],
  ["russian", "это наш новый", ["билеты", "билет"]],
  ["english", "this is what the", ["ＦＬＩＧＨＴ", "flights", "flight"]],
  ["english", "this is what the", ["2026", "HAT001"]],
  ["chinese", "这是", ["苹果手机", "手机", "果"]],
];
const QUERIES = FORMS.flatMap(([, , words]) => words);
const MODEL = "forms";

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

async function search(query: string, order: SearchOrder): Promise<bigint[]> {
  const request = { modelId: MODEL, query, mode: SearchMode.FULL_TEXT, order, limit: 500 };
  const { results } = await stubs.call("searchMessages", request);
  return results.map(({ message }) => message!.seq).toSorted((a, b) => Number(a - b));
}

async function searchAll(order: SearchOrder): Promise<Record<string, bigint[]>> {
  const found: Record<string, bigint[]> = {};
  for (const query of QUERIES) found[query] = await search(query, order);
  return found;
}

test("what is not indexed is found in the forms in which it will be", async () => {
  const lock = await stopIndexer(server.databaseUrl);
  const { session } = await stubs.call("createSession", { modelId: MODEL });
  const contents = FORMS.flatMap(([, around, words]) => words.map((word) => `${around} ${word}.`));
  await stubs.call("addMessages", {
    conversationId: session!.id,
    messages: contents.map((content) => newMessage({ content })),
  });
  const fresh = {
    newest: await searchAll(SearchOrder.NEWEST_FIRST),
    best: await searchAll(SearchOrder.BEST_FIRST),
  };
  await lock.release();
  await untilIndexed(stubs);
  expect(fresh.newest).toEqual(await searchAll(SearchOrder.NEWEST_FIRST));
  // Best first, there may be some more, which have a part of a query alone.
  const best = await searchAll(SearchOrder.BEST_FIRST);
  for (const query of QUERIES) {
    expect(fresh.best[query], query).toEqual(expect.arrayContaining(fresh.newest[query]!));
    expect(best[query], query).toEqual(expect.arrayContaining(fresh.newest[query]!));
  }
  // The words of a line do have a form in common, so there was something to miss.
  for (const word of ["dying", "Haus", "constamment", "cancion"]) {
    expect(fresh.newest[word]!.length, word).toBeGreaterThan(1);
  }
});

test("pages go on behind the newest messages that are not indexed", async () => {
  const lock = await stopIndexer(server.databaseUrl);
  const { session } = await stubs.call("createSession", { modelId: "fresh" });
  await stubs.call("addMessages", {
    conversationId: session!.id,
    messages: Array.from({ length: 700 }, (_, n) => newMessage({ content: `zebra ${n}` })),
  });
  let found = 0;
  for (let pageToken = ""; ; ) {
    const page = await stubs.call("searchMessages", {
      modelId: "fresh",
      query: "zebra",
      mode: SearchMode.FULL_TEXT,
      order: SearchOrder.NEWEST_FIRST,
      limit: 100,
      pageToken,
    });
    found += page.results.length;
    pageToken = page.nextPageToken;
    if (pageToken === "") break;
  }
  expect(found).toBe(700);
  await lock.release();
});
