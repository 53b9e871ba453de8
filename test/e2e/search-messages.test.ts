// SearchMessages: a text in the contents, whatever its case.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { SearchMode, SearchOrder } from "../../gen/agentstore/v1/search.js";
import { uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();

/** Creates a session of a model with messages of these contents, each later than the one before. */
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

async function search(modelId: string, query: string, limit = 0): Promise<string[]> {
  const { results } = await store.call("searchMessages", { modelId, query, limit });
  return results.map(({ message }) => message!.content);
}

describe("finds", () => {
  test.each([
    ["a part of a word", "ell", ["Hello", "yellow"], ["help", "el l"]],
    ["ASCII of any case", "hELLO", ["HELLO", "hello", "say Hello!"], ["hallo"]],
    ["É and é", "caFÉ", ["CAFé", "un café", "CAFÉ"], ["cafe", "cafe\u0301"]],
    ["Ж and ж", "жУк", ["ЖУК", "жук", "Жуки"], ["жак"]],
    ["Chinese", "会话", ["创建会话", "会话存储服务"], ["会", "话会"]],
    ["one Chinese character", "漢", ["漢字", "很多漢"], ["汉字"]],
    ["an emoji", "👩‍👧", ["x👩‍👧y"], ["👩", "👧"]],
    ["% literally", "100%", ["100%", "a 100%!"], ["1000", "100"]],
    ["_ literally", "a_b", ["a_b", "xA_By"], ["acb", "a__b", "ab"]],
    ["\\ literally", "a\\b", ["a\\b", "A\\B"], ["a\\\\b", "ab", "a/b"]],
    ["a \\ at the end", "x\\", ["x\\", "x\\y"], ["x", "xy"]],
    ["only wildcards", "%_%", ["%_%", "a%_%b"], ["%%", "abc", "%a%"]],
    ["a quote", "it's \"", ["it's \" x"], ["its"]],
    ["spaces and line breaks", " a\r\n b", [" a\r\n b", "x A\r\n B"], [" a\n b", "a\r\n b"]],
    ["what looks like a pattern", "a.*[b]$1", ["a.*[b]$1"], ["axxb", "a.*b$1"]],
    ["text around U+0000", "after", ["before\0after"], ["befor"]],
  ])("%s", async (_, query, found, others) => {
    const modelId = uniqueModel();
    await sessionOf(modelId, [...found, ...others]);
    expect(await search(modelId, query)).toEqual(found.toReversed());
  });
});

test("answers whole messages, newest timestamp first, over all sessions of the model", async () => {
  const modelId = uniqueModel();
  const one = await store.newSession({ modelId });
  const two = await store.newSession({ modelId });
  const add = async (conversationId: bigint, timestampMs: bigint) => {
    const message = { role: Role.USER, content: "needle", timestampMs, metadata: { a: [1] } };
    return (await store.call("addMessage", { conversationId, message })).message!;
  };
  const third = await add(one, 30n);
  const fifth = await add(one, -5n);
  const first = await add(two, 99n);
  const fourth = await add(two, 7n);
  const second = await add(one, 50n);
  const { results } = await store.call("searchMessages", { modelId, query: "needle" });
  const found = results.map(({ message }) => message);
  expect(found).toEqual([first, second, third, fourth, fifth]);
});

test("finds nothing in other models, and in all of them when none is named", async () => {
  const [one, two] = [uniqueModel(), uniqueModel()];
  const word = `needle-${randomUUID()}`;
  await sessionOf(one, [`${word} one`]);
  await sessionOf(two, ["x", `${word} two`]);
  expect(await search(one, word)).toEqual([`${word} one`]);
  expect(await search(two, word)).toEqual([`${word} two`]);
  expect(await search(uniqueModel(), word)).toEqual([]);
  expect(await search("", word.toUpperCase())).toEqual([`${word} two`, `${word} one`]);
});

test("looks at contents alone", async () => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({ modelId, title: "needle" });
  const message = {
    role: Role.ASSISTANT,
    content: "x",
    name: "needle",
    toolCalls: [{ id: "needle", name: "needle", arguments: "needle" }],
    payload: "needle",
    payloadType: "needle",
    metadata: { needle: "needle" },
  };
  await store.call("addMessage", { conversationId, message });
  expect(await search(modelId, "needle")).toEqual([]);
});

test("returns 20, or as many as the limit says", async () => {
  const modelId = uniqueModel();
  const contents = Array.from({ length: 30 }, (_, index) => `needle ${index}`);
  await sessionOf(modelId, contents);
  const newest = contents.toReversed();
  expect(await search(modelId, "needle")).toEqual(newest.slice(0, 20));
  for (const limit of [1, 7, 30, 1_000]) {
    expect(await search(modelId, "needle", limit)).toEqual(newest.slice(0, limit));
  }
});

test("leaves out the oldest by time, whatever their place, where there are more", async () => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({ modelId });
  const messages = Array.from({ length: 10 }, (_, index) => ({
    role: Role.USER,
    content: `needle ${index}`,
    timestampMs: BigInt(-index),
  }));
  await store.call("addMessages", { conversationId, messages });
  expect(await search(modelId, "needle", 3)).toEqual(["needle 0", "needle 1", "needle 2"]);
});

test("ends early where messages are large", async () => {
  const modelId = uniqueModel();
  const contents = Array.from(
    { length: 5 },
    (_, index) => `needle${String(index).repeat(600_000)}`,
  );
  await sessionOf(modelId, contents);
  const found = await search(modelId, "needle");
  expect(found.map((content) => content.at(-1))).toEqual(["4", "3"]);
});

test("takes a query of 10,000 characters", async () => {
  const modelId = uniqueModel();
  const query = "🙂%".repeat(5_000);
  await sessionOf(modelId, [`x${query}x`, query.slice(2)]);
  expect(await search(modelId, query)).toEqual([`x${query}x`]);
});

test("does not find what was deleted", async () => {
  const modelId = uniqueModel();
  const conversationId = await sessionOf(modelId, ["needle"]);
  const other = await store.newSession({ modelId });
  await store.call("addMessage", { conversationId: other, message: userMessage("needle 2") });
  await store.call("deleteSession", { conversationId });
  expect(await search(modelId, "needle")).toEqual(["needle 2"]);
});

test.each([
  [{ query: "" }, ["query"]],
  [{ query: "x".repeat(10_001) }, ["query"]],
  [{ query: "a\0b" }, ["query"]],
  [{ query: "x", modelId: "m".repeat(257) }, ["model_id"]],
  [{ query: "x", modelId: "\0" }, ["model_id"]],
  [{ query: "x", limit: -1 }, ["limit"]],
  [{ query: "x", limit: 1_001 }, ["limit"]],
  [{ query: "", limit: -1 }, ["query", "limit"]],
  [{ query: "x", mode: SearchMode.SEMANTIC, order: SearchOrder.NEWEST_FIRST }, ["order"]],
  [{ query: "x", mode: SearchMode.HYBRID, order: SearchOrder.NEWEST_FIRST }, ["order"]],
  [{ query: "x", mode: 9 as SearchMode }, ["mode"]],
  [{ query: "x", order: SearchOrder.BEST_FIRST }, ["order"]],
])("%# refuses %o", async (request, fields) => {
  await store.refuses("searchMessages", request, { reason: "INVALID_FIELD", fields });
});
