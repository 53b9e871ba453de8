// SUBSTRING finds exactly what a scan with ILIKE finds, whatever the text, and wherever the message is on
// its way into the index.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import type { HeldLock } from "../harness/postgres-watch.js";
import { scan, stopIndexer, untilIndexed } from "../harness/search.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const RUNS = Number(process.env.SEARCH_RUNS ?? 120);
/** More than a search walks through before it asks the inverted index. */
const MESSAGES = 2_600;

let server: TestServer;
let stubs: Stubs;
let stopped: HeldLock | undefined;
let ids: bigint[] = [];

// Letters that fold in unusual ways, ignorable and combining ones, wildcards, scripts without spaces.
const CHARACTERS = Array.from(
  "abcIiKks%_\\'\" .-/&|!:*()<>\n\t\u00a0" +
    "İıŞşßẞſÄäÉé\u0301\u0308ΣσςΩΆάЖжЇї" +
    "\u212a\u212b\u01c5\ufb01ＡａĲ" +
    "苹果手机的一是𠮷が゙ガ한글한" +
    "🙂👩\u200d👧🏽\u0001\ufffd",
);
const WORDS = [
  "the flight",
  "Refund",
  "苹果手机",
  "STRASSE",
  "ΟΔΟΣ",
  "e\u0301te\u0301",
  "100%",
  "a_b",
];

const character = fc.constantFrom(...CHARACTERS);
const piece = fc.oneof(
  { weight: 3, arbitrary: character },
  { weight: 1, arbitrary: fc.constantFrom(...WORDS) },
);
const content = fc.array(piece, { minLength: 1, maxLength: 12 }).map((pieces) => pieces.join(""));

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
  const contents = fc.sample(content, { numRuns: MESSAGES, seed: 7 });
  for (const modelId of ["one", "two"]) {
    const { session } = await stubs.call("createSession", { modelId });
    ids.push(session!.id);
  }
  // Of model "two" only a few, so that its searches walk to the end.
  const shares = [contents.slice(0, -100), contents.slice(-100)];
  for (const [index, share] of shares.entries()) {
    for (let start = 0; start < share.length; start += 1_000) {
      await stubs.call("addMessages", {
        conversationId: ids[index]!,
        messages: share.slice(start, start + 1_000).map((text, n) =>
          // Times repeat and run backwards.
          newMessage({ content: text, timestampMs: BigInt(((start + n) * 7_919) % 500) }),
        ),
      });
    }
  }
}, 60_000);

afterAll(async () => {
  await stopped?.release();
  stubs.close();
  await server.stop();
});

/** Texts that occur in messages, cut out of them anywhere, in any case; and some that may not. */
function queries(contents: string[]): fc.Arbitrary<string> {
  const cut = fc
    .tuple(fc.constantFrom(...contents), fc.nat(), fc.integer({ min: 1, max: 9 }), fc.nat(3))
    .map(([text, from, length, how]) => {
      const characters = [...text];
      const start = from % characters.length;
      const part = characters.slice(start, start + length).join("");
      return [part, part.toUpperCase(), part.toLowerCase(), part][how]!;
    });
  const any = fc.array(character, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(""));
  return fc.oneof({ weight: 4, arbitrary: cut }, { weight: 1, arbitrary: any });
}

async function allContents(): Promise<string[]> {
  const contents: string[] = [];
  for (const conversationId of ids) {
    for (const page of await stubs.readStream({ conversationId })) {
      contents.push(...page.messages.map((message) => message.content));
    }
  }
  return contents.filter((text) => text !== "");
}

async function find(modelId: string, query: string): Promise<string[]> {
  const found: string[] = [];
  for (let pageToken = ""; ; ) {
    const page = await stubs.call("searchMessages", { modelId, query, limit: 1_000, pageToken });
    found.push(...page.results.map(({ message }) => `${message!.conversationId}/${message!.seq}`));
    for (const { message, snippet } of page.results) {
      // What stands in the snippet stands in the content.
      const characters = [...message!.content];
      const { text, offset } = snippet!;
      expect(characters.slice(offset, offset + [...text].length).join("")).toBe(text);
    }
    pageToken = page.nextPageToken;
    if (pageToken === "") return found;
  }
}

async function findsWhatAScanFinds(seed?: number): Promise<void> {
  const contents = await allContents();
  await fc.assert(
    fc.asyncProperty(
      queries(contents),
      fc.constantFrom("one", "two", ""),
      async (query, modelId) => {
        const expected = await scan(server.databaseUrl, { modelId, query });
        expect(await find(modelId, query)).toEqual(expected);
      },
    ),
    { numRuns: RUNS, ...(seed !== undefined && { seed }) },
  );
}

test("while nothing is indexed", async () => {
  stopped = await stopIndexer(server.databaseUrl);
  // Some may have been indexed before; this one certainly is not.
  await stubs.call("addMessage", {
    conversationId: ids[0]!,
    message: newMessage({ content: "just now" }),
  });
  expect(await find("one", "JUST now")).toHaveLength(1);
  await findsWhatAScanFinds();
}, 120_000);

test("when all is indexed", async () => {
  await stopped!.release();
  await untilIndexed(stubs);
  await findsWhatAScanFinds();
}, 120_000);

test("while messages of all states are changed, added and removed", async () => {
  stopped = await stopIndexer(server.databaseUrl);
  const [one, two] = ids as [bigint, bigint];
  const texts = fc.sample(content, { numRuns: 300, seed: 8 });
  for (let n = 0; n < 100; n++) {
    const conversationId = n % 4 === 0 ? two : one;
    const seq = BigInt(1 + ((n * 37) % 90));
    const message = { conversationId, seq, content: texts[n]! } as AgentMessage;
    if (n % 3 === 0) await stubs.call("deleteMessage", { conversationId, seq }).catch(() => {});
    else await stubs.call("updateMessage", { message, updateMask: ["content"] }).catch(() => {});
    if (n % 9 === 0) await stubs.call("undeleteMessage", { conversationId, seq }).catch(() => {});
  }
  await stubs.call("addMessages", {
    conversationId: one,
    messages: texts.slice(100).map((text) => newMessage({ content: text })),
  });
  await findsWhatAScanFinds();
  await stopped.release();
  await untilIndexed(stubs);
  await findsWhatAScanFinds();
  // While they are being indexed, too: added before the first scan, which would else not see what the
  // search beside it does.
  await stubs.call("addMessages", {
    conversationId: two,
    messages: texts.map((text) => newMessage({ content: text })),
  });
  await findsWhatAScanFinds();
  ids = [];
}, 180_000);
