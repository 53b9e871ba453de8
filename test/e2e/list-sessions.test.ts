// ListSessions: by last activity, page by page.
import { describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import type { SessionSummary } from "../../gen/agentstore/v1/sessions.js";
import { inPages } from "./reading.js";
import { uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();

async function listAll(modelId: string, pageSize: number): Promise<SessionSummary[][]> {
  const pages: SessionSummary[][] = [];
  let pageToken = "";
  do {
    const answer = await store.call("listSessions", { modelId, pageSize, pageToken });
    pages.push(answer.sessions);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return pages;
}

const idsOf = (sessions: SessionSummary[]) => sessions.map(({ session }) => session!.id);

/** Creates a session whose messages have these times. */
async function sessionWith(modelId: string, times: bigint[]): Promise<bigint> {
  const conversationId = await store.newSession({ modelId });
  for (const timestampMs of times) {
    const message = { role: Role.USER, content: "x", timestampMs };
    await store.call("addMessage", { conversationId, message });
  }
  return conversationId;
}

/** Sessions of one model and their ids in the order that a list should have. */
async function manySessions(modelId: string): Promise<bigint[]> {
  const early = await sessionWith(modelId, [-62_135_596_800_000n]);
  const emptyOld = await store.newSession({ modelId });
  const middle = await sessionWith(modelId, [5n, 1_000n, 7n]);
  const negative = await sessionWith(modelId, [-5n]);
  const tieOld = await sessionWith(modelId, [900n]);
  const now = await store.newSession({ modelId });
  await store.call("addMessage", { conversationId: now, message: userMessage("now") });
  const tieNew = await sessionWith(modelId, [900n]);
  const late = await sessionWith(modelId, [253_402_300_799_999n, 3n]);
  const emptyNew = await store.newSession({ modelId });
  return [late, now, middle, tieNew, tieOld, negative, early, emptyNew, emptyOld];
}

test("orders by the latest time of the messages, and pages through at every size", async () => {
  const modelId = uniqueModel();
  const expected = await manySessions(modelId);
  for (const pageSize of [1, 2, 3, 4, 8, 9, 10, 1_000]) {
    const pages = await listAll(modelId, pageSize);
    expect(pages.map(idsOf)).toEqual(inPages(expected, pageSize));
  }
});

test("moves a session to the front with its next message, and not with an update", async () => {
  const modelId = uniqueModel();
  const first = await sessionWith(modelId, [1n]);
  const second = await sessionWith(modelId, [2n]);
  const third = await sessionWith(modelId, [3n]);
  const update = { session: { id: first, title: "t" }, updateMask: ["title"] };
  await store.call("updateSession", update);
  expect(idsOf((await listAll(modelId, 0)).flat())).toEqual([third, second, first]);
  await store.call("addMessage", { conversationId: first, message: userMessage("x") });
  expect(idsOf((await listAll(modelId, 0)).flat())).toEqual([first, third, second]);
  await store.call("deleteSession", { conversationId: third });
  expect(idsOf((await listAll(modelId, 0)).flat())).toEqual([first, second]);
});

test("shows of each session what GetSession shows, the count, the last time and the start", async () => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({
    modelId,
    title: "t",
    tags: ["a"],
    metadata: { a: 1 },
    expiresAt: new Date("2099-01-01T00:00:00Z"),
  });
  const start = "\uFEFF e\u0301 🙂漢\n";
  await store.call("addMessages", {
    conversationId,
    messages: [
      { role: Role.SYSTEM, content: start, timestampMs: 17n },
      { role: Role.USER, content: "second", timestampMs: 16n },
    ],
  });
  const { session } = await store.call("getSession", { conversationId });
  const [summary] = (await listAll(modelId, 0)).flat();
  expect(summary).toEqual({
    session,
    messageCount: 2n,
    lastMessageTime: new Date(17),
    firstMessage: start,
  });
});

test("tells an empty first message from none", async () => {
  const modelId = uniqueModel();
  const empty = await store.newSession({ modelId });
  const silent = await store.newSession({ modelId });
  await store.call("addMessage", { conversationId: silent, message: { role: Role.ASSISTANT } });
  const sessions = (await listAll(modelId, 0)).flat();
  expect(idsOf(sessions)).toEqual([silent, empty]);
  expect(sessions.map(({ firstMessage }) => firstMessage)).toEqual(["", undefined]);
  expect(sessions.map(({ lastMessageTime }) => lastMessageTime)).toEqual([
    expect.any(Date),
    undefined,
  ]);
});

test.each([
  ["ASCII", "x".repeat(200)],
  ["emoji", "🙂".repeat(200)],
  ["emoji after one character", `x${"🙂".repeat(199)}`],
])("cuts the first message to 200 characters: %s", async (_, start) => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({ modelId });
  const message = userMessage(`${start}🙂 and so on`);
  await store.call("addMessage", { conversationId, message });
  const [summary] = (await listAll(modelId, 0)).flat();
  expect(summary!.firstMessage).toBe(start);
});

test("shows U+FFFD in the place of U+0000 in the first message", async () => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({ modelId });
  await store.call("addMessage", { conversationId, message: userMessage("a\0b") });
  const [summary] = (await listAll(modelId, 0)).flat();
  expect(summary!.firstMessage).toBe("a\uFFFDb");
});

test("lists the sessions of all models when none is named", async () => {
  const models = [uniqueModel(), uniqueModel(), uniqueModel()];
  // Times at the end of the year 9998, so that whatever else the store holds comes later.
  const base = 253_370_764_800_000n + BigInt(Math.floor(Math.random() * 1_000_000_000));
  const expected: bigint[] = [];
  for (let index = 0; index < 9; index++) {
    const id = await sessionWith(models[index % 3]!, [base + BigInt(index)]);
    expected.unshift(id);
  }
  for (const pageSize of [2, 5]) {
    const found: bigint[] = [];
    let times: number[] = [];
    let pageToken = "";
    do {
      const answer = await store.call("listSessions", { pageSize, pageToken });
      expect(answer.sessions.length).toBeLessThanOrEqual(pageSize);
      found.push(...idsOf(answer.sessions).filter((id) => expected.includes(id)));
      times = [
        ...times,
        ...answer.sessions.map((one) => one.lastMessageTime?.getTime() ?? -Infinity),
      ];
      pageToken = answer.nextPageToken;
    } while (pageToken !== "" && found.length < expected.length);
    expect(found).toEqual(expected);
    expect(times).toEqual(times.toSorted((a, b) => b - a));
  }
});

test("has no sessions of a model that nobody has named", async () => {
  const answer = await store.call("listSessions", { modelId: uniqueModel() });
  expect(answer).toEqual({ sessions: [], nextPageToken: "" });
});

test("takes a model's name literally", async () => {
  const modelId = uniqueModel();
  await store.newSession({ modelId });
  for (const other of [`${modelId.slice(0, -1)}_`, `${modelId}%`, modelId.toUpperCase(), "%"]) {
    const { sessions } = await store.call("listSessions", { modelId: other });
    expect(sessions.filter(({ session }) => session!.modelId === modelId)).toEqual([]);
  }
});

test("keeps a page within bounds where metadata is large, and skips no session", async () => {
  const modelId = uniqueModel();
  const metadata = { a: "x".repeat(250 * 1024) };
  const ids: bigint[] = [];
  for (let index = 0; index < 9; index++)
    ids.unshift(await store.newSession({ modelId, metadata }));
  const pages = await listAll(modelId, 100);
  expect(pages.flatMap(idsOf)).toEqual(ids);
  expect(pages.length).toBeGreaterThan(1);
});

test("skips and repeats no session that stays where it is, while others come and go", async () => {
  const modelId = uniqueModel();
  const ids: bigint[] = [];
  for (let index = 0; index < 10; index++) {
    ids.unshift(await sessionWith(modelId, [BigInt(index)]));
  }
  const found: bigint[] = [];
  let pageToken = "";
  do {
    const answer = await store.call("listSessions", { modelId, pageSize: 3, pageToken });
    found.push(...idsOf(answer.sessions));
    pageToken = answer.nextPageToken;
    await sessionWith(modelId, [1_000n]);
    // The one that the next page would begin after.
    await store.call("deleteSession", { conversationId: found.at(-1)! });
  } while (pageToken !== "");
  expect(found).toEqual(ids);
});

describe("refusals", () => {
  test.each([
    [{ modelId: "m".repeat(257) }, ["model_id"]],
    [{ modelId: "\0" }, ["model_id"]],
    [{ pageSize: -1 }, ["page_size"]],
    [{ pageSize: 1_001 }, ["page_size"]],
    [{ pageSize: -(2 ** 31) }, ["page_size"]],
    [{ modelId: "\0", pageSize: -1 }, ["model_id", "page_size"]],
  ])("%o", async (request, fields) => {
    await store.refuses("listSessions", request, { reason: "INVALID_FIELD", fields });
  });
});
