// ForkSession: a session that begins as another one does, and then goes its own way.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type AgentMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { MessageChange } from "../../gen/agentstore/v1/versions.js";
import { oddMessages } from "./odd-messages.js";
import { uniqueModel, userMessage, useStore } from "./store.js";

const store = useStore();

async function fork(conversationId: bigint, atSeq?: bigint) {
  const { session, replayed } = await store.call("forkSession", { conversationId, atSeq });
  expect(replayed).toBe(false);
  return session!;
}

async function all(conversationId: bigint): Promise<AgentMessage[]> {
  const request = { conversationId, pageSize: 1_000, showDeleted: true };
  return (await store.call("getMessages", request)).messages;
}

async function facts(conversationId: bigint) {
  return {
    session: (await store.call("getSession", { conversationId })).session,
    stats: (await store.call("getSessionStats", { conversationId })).stats,
    messages: await all(conversationId),
    state: (await store.call("getState", { conversationId })).state,
  };
}

describe("a fork", () => {
  test("has all that callers have set, the messages byte for byte, and knows its parent", async () => {
    const fields = {
      title: "title",
      ownerId: "owner",
      tags: ["b", "a"],
      metadata: { deep: [{ er: 1 }] },
      expiresAt: new Date("2098-01-01T00:00:00Z"),
    };
    const conversationId = await store.newSession(fields);
    await store.call("updateSession", {
      session: { id: conversationId, snapshotPolicy: { everyMessages: 1_000n, everyMinutes: 5n } },
      updateMask: ["snapshot_policy"],
    });
    const odd = Object.values(oddMessages);
    await store.call("addMessages", { conversationId, messages: odd });
    const parent = await facts(conversationId);
    const session = await fork(conversationId);
    const child = await facts(session.id);
    const seq = BigInt(odd.length);
    expect(child.session).toEqual({
      ...parent.session,
      ...fields,
      id: session.id,
      snapshotPolicy: { everyMessages: 1_000n, everyMinutes: 5n },
      createdAt: session.createdAt,
      updatedAt: session.createdAt,
      revision: seq + 1n,
      lastSeq: seq,
      parent: { conversationId, seq },
    });
    expect(child.session).toEqual(session);
    expect(session.id).not.toBe(conversationId);
    expect(child.stats).toEqual(parent.stats);
    expect(child.messages).toEqual(
      parent.messages.map((message, index) => ({
        ...message,
        id: child.messages[index]!.id,
        conversationId: session.id,
        revision: message.seq + 1n,
      })),
    );
    const ids = new Set([...parent.messages, ...child.messages].map(({ id }) => id));
    expect(ids.size).toBe(2 * odd.length);
    expect(await facts(conversationId)).toEqual(parent);
  });

  test("at an earlier message has the ones up to there, and their counters", async () => {
    const conversationId = await store.newSession();
    const usage = { inputTokens: 1n };
    for (const [role, timestampMs] of [
      [Role.SYSTEM, 9_000n],
      [Role.USER, 1_000n],
      [Role.ASSISTANT, 5_000n],
    ] as const) {
      const message = { role, timestampMs, content: `${role}`, usage };
      await store.call("addMessage", { conversationId, message });
    }
    const session = await fork(conversationId, 2n);
    expect(session).toMatchObject({ lastSeq: 2n, parent: { conversationId, seq: 2n } });
    expect((await all(session.id)).map(({ seq }) => seq)).toEqual([1n, 2n]);
    const { stats } = await store.call("getSessionStats", { conversationId: session.id });
    expect(stats).toMatchObject({
      totalMessages: 2n,
      systemMessages: 1n,
      userMessages: 1n,
      assistantMessages: 0n,
      firstMessageTime: new Date(1_000),
      lastMessageTime: new Date(9_000),
      totalCharacters: 2n,
      totalUsage: { inputTokens: 2n },
    });
    await store.appendNumbered(session.id, 3, 3);
    expect((await all(session.id)).map(({ content }) => content)).toEqual(["1", "2", "3"]);
  });

  test("of nothing is empty: at 0, and of an empty session", async () => {
    const conversationId = await store.newConversation(2);
    const empty = await fork(conversationId, 0n);
    expect(empty).toMatchObject({ lastSeq: 0n, revision: 1n, parent: { conversationId, seq: 0n } });
    const again = await fork(empty.id);
    expect(again).toMatchObject({ lastSeq: 0n, parent: { conversationId: empty.id, seq: 0n } });
    await store.appendNumbered(again.id, 1, 1);
    expect(await all(again.id)).toHaveLength(1);
  });

  test("takes edits and deletions over as they are, each message with version 1", async () => {
    const conversationId = await store.newConversation(4);
    const key = (seq: bigint) => ({ conversationId, seq });
    await store.call("updateMessage", {
      message: { ...key(1n), content: "edited" },
      updateMask: ["content"],
    });
    await store.call("deleteMessage", key(2n));
    const { id } = await fork(conversationId, 3n);
    const messages = await all(id);
    expect(
      messages.map(({ content, version, deletedAt }) => [content, version, !deletedAt]),
    ).toEqual([
      ["edited", 1n, true],
      ["2", 1n, false],
      ["3", 1n, true],
    ]);
    expect(messages[0]!.editedAt).toBeUndefined();
    const { versions } = await store.call("listMessageVersions", { conversationId: id, seq: 1n });
    expect(versions.map(({ change }) => change)).toEqual([MessageChange.FORKED]);
    const { sessions } = await store.call("listSessions", {
      modelId: (await store.call("getSession", { conversationId: id })).session!.modelId,
    });
    expect(sessions.map(({ messageCount }) => Number(messageCount)).sort((a, b) => a - b)).toEqual([
      2, 3,
    ]);
    const back = await store.call("undeleteMessage", { conversationId: id, seq: 2n });
    expect(back.message).toMatchObject({ content: "2", version: 2n });
  });

  test("has the state when it has all messages, and none otherwise", async () => {
    const conversationId = await store.newConversation(2);
    const state = '{ "step":1.0, "a": [ ] }';
    await store.call("updateState", { conversationId, state });
    const whole = await fork(conversationId);
    const part = await fork(conversationId, 1n);
    const at = async (id: bigint) => (await store.call("getState", { conversationId: id })).state!;
    expect(await at(whole.id)).toMatchObject({ conversationId: whole.id, state });
    expect((await at(whole.id)).etag).not.toBe("");
    expect(await at(part.id)).toMatchObject({ state: "", etag: "" });
    await store.call("updateState", { conversationId, state: "null" });
    expect((await at(whole.id)).state).toBe(state);
  });

  test("and its parent go their own ways: appends, edits, deletions, the end", async () => {
    const modelId = uniqueModel();
    const conversationId = await store.newSession({ modelId, tags: ["t"] });
    await store.appendNumbered(conversationId, 1, 3);
    const { id } = await fork(conversationId);
    const child = await facts(id);
    await store.call("updateMessage", {
      message: { conversationId, seq: 1n, content: "changed" },
      updateMask: ["content"],
    });
    await store.call("deleteMessage", { conversationId, seq: 2n });
    await store.appendNumbered(conversationId, 4, 4);
    await store.call("updateSession", {
      session: { id: conversationId, title: "changed" },
      updateMask: ["title", "tags"],
    });
    expect(await facts(id)).toEqual(child);
    const parent = await facts(conversationId);
    await store.call("deleteMessage", { conversationId: id, seq: 1n });
    await store.call("addMessage", { conversationId: id, message: userMessage("of the fork") });
    expect(await facts(conversationId)).toEqual(parent);
    const grown = await facts(id);
    expect(grown.messages.map(({ content }) => content)).toEqual(["1", "2", "3", "of the fork"]);
    await store.call("deleteSession", { conversationId });
    expect(await facts(id)).toEqual(grown);
    expect((await fork(id)).parent).toEqual({ conversationId: id, seq: 4n });
  });

  test("while others append and edit, is the session at one moment", async () => {
    const conversationId = await store.newConversation(20);
    // Each edit says how many came before it, in seq 1 and then in seq 2.
    let stop = false;
    const edits = (async () => {
      for (let round = 1; !stop; round++) {
        for (const seq of [1n, 2n]) {
          await store.call("updateMessage", {
            message: { conversationId, seq, content: String(round) },
            updateMask: ["content"],
          });
        }
        await store.call("addMessage", { conversationId, message: userMessage(String(round)) });
      }
    })();
    for (let count = 0; count < 20 && !stop; count++) {
      const { id, lastSeq } = await fork(conversationId).finally(() => {
        stop ||= count === 19;
      });
      const messages = await all(id);
      expect(messages.map(({ seq }) => seq)).toEqual(
        Array.from({ length: Number(lastSeq) }, (_, index) => BigInt(index + 1)),
      );
      const [first, second] = messages.map(({ content }) => Number(content));
      const rounds = Number(lastSeq) - 20;
      // Of a round, the edit of seq 1 comes first, that of seq 2 next, the append last.
      if (rounds > 0) {
        expect([rounds, rounds + 1]).toContain(second);
        expect([rounds, rounds + 1]).toContain(first);
        expect(first).toBeGreaterThanOrEqual(second!);
      }
    }
    await edits;
  });
});

describe("request_id", () => {
  test("replays the first answer, and makes no second fork", async () => {
    const modelId = uniqueModel();
    const conversationId = await store.newSession({ modelId });
    await store.appendNumbered(conversationId, 1, 2);
    const request = { conversationId, requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => store.call("forkSession", request)),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(new Set(answers.map(({ session }) => session!.id)).size).toBe(1);
    await store.appendNumbered(conversationId, 3, 3);
    const again = await store.call("forkSession", request);
    expect(again).toEqual({ session: answers[0]!.session, replayed: true });
    expect((await store.call("listSessions", { modelId })).sessions).toHaveLength(2);
    await store.refuses(
      "forkSession",
      { ...request, atSeq: 1n },
      { reason: "REQUEST_ID_REUSED", fields: ["request_id"] },
    );
  });
});

describe("refusals", () => {
  test.each<[object, string[]]>([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ atSeq: -1n }, ["at_seq"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ requestId: "\0" }, ["request_id"]],
  ])("%# %o", async (change, fields) => {
    const request = { conversationId: 1n, ...change };
    await store.refuses("forkSession", request, { reason: "INVALID_FIELD", fields });
  });

  test("past the end of the session", async () => {
    const conversationId = await store.newConversation(2);
    for (const atSeq of [3n, (1n << 63n) - 1n]) {
      await store.refuses(
        "forkSession",
        { conversationId, atSeq },
        { reason: "MESSAGE_NOT_FOUND", metadata: { seq: String(atSeq), last_seq: "2" } },
      );
    }
  });

  test("a session that is not there", async () => {
    const conversationId = (1n << 63n) - 1n;
    for (const requestId of ["", randomUUID()]) {
      await store.refuses(
        "forkSession",
        { conversationId, requestId },
        { reason: "SESSION_NOT_FOUND", metadata: { conversation_id: String(conversationId) } },
      );
    }
  });
});
