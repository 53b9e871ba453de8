// SessionFilter in ListSessions: what each field chooses, alone and with others, against a plain model.
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import {
  type AgentSession,
  type CreateSessionRequest,
  type SessionFilter,
  SessionState,
  type SessionSummary,
} from "../../gen/agentstore/v1/sessions.js";
import { inPages } from "./reading.js";
import { type Part, uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();
const modelId = uniqueModel();

async function list(filter: Part<SessionFilter>, model = modelId, pageSize = 0) {
  const pages: SessionSummary[][] = [];
  let pageToken = "";
  do {
    const request = { modelId: model, pageSize, pageToken, filter };
    const answer = await store.call("listSessions", request);
    pages.push(answer.sessions);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return pages;
}

const titles = (sessions: SessionSummary[]) => sessions.map(({ session }) => session!.title);

const PAST = new Date("2001-01-01T00:00:00Z");
const FUTURE = new Date("2999-01-01T00:00:00Z");
/** Sessions by their titles, with the time of their only message; newest activity first. */
const SESSIONS: [Part<CreateSessionRequest>, bigint | undefined][] = [
  [{ title: "a", tags: ["x", "y"], ownerId: "o1", metadata: { k: 1, deep: { l: [1, 2] } } }, 900n],
  [{ title: "b", tags: ["x"], ownerId: "o2", metadata: { k: "1" }, expiresAt: PAST }, 800n],
  [{ title: "c", tags: ["y", "z"], ownerId: "o1", expiresAt: FUTURE }, 700n],
  [{ title: "d", tags: [], metadata: { k: 1, b: true, n: null, ключ: "🙂" } }, 600n],
  [{ title: "e", tags: ["X"], ownerId: "O1", metadata: { deep: { l: [2, 1, { m: 1 }] } } }, -5n],
  [{ title: "f", tags: ["y", "x", "z"], metadata: { k: 1.5 }, expiresAt: PAST }, undefined],
];
const created = new Map<string, AgentSession>();

beforeAll(async () => {
  for (const [fields, timestampMs] of SESSIONS) {
    const answer = await store.call("createSession", { modelId, ...fields });
    const session = answer.session!;
    created.set(session.title, session);
    if (timestampMs === undefined) continue;
    const message = { ...userMessage("m"), timestampMs };
    await store.call("addMessage", { conversationId: session.id, message });
  }
});

const range = (start?: number, end?: number) => ({
  start: start === undefined ? undefined : new Date(start),
  end: end === undefined ? undefined : new Date(end),
});

test.each<[Part<SessionFilter>, string]>([
  [{}, "abcdef"],
  [{ metadata: {}, created: {}, lastMessage: {} }, "abcdef"],
  [{ allTags: ["x"] }, "abf"],
  [{ allTags: ["x", "y"] }, "af"],
  [{ allTags: ["y", "x", "y", "z"] }, "f"],
  [{ allTags: ["x", "nobody's"] }, ""],
  [{ allTags: ["X"] }, "e"],
  [{ allTags: ["%"] }, ""],
  [{ anyTags: ["x", "z"] }, "abcf"],
  [{ anyTags: ["nobody's", "X", "X"] }, "e"],
  [{ allTags: ["y"], anyTags: ["x"] }, "af"],
  [{ ownerId: "o1" }, "ac"],
  [{ ownerId: "o" }, ""],
  [{ metadata: { k: 1 } }, "ad"],
  [{ metadata: { k: "1" } }, "b"],
  [{ metadata: { k: 1.5 } }, "f"],
  [{ metadata: { n: null } }, "d"],
  [{ metadata: { b: true, k: 1 } }, "d"],
  [{ metadata: { ключ: "🙂" } }, "d"],
  [{ metadata: { deep: {} } }, "ae"],
  [{ metadata: { deep: { l: [2] } } }, "ae"],
  [{ metadata: { deep: { l: [{ m: 1 }] } } }, "e"],
  [{ metadata: { default: {} } }, ""],
  [{ state: SessionState.EXPIRED }, "bf"],
  [{ state: SessionState.ACTIVE }, "acde"],
  [{ lastMessage: range(700) }, "abc"],
  [{ lastMessage: range(undefined, 700) }, "de"],
  [{ lastMessage: range(600, 800) }, "cd"],
  [{ lastMessage: range(-5, -4) }, "e"],
  [{ allTags: ["x"], ownerId: "o1", metadata: { k: 1 }, state: SessionState.ACTIVE }, "a"],
  [{ anyTags: ["x", "y"], ownerId: "o1", lastMessage: range(800) }, "a"],
  [{ ownerId: "o2", state: SessionState.ACTIVE }, ""],
])("%j chooses %j", async (filter, expected) => {
  expect(titles((await list(filter)).flat()).join("")).toBe(expected);
  // Of all models, too, wherever else the store has sessions.
  const ids = new Set([...created.values()].map(({ id }) => id));
  if (Object.keys(filter).length === 0 || filter.metadata?.["default"]) return;
  const everywhere = (
    await list({ created: { start: created.get("a")!.createdAt! }, ...filter }, "")
  ).flat();
  const ours = everywhere.filter(({ session }) => ids.has(session!.id));
  expect(titles(ours).join("")).toBe(expected);
});

test("chooses by the time of creation, its beginning included and its end not", async () => {
  const times = [...created.values()].map(({ createdAt }) => createdAt!.getTime());
  const sessions = [...created.values()];
  for (const start of times) {
    for (const end of times) {
      if (start >= end) continue;
      const expected = sessions
        .filter(({ createdAt }) => createdAt!.getTime() >= start && createdAt!.getTime() < end)
        .map(({ title }) => title);
      const found = titles((await list({ created: range(start, end) })).flat());
      expect(found).toEqual(expected);
    }
  }
  const last = Math.max(...times);
  expect((await list({ created: range(last + 1) })).flat()).toEqual([]);
});

test("follows what UpdateSession changes", async () => {
  const model = uniqueModel();
  const id = await store.newSession({ modelId: model, tags: ["old", "both"], ownerId: "first" });
  const find = async (filter: Part<SessionFilter>) => (await list(filter, model)).flat().length;
  const update = async (fields: Part<AgentSession>, updateMask: string[]) =>
    await store.call("updateSession", { session: { id, ...fields }, updateMask });
  await update({ tags: ["both", "new"] }, ["tags"]);
  expect(await find({ allTags: ["old"] })).toBe(0);
  expect(await find({ allTags: ["both", "new"], ownerId: "first" })).toBe(1);
  await update({ ownerId: "second", metadata: { a: 1 } }, ["owner_id", "metadata"]);
  expect(await find({ ownerId: "first" })).toBe(0);
  expect(await find({ ownerId: "second", metadata: { a: 1 }, anyTags: ["new"] })).toBe(1);
  await update({ expiresAt: PAST }, ["expires_at"]);
  expect(await find({ state: SessionState.EXPIRED })).toBe(1);
  await update({}, ["owner_id", "tags", "metadata", "expires_at"]);
  expect(await find({ state: SessionState.EXPIRED })).toBe(0);
  expect(await find({ ownerId: "second" })).toBe(0);
  expect(await find({ anyTags: ["both", "new"] })).toBe(0);
  expect(await find({ metadata: { a: 1 } })).toBe(0);
  expect(await find({ state: SessionState.ACTIVE })).toBe(1);
  await store.call("deleteSession", { conversationId: id });
  expect(await find({ state: SessionState.ACTIVE })).toBe(0);
});

test("pages through what any filter chooses, at every size", async () => {
  const filters: fc.Arbitrary<Part<SessionFilter>> = fc.record(
    {
      allTags: fc.subarray(["x", "y", "z"]),
      anyTags: fc.subarray(["x", "y", "X"]),
      ownerId: fc.constantFrom("", "o1", "o2"),
      metadata: fc.constantFrom({}, { k: 1 }, { deep: {} }),
      state: fc.constantFrom(SessionState.UNSPECIFIED, SessionState.ACTIVE, SessionState.EXPIRED),
    },
    { requiredKeys: [] },
  );
  const contains = (session: AgentSession, filter: Part<SessionFilter>) => {
    const { allTags = [], anyTags = [], ownerId = "", metadata = {}, state = 0 } = filter;
    return (
      allTags.every((tag) => session.tags.includes(tag)) &&
      (anyTags.length === 0 || anyTags.some((tag) => session.tags.includes(tag))) &&
      (ownerId === "" || session.ownerId === ownerId) &&
      (!("k" in metadata) || session.metadata?.["k"] === 1) &&
      (!("deep" in metadata) || session.metadata?.["deep"] !== undefined) &&
      (state === 0 || session.state === state)
    );
  };
  await fc.assert(
    fc.asyncProperty(filters, fc.integer({ min: 1, max: 7 }), async (filter, pageSize) => {
      const expected = [...created.values()].filter((session) => contains(session, filter));
      const pages = (await list(filter, modelId, pageSize)).map(titles);
      const names = expected.map(({ title }) => title);
      expect(pages).toEqual(names.length === 0 ? [[]] : inPages(names, pageSize));
    }),
    { numRuns: 60 },
  );
});

test("a page token belongs to its filter", async () => {
  const filter = { anyTags: ["x", "y"] };
  const first = await store.call("listSessions", { modelId, pageSize: 1, filter });
  const pageToken = first.nextPageToken;
  const again = { modelId, pageSize: 2, pageToken, filter };
  expect(titles((await store.call("listSessions", again)).sessions)).toEqual(["b", "c"]);
  const expected = { reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] };
  for (const other of [undefined, {}, { anyTags: ["x"] }, { allTags: ["x", "y"] }]) {
    await store.refuses("listSessions", { modelId, pageToken, filter: other }, expected);
  }
});

function nested(depth: number): Record<string, unknown> {
  return depth === 1 ? { a: 1 } : { a: nested(depth - 1) };
}

describe("refusals", () => {
  const many = (count: number) => Array.from({ length: count }, (_, index) => `t${index}`);
  test.each<[Part<SessionFilter>, string[]]>([
    [{ allTags: many(17) }, ["filter.all_tags"]],
    [{ allTags: many(1_000) }, ["filter.all_tags"]],
    [{ anyTags: many(65) }, ["filter.any_tags"]],
    [{ allTags: ["a", ""] }, ["filter.all_tags[1]"]],
    [{ anyTags: ["t".repeat(10_000)] }, ["filter.any_tags[0]"]],
    [{ anyTags: ["\0"] }, ["filter.any_tags[0]"]],
    [{ ownerId: "o".repeat(257) }, ["filter.owner_id"]],
    [{ ownerId: "\0" }, ["filter.owner_id"]],
    [{ metadata: { a: Number.NaN } }, ["filter.metadata"]],
    [{ metadata: { a: "\0" } }, ["filter.metadata"]],
    [{ metadata: { a: "x".repeat(16 * 1024) } }, ["filter.metadata"]],
    [{ metadata: nested(33) }, ["filter.metadata"]],
    [{ state: 9 as SessionState }, ["filter.state"]],
    [{ created: range(5, 5) }, ["filter.created.end"]],
    [{ created: range(5, 4) }, ["filter.created.end"]],
    [{ created: range(-62_135_596_800_001) }, ["filter.created.start"]],
    [{ lastMessage: range(2, 1) }, ["filter.last_message.end"]],
    [{ ownerId: "\0", anyTags: [""] }, ["filter.any_tags[0]", "filter.owner_id"]],
  ])("%# %#", async (filter, fields) => {
    await store.refuses("listSessions", { modelId, filter }, { reason: "INVALID_FIELD", fields });
  });

  test("metadata nested 100 deep, a tag of 10,000 characters, 1,000 tags on a session", async () => {
    const bad: [Part<CreateSessionRequest>, string][] = [
      [{ metadata: nested(33) }, "metadata"],
      [{ tags: ["t".repeat(10_000)] }, "tags[0]"],
      [{ tags: many(1_000) }, "tags"],
    ];
    for (const [fields, field] of bad) {
      const request = { modelId, ...fields };
      await store.refuses("createSession", request, { reason: "INVALID_FIELD", fields: [field] });
    }
    for (const request of [
      { modelId, metadata: nested(100) },
      { modelId, filter: { metadata: nested(100) } },
    ]) {
      const name = "filter" in request ? "listSessions" : "createSession";
      const field = "filter" in request ? "filter.metadata" : "metadata";
      await store.refuses(name, request, { reason: "INVALID_FIELD", fields: [field] });
    }
  });
});
