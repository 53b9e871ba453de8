// Snapshots: taken by hand, listed, read, gone back to in a fork or in place, removed.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type AgentMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { RestoreMode, type SessionSnapshot } from "../../gen/agentstore/v1/snapshots.js";
import { MessageChange } from "../../gen/agentstore/v1/versions.js";
import { uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();
const STATE = '{ "step": 1.0 }';

async function snap(conversationId: bigint, name = "") {
  const { snapshot } = await store.call("createSnapshot", { conversationId, name });
  return snapshot!;
}

async function restore(conversationId: bigint, snapshotId: bigint, mode: RestoreMode) {
  const answer = await store.call("restoreSnapshot", { conversationId, snapshotId, mode });
  expect(answer.replayed).toBe(false);
  return answer.session!;
}

async function all(conversationId: bigint): Promise<AgentMessage[]> {
  const request = { conversationId, pageSize: 1_000, showDeleted: true };
  return (await store.call("getMessages", request)).messages;
}

/** What a session says, whatever it is called and however often it was changed. */
async function said(conversationId: bigint) {
  const { messages } = await store.call("getMessages", { conversationId, pageSize: 1_000 });
  const { stats } = await store.call("getSessionStats", { conversationId });
  const { state } = await store.call("getState", { conversationId });
  return {
    messages: messages.map((message) => ({
      ...message,
      id: 0n,
      conversationId: 0n,
      revision: 0n,
      version: 0n,
      editedAt: undefined,
    })),
    stats,
    state: state!.state,
  };
}

async function edit(conversationId: bigint, seq: bigint, content: string): Promise<void> {
  const message = { conversationId, seq, content };
  await store.call("updateMessage", { message, updateMask: ["content"] });
}

/** A session with edits, a deletion and a state; then a snapshot; then all kinds of changes. */
async function livedSession() {
  const conversationId = await store.newSession();
  const usage = { inputTokens: 3n };
  for (const [index, role] of [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER].entries()) {
    const message = {
      role,
      content: `m${index + 1}`,
      timestampMs: BigInt(1_000 * (index + 1)),
      usage,
    };
    await store.call("addMessage", { conversationId, message });
  }
  await edit(conversationId, 2n, "m2 edited before");
  await store.call("deleteMessage", { conversationId, seq: 3n });
  await store.call("updateState", { conversationId, state: STATE });
  const before = await said(conversationId);
  const snapshot = await snap(conversationId, "before");

  await edit(conversationId, 1n, "m1 edited after");
  await edit(conversationId, 2n, "m2 edited after");
  await edit(conversationId, 2n, "m2 edited after, twice");
  await store.call("undeleteMessage", { conversationId, seq: 3n });
  await store.call("deleteMessage", { conversationId, seq: 4n });
  await store.appendNumbered(conversationId, 5, 6);
  await store.call("deleteMessage", { conversationId, seq: 5n });
  await store.call("updateState", { conversationId, state: "2" });
  return { conversationId, snapshot, before };
}

describe("CreateSnapshot", () => {
  test("says what the session is at this moment, and changes nothing", async () => {
    const conversationId = await store.newConversation(3);
    await store.call("deleteMessage", { conversationId, seq: 1n });
    await store.call("updateState", { conversationId, state: STATE });
    const session = (await store.call("getSession", { conversationId })).session!;
    const snapshot = await snap(conversationId, "a name \u{1F642}");
    expect(snapshot).toEqual({
      id: snapshot.id,
      conversationId,
      name: "a name \u{1F642}",
      byPolicy: false,
      revision: session.revision,
      lastSeq: 3n,
      messageCount: 2n,
      state: undefined,
      createdBy: snapshot.createdBy,
      createdAt: expect.any(Date),
    });
    expect(snapshot.createdBy).not.toBe("");
    expect((await store.call("getSession", { conversationId })).session).toEqual(session);
    const request = { conversationId, snapshotId: snapshot.id };
    expect((await store.call("getSnapshot", request)).snapshot).toEqual({
      ...snapshot,
      state: STATE,
    });
  });

  test("of a session without a state has none", async () => {
    const conversationId = await store.newSession();
    const { id } = await snap(conversationId);
    const { snapshot } = await store.call("getSnapshot", { conversationId, snapshotId: id });
    expect(snapshot).toMatchObject({ lastSeq: 0n, messageCount: 0n, revision: 1n });
    expect(snapshot!.state).toBeUndefined();
  });

  test("is replayed by its request_id", async () => {
    const conversationId = await store.newConversation(1);
    const request = { conversationId, name: "once", requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => store.call("createSnapshot", request)),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect((await store.call("listSnapshots", { conversationId })).snapshots).toEqual([
      answers[0]!.snapshot,
    ]);
    await store.refuses(
      "createSnapshot",
      { ...request, name: "twice" },
      { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
    );
  });

  test("is refused beyond 100 taken by hand", async () => {
    const conversationId = await store.newSession();
    for (let count = 0; count < 100; count++) await snap(conversationId);
    await store.refuses(
      "createSnapshot",
      { conversationId },
      {
        reason: "TOO_MANY_SNAPSHOTS",
        metadata: { conversation_id: String(conversationId), limit: "100" },
      },
    );
    const { snapshots } = await store.call("listSnapshots", { conversationId, pageSize: 1 });
    const [{ id: snapshotId }] = snapshots as [SessionSnapshot];
    await store.call("deleteSnapshot", { conversationId, snapshotId });
    await snap(conversationId);
  });
});

test("snapshots are listed newest first, in pages", async () => {
  const conversationId = await store.newSession();
  const taken = [];
  for (let count = 0; count < 7; count++) taken.unshift(await snap(conversationId, `${count}`));
  const pages = [];
  let pageToken = "";
  do {
    const page = await store.call("listSnapshots", { conversationId, pageSize: 3, pageToken });
    pages.push(page.snapshots);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(pages).toEqual([taken.slice(0, 3), taken.slice(3, 6), taken.slice(6)]);
});

test("a snapshot that is deleted is gone, once", async () => {
  const conversationId = await store.newConversation(1);
  const { id: snapshotId } = await snap(conversationId);
  const key = { conversationId, snapshotId };
  const request = { ...key, requestId: randomUUID() };
  expect(await store.call("deleteSnapshot", request)).toEqual({ deleted: true, replayed: false });
  expect(await store.call("deleteSnapshot", request)).toEqual({ deleted: true, replayed: true });
  expect(await store.call("deleteSnapshot", key)).toEqual({ deleted: false, replayed: false });
  const metadata = { conversation_id: String(conversationId), snapshot_id: String(snapshotId) };
  await store.refuses("getSnapshot", key, { reason: "SNAPSHOT_NOT_FOUND", metadata });
  await store.refuses(
    "restoreSnapshot",
    { ...key, mode: RestoreMode.FORK },
    { reason: "SNAPSHOT_NOT_FOUND", metadata },
  );
  expect((await store.call("getMessages", { conversationId })).messages).toHaveLength(1);
});

describe("going back in a fork", () => {
  test("makes a session that is what the session was, and leaves it alone", async () => {
    const { conversationId, snapshot, before } = await livedSession();
    const now = { said: await said(conversationId), messages: await all(conversationId) };
    const session = await restore(conversationId, snapshot.id, RestoreMode.FORK);
    expect(session).toMatchObject({ lastSeq: 4n, parent: { conversationId, seq: 4n } });
    expect(await said(session.id)).toEqual(before);
    expect((await all(session.id)).map(({ version, deletedAt }) => [version, !deletedAt])).toEqual([
      [1n, true],
      [1n, true],
      [1n, false],
      [1n, true],
    ]);
    expect({ said: await said(conversationId), messages: await all(conversationId) }).toEqual(now);
  });

  test("works again and again, and after a roll-back too", async () => {
    const { conversationId, snapshot, before } = await livedSession();
    await restore(conversationId, snapshot.id, RestoreMode.ROLL_BACK);
    await edit(conversationId, 1n, "later");
    const session = await restore(conversationId, snapshot.id, RestoreMode.FORK);
    expect(await said(session.id)).toEqual(before);
  });
});

describe("a roll-back", () => {
  test("makes the session what it was, and keeps what it undoes as versions", async () => {
    const { conversationId, snapshot, before } = await livedSession();
    const last = (await store.call("getSession", { conversationId })).session!;
    const session = await restore(conversationId, snapshot.id, RestoreMode.ROLL_BACK);
    expect(await said(conversationId)).toEqual(before);
    // Four messages back, one later one that was not deleted yet, the state.
    expect(session).toMatchObject({
      id: conversationId,
      lastSeq: 6n,
      revision: last.revision + 6n,
    });
    expect((await store.call("getSession", { conversationId })).session).toEqual(session);
    const messages = await all(conversationId);
    expect(messages.map(({ version, deletedAt }) => [version, !deletedAt])).toEqual([
      [3n, true],
      [5n, true],
      [4n, false],
      [3n, true],
      [2n, false],
      [2n, false],
    ]);
    const history = async (seq: bigint) => {
      const { versions } = await store.call("listMessageVersions", { conversationId, seq });
      return versions.map(({ change, message }) => [change, message!.content]);
    };
    const { REVERTED, UPDATED, APPENDED, DELETED } = MessageChange;
    expect(await history(2n)).toEqual([
      [REVERTED, "m2 edited before"],
      [UPDATED, "m2 edited after, twice"],
      [UPDATED, "m2 edited after"],
      [UPDATED, "m2 edited before"],
      [APPENDED, "m2"],
    ]);
    expect(await history(6n)).toEqual([
      [DELETED, "6"],
      [APPENDED, "6"],
    ]);
    // The conversation goes on behind what was undone.
    await store.appendNumbered(conversationId, 7, 7);
    const { messages: shown } = await store.call("getMessages", { conversationId });
    expect(shown.map(({ seq }) => seq)).toEqual([1n, 2n, 4n, 7n]);
  });

  test("can be undone: to a snapshot that was taken before it", async () => {
    const { conversationId, snapshot } = await livedSession();
    const after = await said(conversationId);
    const later = await snap(conversationId);
    await restore(conversationId, snapshot.id, RestoreMode.ROLL_BACK);
    await store.appendNumbered(conversationId, 7, 9);
    await restore(conversationId, later.id, RestoreMode.ROLL_BACK);
    expect(await said(conversationId)).toEqual(after);
  });

  test("to where the session is already changes nothing", async () => {
    const conversationId = await store.newConversation(2);
    const before = (await store.call("getSession", { conversationId })).session;
    const { id } = await snap(conversationId);
    expect(await restore(conversationId, id, RestoreMode.ROLL_BACK)).toEqual(before);
  });

  test("to an empty session deletes all messages and the state", async () => {
    const conversationId = await store.newSession();
    const { id } = await snap(conversationId);
    await store.appendNumbered(conversationId, 1, 3);
    await store.call("updateState", { conversationId, state: STATE });
    const session = await restore(conversationId, id, RestoreMode.ROLL_BACK);
    expect(session).toMatchObject({ lastSeq: 3n, revision: 9n });
    expect(await said(conversationId)).toMatchObject({ messages: [], state: "" });
    expect((await store.call("getState", { conversationId })).state!.etag).toBe("");
    const { etag } = (await store.call("updateState", { conversationId, state: "1" })).state!;
    expect(etag).not.toBe("");
  });

  test("brings the place in lists and the preview back", async () => {
    const modelId = uniqueModel();
    const conversationId = await store.newSession({ modelId });
    await store.call("addMessage", {
      conversationId,
      message: { role: Role.USER, content: "first", timestampMs: 1_000n },
    });
    const before = (await store.call("listSessions", { modelId })).sessions[0]!;
    const { id } = await snap(conversationId);
    await edit(conversationId, 1n, "changed");
    await store.call("addMessage", { conversationId, message: userMessage("second") });
    await restore(conversationId, id, RestoreMode.ROLL_BACK);
    const after = (await store.call("listSessions", { modelId })).sessions[0]!;
    expect(after).toEqual({ ...before, session: after.session });
  });

  test("of 5 callers at once happens once after the other, with appends in between", async () => {
    const conversationId = await store.newConversation(5);
    const { id: snapshotId } = await snap(conversationId);
    await Promise.all([
      ...Array.from({ length: 5 }, () =>
        store.call("restoreSnapshot", { conversationId, snapshotId, mode: RestoreMode.ROLL_BACK }),
      ),
      ...Array.from({ length: 20 }, () =>
        store.call("addMessage", { conversationId, message: userMessage("meanwhile") }),
      ),
    ]);
    const messages = await all(conversationId);
    expect(messages.map(({ seq }) => seq)).toEqual(
      Array.from({ length: 25 }, (_, index) => BigInt(index + 1)),
    );
    const revisions = messages.map(({ revision }) => revision);
    expect(new Set(revisions).size).toBe(25);
    const stats = (await store.call("getSessionStats", { conversationId })).stats!;
    expect(stats.totalMessages).toBe(BigInt(messages.filter(({ deletedAt }) => !deletedAt).length));
  });
});

describe("request_id and expected_revision", () => {
  test.each([RestoreMode.FORK, RestoreMode.ROLL_BACK])("of mode %i", async (mode) => {
    const { conversationId, snapshot } = await livedSession();
    const { revision } = (await store.call("getSession", { conversationId })).session!;
    const request = {
      conversationId,
      snapshotId: snapshot.id,
      mode,
      expectedRevision: revision,
      requestId: randomUUID(),
    };
    await store.refuses(
      "restoreSnapshot",
      { ...request, expectedRevision: revision - 1n },
      {
        reason: "REVISION_MISMATCH",
        metadata: {
          conversation_id: String(conversationId),
          expected_revision: String(revision - 1n),
          revision: String(revision),
        },
      },
    );
    const first = await store.call("restoreSnapshot", request);
    await store.appendNumbered(conversationId, 7, 7);
    const now = await said(conversationId);
    expect(await store.call("restoreSnapshot", request)).toEqual({ ...first, replayed: true });
    expect(await said(conversationId)).toEqual(now);
    await store.refuses(
      "restoreSnapshot",
      { ...request, snapshotId: 1n },
      { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
    );
  });
});

describe("refusals", () => {
  test("a snapshot of another session is none of this one's", async () => {
    const mine = await store.newConversation(1);
    const theirs = await store.newConversation(1);
    const { id: snapshotId } = await snap(theirs);
    const key = { conversationId: mine, snapshotId };
    const metadata = { conversation_id: String(mine), snapshot_id: String(snapshotId) };
    const expected = { reason: "SNAPSHOT_NOT_FOUND", metadata };
    await store.refuses("getSnapshot", key, expected);
    for (const mode of [RestoreMode.FORK, RestoreMode.ROLL_BACK]) {
      await store.refuses("restoreSnapshot", { ...key, mode }, expected);
    }
    expect(await store.call("deleteSnapshot", key)).toMatchObject({ deleted: false });
    expect((await store.call("listSnapshots", { conversationId: theirs })).snapshots).toHaveLength(
      1,
    );
    expect((await store.call("listSnapshots", { conversationId: mine })).snapshots).toEqual([]);
  });

  test.each<
    [
      "createSnapshot" | "listSnapshots" | "getSnapshot" | "restoreSnapshot" | "deleteSnapshot",
      object,
      string[],
    ]
  >([
    ["createSnapshot", { conversationId: 0n }, ["conversation_id"]],
    ["createSnapshot", { name: "n".repeat(257) }, ["name"]],
    ["createSnapshot", { name: "\0" }, ["name"]],
    ["createSnapshot", { requestId: "r".repeat(129) }, ["request_id"]],
    ["listSnapshots", { conversationId: -1n }, ["conversation_id"]],
    ["listSnapshots", { pageSize: 1_001 }, ["page_size"]],
    ["getSnapshot", { conversationId: 0n }, ["conversation_id"]],
    ["getSnapshot", { snapshotId: 0n }, ["snapshot_id"]],
    ["restoreSnapshot", { conversationId: 0n }, ["conversation_id"]],
    ["restoreSnapshot", { snapshotId: -1n }, ["snapshot_id"]],
    ["restoreSnapshot", { mode: RestoreMode.UNSPECIFIED }, ["mode"]],
    ["restoreSnapshot", { mode: 9 }, ["mode"]],
    ["restoreSnapshot", { requestId: "\0" }, ["request_id"]],
    ["restoreSnapshot", { expectedRevision: 0n }, ["expected_revision"]],
    ["deleteSnapshot", { conversationId: 0n }, ["conversation_id"]],
    ["deleteSnapshot", { snapshotId: 0n }, ["snapshot_id"]],
    ["deleteSnapshot", { requestId: "r".repeat(129) }, ["request_id"]],
  ])("%s %o", async (rpc, change, fields) => {
    const request = { conversationId: 1n, snapshotId: 1n, mode: RestoreMode.FORK, ...change };
    await store.refuses(rpc, request, { reason: "INVALID_FIELD", fields });
  });

  test("a session that is not there, and another list's token", async () => {
    const conversationId = (1n << 63n) - 1n;
    for (const rpc of [
      "createSnapshot",
      "listSnapshots",
      "getSnapshot",
      "restoreSnapshot",
      "deleteSnapshot",
    ] as const) {
      await store.refuses(
        rpc,
        { conversationId, snapshotId: 1n, mode: RestoreMode.FORK },
        { reason: "SESSION_NOT_FOUND" },
      );
    }
    const [one, other] = [await store.newSession(), await store.newSession()];
    await snap(one);
    await snap(one);
    const page = await store.call("listSnapshots", { conversationId: one, pageSize: 1 });
    await store.refuses(
      "listSnapshots",
      { conversationId: other, pageToken: page.nextPageToken },
      { reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] },
    );
  });

  test("policies that are none", async () => {
    const id = await store.newSession();
    for (const [policy, field] of [
      [{ everyMessages: -1n }, "every_messages"],
      [{ everyMessages: 1_000_001n }, "every_messages"],
      [{ everyMinutes: -1n }, "every_minutes"],
      [{ everyMinutes: 525_601n }, "every_minutes"],
    ] as const) {
      await store.refuses(
        "updateSession",
        { session: { id, snapshotPolicy: policy }, updateMask: ["snapshot_policy"] },
        { reason: "INVALID_FIELD", fields: [`session.snapshot_policy.${field}`] },
      );
    }
  });
});
