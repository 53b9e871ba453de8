// The client's calls about the life of messages, forks and snapshots, against the real server.
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  AgentStoreClient,
  InvalidFieldError,
  MessageDeletedError,
  MessageNotDeletedError,
  MessageNotFoundError,
  RevisionMismatchError,
  SnapshotNotFoundError,
  VersionNotFoundError,
  type WriteInfo,
} from "../../client/index.js";
import { startServer, type TestServer } from "../harness/server.js";

let server: TestServer;
let store: AgentStoreClient;
beforeAll(async () => {
  server = await startServer();
  store = new AgentStoreClient(server.url);
});
afterAll(async () => {
  store.close();
  await server.stop();
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

test("a message is changed, deleted, brought back and reverted; its history tells", async () => {
  const { id } = await store.createSession("client-life");
  const first = await store.addMessage(id, "assistant", "one", {
    name: "n",
    toolCalls: [{ id: "1", name: "f", arguments: "{}" }],
    metadata: { a: 1 },
    usage: { inputTokens: 1 },
  });
  let info: WriteInfo | undefined;
  const onWritten = (written: WriteInfo) => {
    info = written;
  };
  const second = await store.updateMessage(
    id,
    1,
    { content: "two", name: null, metadata: undefined, usage: null, timestampMs: 5 },
    { expectedRevision: first.revision, requestId: "edit", onWritten },
  );
  expect(second).toEqual({
    ...first,
    content: "two",
    name: "",
    usage: undefined,
    timestampMs: 5n,
    revision: 3n,
    version: 2n,
    editedAt: expect.any(Date),
  });
  expect(info).toEqual({ requestId: "edit", replayed: false, attempts: 1 });
  const gone = await store.deleteMessage(id, 1n, { expectedRevision: 3 });
  expect(gone.deletedAt).toBeInstanceOf(Date);
  await expect(store.getMessage(id, 1)).rejects.toThrow(MessageDeletedError);
  expect(await store.getMessage(id, 1, { showDeleted: true })).toEqual(gone);
  expect(await all(store.streamMessages(id))).toEqual([]);
  expect(await all(store.streamMessages(id, { showDeleted: true }))).toEqual([gone]);
  expect(await all(store.iterateMessages(id, { showDeleted: true }))).toEqual([gone]);
  expect((await store.undeleteMessage(id, 1)).deletedAt).toBeUndefined();
  const back = await store.revertMessage(id, 1, 1);
  expect(back).toEqual({ ...first, version: 5n, revision: 6n, editedAt: expect.any(Date) });
  expect(await store.getMessage(id, 1, { version: 2 })).toEqual(second);
  const versions = await all(store.iterateMessageVersions(id, 1, { pageSize: 2 }));
  expect(versions.map(({ change, message }) => [change, message.version])).toEqual([
    ["reverted", 5n],
    ["undeleted", 4n],
    ["deleted", 3n],
    ["updated", 2n],
    ["appended", 1n],
  ]);
  expect(versions[4]).toMatchObject({ changedBy: "anonymous", message: first });
  expect(versions[4]!.changedAt).toBeInstanceOf(Date);
  expect((await store.listMessageVersions(id, 1, { pageSize: 2 })).nextPageToken).not.toBe("");

  const error = await store
    .updateMessage(id, 1, { content: "x" }, { expectedRevision: 2 })
    .catch((reason: unknown) => reason as RevisionMismatchError);
  expect(error).toBeInstanceOf(RevisionMismatchError);
  expect(error).toMatchObject({
    conversationId: id,
    seq: 1n,
    revision: 6n,
    expectedRevision: 2n,
    attempts: 1,
  });
  await expect(store.undeleteMessage(id, 1)).rejects.toThrow(MessageNotDeletedError);
  await expect(store.revertMessage(id, 1, 9)).rejects.toMatchObject({
    name: "VersionNotFoundError",
    version: 9n,
    lastVersion: 5n,
  });
  await expect(store.getMessage(id, 1, { version: 9 })).rejects.toThrow(VersionNotFoundError);
});

test("what cannot be changed is named before anything is sent", async () => {
  const colour = { colour: "red" } as never;
  for (const [changes, field] of [
    [colour, "colour"],
    [{ role: "person" as never }, "message.role"],
    [{ content: 7 as never }, "message.content"],
    [{ usage: { inputTokens: 0.5 } }, "message.usage.input_tokens"],
  ] as const) {
    const error = await store
      .updateMessage(1, 1, changes)
      .catch((reason: unknown) => reason as InvalidFieldError);
    expect(error).toBeInstanceOf(InvalidFieldError);
    expect(error).toMatchObject({ attempts: 0, metadata: { field } });
  }
  await expect(store.restoreSnapshot(1, 1, "back" as never)).rejects.toThrow("mode");
  await expect(store.forkSession(1, { atSeq: 0.5 })).rejects.toThrow("at_seq");
});

test("a session is forked, snapshot and restored both ways", async () => {
  const { id } = await store.createSession("client-life");
  await store.addMessages(id, [{ role: "user", content: "a" }, { role: "user" }]);
  await store.updateState(id, '{"step": 1}');
  const policy = await store.updateSession(id, { snapshotPolicy: { everyMessages: 1_000 } });
  expect(policy.snapshotPolicy).toEqual({ everyMessages: 1_000n, everyMinutes: 0n });
  expect((await store.updateSession(id, { snapshotPolicy: null })).snapshotPolicy).toBeUndefined();

  const fork = await store.forkSession(id, { atSeq: 1 });
  expect(fork).toMatchObject({
    lastSeq: 1n,
    state: "active",
    parent: { conversationId: id, seq: 1n },
  });
  await expect(store.forkSession(id, { atSeq: 3 })).rejects.toThrow(MessageNotFoundError);

  const snapshot = await store.createSnapshot(id, { name: "before" });
  expect(snapshot).toMatchObject({ name: "before", byPolicy: false, lastSeq: 2n });
  await store.addMessage(id, "user", "later");
  const other = await store.createSnapshot(id);
  expect(await all(store.iterateSnapshots(id, { pageSize: 1 }))).toEqual([other, snapshot]);
  expect((await store.listSnapshots(id)).snapshots).toEqual([other, snapshot]);
  expect(await store.getSnapshot(id, snapshot.id)).toEqual({ ...snapshot, state: '{"step": 1}' });

  const restored = await store.restoreSnapshot(id, snapshot.id, "fork");
  expect(restored).toMatchObject({ lastSeq: 2n, parent: { conversationId: id, seq: 2n } });
  const { revision } = await store.getSession(id);
  const back = await store.restoreSnapshot(id, snapshot.id, "roll_back", {
    expectedRevision: revision,
  });
  expect(back).toMatchObject({ id, lastSeq: 3n, revision: revision + 1n });
  expect((await all(store.streamMessages(id))).map(({ content }) => content)).toEqual(["a", ""]);
  await expect(
    store.restoreSnapshot(id, snapshot.id, "roll_back", { expectedRevision: revision }),
  ).rejects.toThrow(RevisionMismatchError);

  expect(await store.deleteSnapshot(id, snapshot.id)).toBe(true);
  expect(await store.deleteSnapshot(id, snapshot.id)).toBe(false);
  const missing = await store
    .getSnapshot(id, snapshot.id)
    .catch((reason: unknown) => reason as SnapshotNotFoundError);
  expect(missing).toBeInstanceOf(SnapshotNotFoundError);
  expect(missing).toMatchObject({ snapshotId: snapshot.id });
});
