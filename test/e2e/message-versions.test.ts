// ListMessageVersions, GetMessage by version and RevertMessage: nothing that was said is lost.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { MessageChange, type MessageVersion } from "../../gen/agentstore/v1/versions.js";
import { useStore } from "./store.js";

const store = useStore();

async function newMessage(content = "version 1"): Promise<{ conversationId: bigint; seq: bigint }> {
  const conversationId = await store.newSession();
  await store.call("addMessage", { conversationId, message: { role: Role.USER, content } });
  return { conversationId, seq: 1n };
}

async function edit(key: { conversationId: bigint; seq: bigint }, content: string): Promise<void> {
  await store.call("updateMessage", { message: { ...key, content }, updateMask: ["content"] });
}

async function history(key: object): Promise<MessageVersion[]> {
  return (await store.call("listMessageVersions", key)).versions;
}

test("tells every version: what, which change, who and when", async () => {
  const key = await newMessage();
  const start = Date.now();
  await edit(key, "version 2");
  await store.call("deleteMessage", key);
  await store.call("undeleteMessage", key);
  await store.call("revertMessage", { ...key, version: 1n });
  const versions = await history(key);
  expect(
    versions.map(({ message, change }) => [message!.version, message!.content, change]),
  ).toEqual([
    [5n, "version 1", MessageChange.REVERTED],
    [4n, "version 2", MessageChange.UNDELETED],
    [3n, "version 2", MessageChange.DELETED],
    [2n, "version 2", MessageChange.UPDATED],
    [1n, "version 1", MessageChange.APPENDED],
  ]);
  expect(versions.map(({ message }) => message!.deletedAt !== undefined)).toEqual([
    false,
    false,
    true,
    false,
    false,
  ]);
  expect(versions.map(({ message }) => message!.revision)).toEqual([6n, 5n, 4n, 3n, 2n]);
  expect(new Set(versions.map(({ message }) => message!.id)).size).toBe(1);
  const writers = new Set(versions.map(({ changedBy }) => changedBy));
  expect(writers.size).toBe(1);
  expect([...writers][0]).not.toBe("");
  for (const { changedAt } of versions) {
    expect(Math.abs(changedAt!.getTime() - start)).toBeLessThan(3_600_000);
  }
  expect(versions[0]!.message!.editedAt).toEqual(versions[0]!.changedAt);
  expect(versions[4]!.message!.editedAt).toBeUndefined();
});

test("each version can be read by its number, the current one too", async () => {
  const key = await newMessage();
  await edit(key, "version 2");
  await edit(key, "version 3");
  const versions = await history(key);
  for (const { message } of versions) {
    const { version } = message!;
    expect((await store.call("getMessage", { ...key, version })).message).toEqual(message);
  }
  expect((await store.call("getMessage", key)).message).toEqual(versions[0]!.message);
  await store.refuses(
    "getMessage",
    { ...key, version: 4n },
    {
      reason: "VERSION_NOT_FOUND",
      metadata: {
        conversation_id: String(key.conversationId),
        seq: "1",
        version: "4",
        last_version: "3",
      },
    },
  );
  await store.refuses(
    "getMessage",
    { ...key, version: -1n },
    { reason: "INVALID_FIELD", fields: ["version"] },
  );
});

test("a deleted message's versions are read with show_deleted, and listed in any case", async () => {
  const key = await newMessage();
  await edit(key, "version 2");
  await store.call("deleteMessage", key);
  expect(await history(key)).toHaveLength(3);
  const request = { ...key, version: 1n, showDeleted: true };
  expect((await store.call("getMessage", request)).message).toMatchObject({ content: "version 1" });
});

test("1,000 versions are paged, newest first, at the cost of a page each", async () => {
  const key = await newMessage();
  for (let version = 2; version <= 1_000; version += 20) {
    const batch = Array.from({ length: Math.min(20, 1_001 - version) }, () =>
      edit(key, `at most ${version + 19}`),
    );
    await Promise.all(batch);
  }
  const seen: bigint[] = [];
  const sizes: number[] = [];
  let pageToken = "";
  do {
    const request = { ...key, pageSize: 130, pageToken };
    const page = await store.call("listMessageVersions", request);
    seen.push(...page.versions.map(({ message }) => message!.version));
    sizes.push(page.versions.length);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(seen).toEqual(Array.from({ length: 1_000 }, (_, index) => BigInt(1_000 - index)));
  expect(sizes).toEqual([130, 130, 130, 130, 130, 130, 130, 90]);
  const whole = await store.call("listMessageVersions", { ...key, pageSize: 1_000 });
  expect(whole.versions).toHaveLength(1_000);
  expect(whole.nextPageToken).toBe("");
  const { message } = await store.call("revertMessage", { ...key, version: 1n });
  expect(message).toMatchObject({ content: "version 1", version: 1_001n });
});

test("a page of large versions ends early", async () => {
  const key = await newMessage("x".repeat(400_000));
  for (const letter of "abcd") await edit(key, letter.repeat(400_000));
  const first = await store.call("listMessageVersions", key);
  expect(first.versions.map(({ message }) => message!.version)).toEqual([5n, 4n, 3n]);
  const rest = await store.call("listMessageVersions", { ...key, pageToken: first.nextPageToken });
  expect(rest.versions.map(({ message }) => message!.version)).toEqual([2n, 1n]);
  expect(rest.nextPageToken).toBe("");
});

describe("a revert", () => {
  test("brings every field back, byte for byte, and the counters with them", async () => {
    const conversationId = await store.newSession();
    const message = {
      role: Role.ASSISTANT,
      content: "\0 exact \u{1F642}",
      timestampMs: 1_234n,
      name: "n\0",
      toolCalls: [{ id: "1", name: "f", arguments: '{ "a":1.0, "\\u0000": "\0" }' }],
      payload: '{ "z": 1,\n "a": 2 }',
      payloadType: "json",
      metadata: { deep: [{ er: null }] },
      usage: {
        inputTokens: 1n,
        outputTokens: 2n,
        cachedTokens: 3n,
        reasoningTokens: 4n,
        costMicros: 5n,
      },
    };
    const first = (await store.call("addMessage", { conversationId, message })).message!;
    const before = await store.call("getSessionStats", { conversationId });
    await store.call("updateMessage", {
      message: { conversationId, seq: 1n, role: Role.USER, content: "c", timestampMs: 9n },
      updateMask: [
        "role",
        "content",
        "timestamp_ms",
        "name",
        "tool_calls",
        "payload",
        "payload_type",
        "metadata",
        "usage",
      ],
    });
    const { message: back } = await store.call("revertMessage", {
      conversationId,
      seq: 1n,
      version: 1n,
    });
    expect(back).toEqual({ ...first, version: 3n, revision: 4n, editedAt: expect.any(Date) });
    expect(await store.call("getSessionStats", { conversationId })).toEqual(before);
  });

  test("of a deleted message brings it back, to a deleted version deletes it again", async () => {
    const key = await newMessage();
    await edit(key, "version 2");
    await store.call("deleteMessage", key);
    const back = await store.call("revertMessage", { ...key, version: 1n });
    expect(back.message).toMatchObject({ content: "version 1", version: 4n });
    expect(back.message!.deletedAt).toBeUndefined();
    const gone = await store.call("revertMessage", { ...key, version: 3n });
    expect(gone.message).toMatchObject({ content: "version 2", version: 5n });
    expect(gone.message!.deletedAt).toEqual(gone.message!.editedAt);
    await store.refuses("getMessage", key, { reason: "MESSAGE_DELETED" });
  });

  test("to the current version is a version too", async () => {
    const key = await newMessage();
    const { message } = await store.call("revertMessage", { ...key, version: 1n });
    expect(message).toMatchObject({ content: "version 1", version: 2n });
  });

  test("is replayed by its request_id, and heeds expected_revision", async () => {
    const key = await newMessage();
    await edit(key, "version 2");
    const request = { ...key, version: 1n, expectedRevision: 3n, requestId: randomUUID() };
    const first = await store.call("revertMessage", request);
    await edit(key, "version 4");
    expect(await store.call("revertMessage", request)).toEqual({ ...first, replayed: true });
    const expected = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
    await store.refuses("revertMessage", { ...request, version: 2n }, expected);
    await store.refuses(
      "revertMessage",
      { ...request, requestId: "" },
      { reason: "REVISION_MISMATCH", metadata: { revision: "5" } },
    );
  });

  test("to a version that is not there is refused, and changes nothing", async () => {
    const key = await newMessage();
    await store.refuses(
      "revertMessage",
      { ...key, version: 2n },
      {
        reason: "VERSION_NOT_FOUND",
        metadata: { version: "2", last_version: "1" },
      },
    );
    expect(await history(key)).toHaveLength(1);
    expect((await store.call("getSession", key)).session!.revision).toBe(2n);
  });
});

describe("refusals", () => {
  test.each<[object, string[]]>([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ seq: -1n }, ["seq"]],
    [{ version: 0n }, ["version"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
    [{ expectedRevision: -1n }, ["expected_revision"]],
  ])("RevertMessage %# %o", async (change, fields) => {
    const request = { conversationId: 1n, seq: 1n, version: 1n, ...change };
    await store.refuses("revertMessage", request, { reason: "INVALID_FIELD", fields });
  });

  test.each<[object, string[]]>([
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ seq: 0n }, ["seq"]],
    [{ pageSize: 1_001 }, ["page_size"]],
    [{ pageSize: -1 }, ["page_size"]],
  ])("ListMessageVersions %# %o", async (change, fields) => {
    const request = { conversationId: 1n, seq: 1n, ...change };
    await store.refuses("listMessageVersions", request, { reason: "INVALID_FIELD", fields });
  });

  test("what is not there, and another list's token", async () => {
    const key = await newMessage();
    const nowhere = (1n << 63n) - 1n;
    for (const [rpc, more] of [
      ["listMessageVersions", {}],
      ["revertMessage", { version: 1n }],
    ] as const) {
      await store.refuses(
        rpc,
        { ...key, ...more, seq: 2n },
        { reason: "MESSAGE_NOT_FOUND", metadata: { seq: "2", last_seq: "1" } },
      );
      await store.refuses(
        rpc,
        { ...key, ...more, conversationId: nowhere },
        { reason: "SESSION_NOT_FOUND" },
      );
    }
    await edit(key, "version 2");
    const { nextPageToken } = await store.call("listMessageVersions", { ...key, pageSize: 1 });
    const other = await newMessage();
    await store.refuses(
      "listMessageVersions",
      { ...other, pageToken: nextPageToken },
      { reason: "INVALID_PAGE_TOKEN", fields: ["page_token"] },
    );
  });
});
