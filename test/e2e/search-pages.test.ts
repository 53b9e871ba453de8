// SearchMessages around what it finds: filters, pages, context, snippets, other modes' fields.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { SearchMode, SearchOrder } from "../../gen/agentstore/v1/search.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();

const MODES = [
  ["SUBSTRING", { mode: SearchMode.SUBSTRING }],
  ["FULL_TEXT", { mode: SearchMode.FULL_TEXT }],
  ["FULL_TEXT, newest first", { mode: SearchMode.FULL_TEXT, order: SearchOrder.NEWEST_FIRST }],
] as const;

async function seqsOf(request: object): Promise<string[]> {
  const { results } = await store.call("searchMessages", { limit: 1_000, ...request });
  return results.map(({ message }) => `${message!.conversationId}/${message!.seq}`).toSorted();
}

describe.each(MODES)("%s", (_, mode) => {
  test("a filter leaves out what does not meet it", async () => {
    const modelId = uniqueModel();
    const owner = randomUUID();
    const messages = [
      { role: Role.USER, content: "needle one", timestampMs: 1_000n },
      { role: Role.ASSISTANT, content: "needle two", timestampMs: 2_000n },
      { role: Role.TOOL, content: "needle three", timestampMs: 3_000n },
    ];
    const mine = await store.newSession({ modelId, ownerId: owner, tags: ["a", "b"] });
    const other = await store.newSession({ modelId, ownerId: "other", tags: ["a"] });
    for (const conversationId of [mine, other]) {
      await store.call("addMessages", { conversationId, messages });
    }
    const search = (filter: object) => seqsOf({ ...mode, modelId, query: "needle", filter });
    const of = (ids: bigint[], ...seqs: number[]) =>
      ids.flatMap((id) => seqs.map((seq) => `${id}/${seq}`)).toSorted();
    const both = [mine, other];
    expect(await search({})).toEqual(of(both, 1, 2, 3));
    expect(await search({ conversationId: other })).toEqual(of([other], 1, 2, 3));
    expect(await search({ ownerId: owner })).toEqual(of([mine], 1, 2, 3));
    expect(await search({ roles: [Role.USER, Role.TOOL] })).toEqual(of(both, 1, 3));
    expect(await search({ allTags: ["a"] })).toEqual(of(both, 1, 2, 3));
    expect(await search({ allTags: ["a", "b"] })).toEqual(of([mine], 1, 2, 3));
    const [start, end] = [new Date(2_000), new Date(3_000)];
    expect(await search({ timestamp: { start } })).toEqual(of(both, 2, 3));
    expect(await search({ timestamp: { end } })).toEqual(of(both, 1, 2));
    expect(await search({ timestamp: { start, end } })).toEqual(of(both, 2));
    const all = { conversationId: mine, ownerId: owner, roles: [Role.ASSISTANT], allTags: ["b"] };
    expect(await search({ ...all, timestamp: { start, end } })).toEqual(of([mine], 2));
    expect(await search({ ...all, ownerId: "other" })).toEqual([]);
  });

  test("pages hold all of it, each once, and their tokens belong to their query", async () => {
    const modelId = uniqueModel();
    const conversationId = await store.newSession({ modelId });
    await store.call("addMessages", {
      conversationId,
      messages: Array.from({ length: 50 }, (_, n) => ({
        role: Role.USER,
        content: `needle ${"x".repeat(n)}`,
        // Several at a time.
        timestampMs: BigInt(n % 7),
      })),
    });
    const request = { ...mode, modelId, query: "needle" };
    const seen: bigint[] = [];
    let pageToken = "";
    do {
      const page = await store.call("searchMessages", { ...request, limit: 9, pageToken });
      seen.push(...page.results.map(({ message }) => message!.seq));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(new Set(seen).size).toBe(50);
    expect(seen).toHaveLength(50);
    const { nextPageToken } = await store.call("searchMessages", { ...request, limit: 9 });
    const middle = nextPageToken.length >> 1;
    const altered = `${nextPageToken.slice(0, middle)}${nextPageToken[middle] === "A" ? "B" : "A"}${nextPageToken.slice(middle + 1)}`;
    for (const wrong of [
      { ...request, pageToken: altered },
      { ...request, pageToken: "x" },
      { ...request, pageToken: nextPageToken, query: "other" },
      { ...request, pageToken: nextPageToken, modelId: "other" },
      { ...request, pageToken: nextPageToken, filter: { roles: [Role.USER] } },
    ]) {
      await store.refuses("searchMessages", wrong, {
        reason: "INVALID_PAGE_TOKEN",
        fields: ["page_token"],
      });
    }
  });

  test("context is what stands around a message, without what was deleted", async () => {
    const modelId = uniqueModel();
    const conversationId = await store.newSession({ modelId });
    const messages = Array.from({ length: 9 }, (_, n) => ({
      role: Role.USER,
      content: n === 4 || n === 8 ? `needle ${n + 1}` : `m${n + 1}`,
      timestampMs: BigInt(n),
    }));
    await store.call("addMessages", { conversationId, messages });
    await store.call("deleteMessage", { conversationId, seq: 4n });
    const request = { ...mode, modelId, query: "needle", contextBefore: 2, contextAfter: 10 };
    const { results } = await store.call("searchMessages", request);
    const found = results.toSorted((a, b) => Number(a.message!.seq - b.message!.seq));
    const around = found.map(({ message, before, after }) => [
      Number(message!.seq),
      before.map(({ seq }) => Number(seq)),
      after.map(({ content }) => content),
    ]);
    expect(around).toEqual([
      [5, [2, 3], ["m6", "m7", "m8", "needle 9"]],
      [9, [7, 8], []],
    ]);
  });

  test("a snippet is the part of the content where it matches", async () => {
    const modelId = uniqueModel();
    const conversationId = await store.newSession({ modelId });
    const content = `${"🙂 filler ".repeat(500)}a NEEDLE and a needle${" end".repeat(500)}`;
    const message = { role: Role.USER, content };
    await store.call("addMessage", { conversationId, message });
    const { results } = await store.call("searchMessages", { ...mode, modelId, query: "needle" });
    const { text, offset, hits } = results[0]!.snippet!;
    const characters = [...text];
    expect([...content].slice(offset, offset + characters.length).join("")).toBe(text);
    expect(characters.length).toBeLessThanOrEqual(240);
    const marked = hits.map((hit) =>
      characters.slice(hit.offset, hit.offset + hit.length).join(""),
    );
    expect(marked).toEqual(["NEEDLE", "needle"]);
  });
});

test.each([
  [{ contextBefore: -1 }, ["context_before"]],
  [{ contextAfter: 11 }, ["context_after"]],
  [{ order: 9 as SearchOrder }, ["order"]],
  [{ filter: { conversationId: -1n } }, ["filter.conversation_id"]],
  [{ filter: { ownerId: "\0" } }, ["filter.owner_id"]],
  [{ filter: { roles: [0 as Role] } }, ["filter.roles[0]"]],
  [{ filter: { roles: Array(5).fill(Role.USER) } }, ["filter.roles"]],
  [{ filter: { allTags: Array(17).fill("t") } }, ["filter.all_tags"]],
  [{ filter: { allTags: [""] } }, ["filter.all_tags[0]"]],
  [{ filter: { timestamp: { start: new Date(2), end: new Date(1) } } }, ["filter.timestamp.end"]],
])("%# refuses %o", async (request, fields) => {
  const full = { query: "x", ...request };
  await store.refuses("searchMessages", full, { reason: "INVALID_FIELD", fields });
});
