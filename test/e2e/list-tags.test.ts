// ListTags: each tag of the tenant's sessions once, with how many have it.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { TagCount } from "../../gen/agentstore/v1/sessions.js";
import { inPages } from "./reading.js";
import { useStore } from "./store.js";

const store = useStore();

/** All tags, in pages of a size, that begin with a prefix. */
async function tagsWith(prefix: string, pageSize = 0): Promise<Record<string, bigint>> {
  const tags: TagCount[] = [];
  let pageToken = "";
  do {
    const answer = await store.call("listTags", { pageSize, pageToken });
    expect(answer.tags.length).toBeLessThanOrEqual(pageSize || 100);
    tags.push(...answer.tags);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  const names = tags.map(({ tag }) => tag);
  expect(names).toEqual([...new Set(names)].sort(byCodePoints));
  return Object.fromEntries(
    tags
      .filter(({ tag }) => tag.startsWith(prefix))
      .map(({ tag, sessionCount }) => [tag.slice(prefix.length), sessionCount]),
  );
}

function byCodePoints(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

test("counts the sessions of each tag, and follows every change", async () => {
  const prefix = `${randomUUID()}/`;
  const tagged = (...tags: string[]) =>
    store.newSession({ tags: tags.map((tag) => `${prefix}${tag}`) });
  const first = await tagged("a", "b", "a");
  const second = await tagged("b", "Ä", "🙂");
  await tagged();
  expect(await tagsWith(prefix)).toEqual({ a: 1n, b: 2n, Ä: 1n, "🙂": 1n });
  await store.call("updateSession", {
    session: { id: first, tags: [`${prefix}b`, `${prefix}c`] },
    updateMask: ["tags"],
  });
  expect(await tagsWith(prefix)).toEqual({ b: 2n, c: 1n, Ä: 1n, "🙂": 1n });
  await store.call("updateSession", { session: { id: first, title: "t" }, updateMask: ["title"] });
  await store.call("deleteSession", { conversationId: second });
  expect(await tagsWith(prefix)).toEqual({ b: 1n, c: 1n });
  await store.call("deleteSession", { conversationId: first });
  expect(await tagsWith(prefix)).toEqual({});
});

test("pages by code points, at every size", async () => {
  const prefix = `${randomUUID()}/`;
  const names = ["", "A", "B", "a", "aa", "é", "z", "ü", "漢", "\u{1F642}", "\uFFFD"];
  await store.newSession({ tags: names.map((name) => `${prefix}${name}`) });
  const sorted = names.toSorted(byCodePoints);
  for (const pageSize of [1, 2, 3, 7, 10, 1_000]) {
    const found = Object.keys(await tagsWith(prefix, pageSize));
    expect(inPages(found, pageSize)).toEqual(inPages(sorted, pageSize));
  }
});

describe("refusals", () => {
  test.each([-1, 1_001, -(2 ** 31)])("page_size %i", async (pageSize) => {
    const expected = { reason: "INVALID_FIELD", fields: ["page_size"] };
    await store.refuses("listTags", { pageSize }, expected);
  });

  test("a page token that was altered, or is another query's", async () => {
    const prefix = `${randomUUID()}/`;
    const modelId = `${prefix}model`;
    const tags = [`${prefix}1`, `${prefix}2`, `${prefix}3`];
    for (let count = 0; count < 2; count++) await store.newSession({ modelId, tags });
    const { nextPageToken: token } = await store.call("listTags", { pageSize: 1 });
    const other = (await store.call("listSessions", { modelId, pageSize: 1 })).nextPageToken;
    expect(token).not.toBe("");
    expect(other).not.toBe("");
    for (const pageToken of [
      "x",
      `${token}A`,
      token.slice(0, -1),
      token.replace(/^./, "_"),
      other,
    ]) {
      const expected = { reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] };
      await store.refuses("listTags", { pageToken }, expected);
    }
  });
});
