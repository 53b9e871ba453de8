// UpdateSession: what a mask names, and nothing else.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type AgentSession, SessionState } from "../../gen/agentstore/v1/sessions.js";
import { type Part, useStore } from "./store.js";

const store = useStore();

const FIRST = {
  title: "first title",
  ownerId: "first owner",
  tags: ["one", "two"],
  metadata: { first: true },
  expiresAt: new Date("2098-01-01T00:00:00.001Z"),
};
const SECOND = {
  title: "second title \u{1F642}",
  ownerId: "second owner",
  tags: ["three", "two", "three"],
  metadata: { second: [{ deep: null }] },
  expiresAt: new Date("2097-01-01T00:00:00.999Z"),
};
const PATHS = {
  title: "title",
  ownerId: "owner_id",
  tags: "tags",
  metadata: "metadata",
  expiresAt: "expires_at",
} as const;
const FIELDS = Object.keys(PATHS) as (keyof typeof PATHS)[];

async function get(conversationId: bigint): Promise<AgentSession> {
  return (await store.call("getSession", { conversationId })).session!;
}

async function update(id: bigint, fields: Part<AgentSession>, updateMask: string[]) {
  return await store.call("updateSession", { session: { id, ...fields }, updateMask });
}

describe("a mask", () => {
  test.each(FIELDS)("changes %s alone, and raises the revision", async (field) => {
    const id = await store.newSession(FIRST);
    const before = await get(id);
    const { session, replayed } = await update(id, SECOND, [PATHS[field]]);
    expect(replayed).toBe(false);
    const changed = field === "tags" ? ["three", "two"] : SECOND[field];
    expect(session).toEqual({
      ...before,
      [field]: changed,
      revision: before.revision + 1n,
      updatedAt: expect.any(Date),
    });
    expect(session!.updatedAt!.getTime()).toBeGreaterThanOrEqual(before.updatedAt!.getTime());
    expect(await get(id)).toEqual(session);
  });

  test.each(FIELDS)("clears %s where it is absent", async (field) => {
    const id = await store.newSession(FIRST);
    const { session } = await update(id, {}, [PATHS[field]]);
    const cleared = { title: "", ownerId: "", tags: [] } as Partial<AgentSession>;
    expect(session![field]).toEqual(cleared[field as "title"]);
    for (const other of FIELDS) if (other !== field) expect(session![other]).toEqual(FIRST[other]);
    expect(await get(id)).toEqual(session);
  });

  test("changes several fields at once, named in any order or twice", async () => {
    const id = await store.newSession(FIRST);
    const paths = ["expires_at", "title", "title", "tags", "metadata", "owner_id"];
    const { session } = await update(id, SECOND, paths);
    expect(session).toMatchObject({ ...SECOND, tags: ["three", "two"], revision: 2n });
  });

  test("does not touch what the server gives", async () => {
    const id = await store.newSession(FIRST);
    const before = await get(id);
    const forged = {
      modelId: "other",
      createdAt: new Date(0),
      state: SessionState.EXPIRED,
      revision: 99n,
      lastSeq: 99n,
      updatedAt: new Date(0),
    };
    const { session } = await update(id, { ...forged, title: "t" }, ["title"]);
    expect(session).toEqual({
      ...before,
      title: "t",
      revision: 2n,
      updatedAt: session!.updatedAt,
    });
    expect(session!.updatedAt!.getTime()).toBeGreaterThanOrEqual(before.updatedAt!.getTime());
  });
});

test("expires a session and brings it back; messages go in all the while", async () => {
  const id = await store.newSession();
  const past = await update(id, { expiresAt: new Date(Date.now() - 3_600_000) }, ["expires_at"]);
  expect(past.session!.state).toBe(SessionState.EXPIRED);
  await store.appendNumbered(id, 1, 1);
  expect((await get(id)).state).toBe(SessionState.EXPIRED);
  const back = await update(id, { expiresAt: new Date(Date.now() + 3_600_000) }, ["expires_at"]);
  expect(back.session).toMatchObject({ state: SessionState.ACTIVE, lastSeq: 1n, revision: 4n });
});

test("raises the revision by one for each of many updates at once", async () => {
  const id = await store.newSession();
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) => update(id, { title: String(index) }, ["title"])),
  );
  const revisions = answers.map(({ session }) => Number(session!.revision)).sort((a, b) => a - b);
  expect(revisions).toEqual(Array.from({ length: 20 }, (_, index) => index + 2));
  const last = answers.find(({ session }) => session!.revision === 21n)!.session!;
  expect((await get(id)).title).toBe(last.title);
});

describe("request_id", () => {
  test("replays the first answer and writes nothing", async () => {
    const id = await store.newSession(FIRST);
    const request = {
      session: { id, title: "once" },
      updateMask: ["title"],
      requestId: randomUUID(),
    };
    const first = await store.call("updateSession", request);
    await update(id, { title: "later" }, ["title"]);
    const again = await store.call("updateSession", request);
    expect(again).toEqual({ session: first.session, replayed: true });
    expect(await get(id)).toMatchObject({ title: "later", revision: 3n });
  });

  test("lets one of many identical requests at once write", async () => {
    const id = await store.newSession();
    const request = { session: { id, title: "t" }, updateMask: ["title"], requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => store.call("updateSession", request)),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(new Set(answers.map(({ session }) => session!.revision))).toEqual(new Set([2n]));
    expect((await get(id)).revision).toBe(2n);
  });

  test.each([
    { session: { title: "other" } },
    { session: { ownerId: "other" } },
    { updateMask: ["title", "tags"] },
  ])("refuses another body: %j", async (change) => {
    const id = await store.newSession();
    const session = { id, title: "t" };
    const request = { session, updateMask: ["title"], requestId: randomUUID() };
    await store.call("updateSession", request);
    const other = { ...request, ...change, session: { ...session, ...change.session } };
    const expected = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
    await store.refuses("updateSession", other, expected);
    expect(await get(id)).toMatchObject({ title: "t", ownerId: "", revision: 2n });
  });

  test("refuses the request_id of another write to the session", async () => {
    const id = await store.newSession();
    const requestId = randomUUID();
    await store.call("addMessage", { conversationId: id, message: { role: 2 }, requestId });
    await store.refuses(
      "updateSession",
      { session: { id, title: "t" }, updateMask: ["title"], requestId },
      { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
    );
  });

  test("belongs to its session alone", async () => {
    const requestId = randomUUID();
    for (const id of [await store.newSession(), await store.newSession()]) {
      const request = { session: { id, title: "t" }, updateMask: ["title"], requestId };
      expect((await store.call("updateSession", request)).replayed).toBe(false);
    }
  });
});

describe("refusals", () => {
  test.each([
    [{ updateMask: [] }, ["update_mask"]],
    [{ updateMask: undefined }, ["update_mask"]],
    [{ updateMask: ["state"] }, ["update_mask"]],
    [{ updateMask: ["title", "model_id"] }, ["update_mask"]],
    [{ updateMask: [""] }, ["update_mask"]],
    [{ updateMask: ["*"] }, ["update_mask"]],
    [{ updateMask: ["ownerId"] }, ["update_mask"]],
    [{ updateMask: ["metadata.a"] }, ["update_mask"]],
    [{ session: { id: 0n, title: "t" } }, ["session.id"]],
    [{ session: { id: -1n, title: "t" } }, ["session.id"]],
    [{ session: undefined }, ["session"]],
    [{ session: { title: "t".repeat(1_001) } }, ["session.title"]],
    [{ session: { ownerId: "\0" } }, ["session.owner_id"]],
    [{ session: { tags: ["a", "t".repeat(129)] } }, ["session.tags[1]"]],
    [{ session: { metadata: { a: Number.NaN } } }, ["session.metadata"]],
    [{ session: { expiresAt: new Date(-62_135_596_800_001) } }, ["session.expires_at"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
  ])("%# %o", async (change, fields) => {
    const id = await store.newSession(FIRST);
    const before = await get(id);
    const request: Part<{ session: AgentSession; updateMask: string[] }> = {
      updateMask: ["title"],
      ...change,
      session: "session" in change ? change.session && { id, ...change.session } : { id },
    };
    await store.refuses("updateSession", request, { reason: "INVALID_FIELD", fields });
    expect(await get(id)).toEqual(before);
  });

  test("a session that is not there", async () => {
    const id = (1n << 63n) - 1n;
    for (const requestId of ["", randomUUID()]) {
      await store.refuses(
        "updateSession",
        { session: { id, title: "t" }, updateMask: ["title"], requestId },
        { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(id) } },
      );
    }
  });
});
