// Page tokens: only the whole token, of the same query, opens the next page.
import { randomBytes } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();

const REFUSAL = { reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] };
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

let conversationId: bigint;
let modelId: string;
let messagesToken: string;
let sessionsToken: string;

beforeAll(async () => {
  conversationId = await store.newConversation(20);
  modelId = uniqueModel();
  for (let index = 0; index < 3; index++) await store.newSession({ modelId });
  const messages = await store.call("getMessages", { conversationId, pageSize: 3 });
  messagesToken = messages.nextPageToken;
  sessionsToken = (await store.call("listSessions", { modelId, pageSize: 1 })).nextPageToken;
});

const ofMessages = (pageToken: string) => ["getMessages", { conversationId, pageToken }] as const;
const ofSessions = (pageToken: string) => ["listSessions", { modelId, pageToken }] as const;

async function tamper(token: string, use: typeof ofMessages | typeof ofSessions): Promise<void> {
  const others: string[] = [];
  for (let position = 0; position < token.length; position++) {
    const [before, own, after] = [
      token.slice(0, position),
      token.charAt(position),
      token.slice(position + 1),
    ];
    const place = ALPHABET.indexOf(own);
    // The next one, which often differs in bits that a lenient decoder drops, and one far away.
    for (const step of [1, 32]) others.push(before + ALPHABET.charAt((place + step) % 64) + after);
    others.push(before + after, before);
  }
  others.push(`${token}=`, `${token}A`, ` ${token}`, `${token}\n`, token + token);
  for (const other of others.filter((text) => text !== "")) {
    const [name, request] = use(other);
    await store.refuses(name, request, REFUSAL);
  }
}

test("one of GetMessages is refused when any of its characters is changed", async () => {
  await tamper(messagesToken, ofMessages);
  const { messages } = await store.call(...ofMessages(messagesToken));
  expect(messages[0]!.seq).toBe(4n);
});

test("one of ListSessions is refused when any of its characters is changed", async () => {
  await tamper(sessionsToken, ofSessions);
  const { sessions } = await store.call(...ofSessions(sessionsToken));
  expect(sessions).toHaveLength(2);
});

describe("garbage", () => {
  test.each([
    ["a number", "1"],
    ["a word", "null"],
    ["JSON", '{"after":1}'],
    ["SQL", "' OR 1=1 --"],
    ["U+0000", "\0"],
    ["not ASCII", "漢字🙂"],
    ["a position without checksum", Buffer.from("3,21").toString("base64url")],
    ["random bytes", randomBytes(18).toString("base64url")],
    ["1 MiB", "A".repeat(1024 * 1024)],
    ["many commas", Buffer.from(",".repeat(1_000)).toString("base64url")],
  ])("%s", async (_, token) => {
    await store.refuses(...ofMessages(token), REFUSAL);
    await store.refuses(...ofSessions(token), REFUSAL);
  });
});

test.each([
  { afterSeq: 1n },
  { beforeSeq: 20n },
  { order: MessageOrder.NEWEST_FIRST },
  { lastN: 20n },
  { offset: 1n },
])("one of GetMessages is refused with another query: %o", async (change) => {
  const request = { conversationId, pageToken: messagesToken };
  await store.refuses("getMessages", { ...request, ...change }, REFUSAL);
});

test("is refused with another session, another model and another RPC", async () => {
  const other = await store.newConversation(20);
  const stolen = { conversationId: other, pageToken: messagesToken };
  await store.refuses("getMessages", stolen, REFUSAL);
  for (const model of ["", uniqueModel(), `${modelId} `]) {
    await store.refuses("listSessions", { modelId: model, pageToken: sessionsToken }, REFUSAL);
  }
  await store.refuses(...ofMessages(sessionsToken), REFUSAL);
  await store.refuses(...ofSessions(messagesToken), REFUSAL);
});

test("is looked at after the fields", async () => {
  await store.refuses(
    "getMessages",
    { conversationId, pageToken: "garbage", pageSize: -1 },
    { reason: "INVALID_FIELD", fields: ["page_size"] },
  );
});
