// What belongs to another tenant does not exist: not to be read, written, found, counted or guessed.
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AgentMessage } from "../../../gen/agentstore/v1/messages.js";
import { SearchMode, SearchOrder } from "../../../gen/agentstore/v1/search.js";
import { RestoreMode } from "../../../gen/agentstore/v1/snapshots.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { withClient } from "../../harness/postgres.js";
import { untilIndexed } from "../../harness/search.js";
import { startServer, type TestServer } from "../../harness/server.js";
import { failureOf, newMessage, type RequestOf, Stubs } from "../../harness/stubs.js";
import { SessionsWatcher, SessionWatcher } from "../../harness/watching.js";

let directory: string;
let server: TestServer;
let ours: Stubs;
let theirs: Stubs;
let session: bigint;
let snapshot: bigint;

const hash = (token: string) => createHash("sha256").update(token).digest("hex");

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "tenants-"));
  const tokensFile = join(directory, "tokens");
  await writeFile(tokensFile, `us alice ${hash("ours")}\nthem bob ${hash("theirs")}\n`);
  server = await startServer({ tokensFile });
  ours = new Stubs(server.address, { token: "ours" });
  theirs = new Stubs(server.address, { token: "theirs" });
  const created = await ours.call("createSession", { modelId: "gpt-4", title: "ours" });
  session = created.session!.id;
  const messages = ["a needle", "b"].map((content) => newMessage({ content }));
  await ours.call("addMessages", { conversationId: session, messages, requestId: "first" });
  await ours.call("acquireLease", { conversationId: session, holder: "ours" });
  snapshot = (await ours.call("createSnapshot", { conversationId: session })).snapshot!.id;
});

afterAll(async () => {
  ours.close();
  theirs.close();
  await server.stop();
  await rm(directory, { recursive: true });
});

function as(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

const changes = { title: "theirs now", ownerId: "", tags: [] };

test.each<[string, (id: bigint) => Promise<unknown>]>([
  ["GetSession", (id) => theirs.call("getSession", { conversationId: id })],
  [
    "UpdateSession",
    (id) => {
      const session = { id, ...changes } as unknown as RequestOf<"updateSession">["session"];
      return theirs.call("updateSession", { session, updateMask: ["title"], requestId: "first" });
    },
  ],
  ["AddMessage", (id) => theirs.call("addMessage", { conversationId: id, message: newMessage() })],
  [
    "AddMessage with a request_id that the session knows",
    (id) =>
      theirs.call("addMessage", { conversationId: id, message: newMessage(), requestId: "first" }),
  ],
  [
    "the very request that was answered there before",
    (id) => {
      const messages = ["a needle", "b"].map((content) => newMessage({ content }));
      return theirs.call("addMessages", { conversationId: id, messages, requestId: "first" });
    },
  ],
  [
    "AddMessage with a wrong expected_last_seq",
    (id) =>
      theirs.call("addMessage", {
        conversationId: id,
        message: newMessage(),
        expectedLastSeq: 77n,
      }),
  ],
  ["GetMessage", (id) => theirs.call("getMessage", { conversationId: id, seq: 1n })],
  [
    "GetMessage of a seq that is not there",
    (id) => theirs.call("getMessage", { conversationId: id, seq: 99n }),
  ],
  ["GetMessages", (id) => theirs.call("getMessages", { conversationId: id })],
  ["StreamMessages", (id) => theirs.readStream({ conversationId: id })],
  ...[undefined, 0n, 2n, 99n].map((after): [string, (id: bigint) => Promise<unknown>] => [
    `WatchSession after ${after}`,
    async (id) => {
      throw await new SessionWatcher(theirs.channel, id, after, as("theirs")).end();
    },
  ]),
  ["GetSessionStats", (id) => theirs.call("getSessionStats", { conversationId: id })],
  [
    "AddMessage with a fencing_token",
    (id) =>
      theirs.call("addMessage", { conversationId: id, message: newMessage(), fencingToken: 7n }),
  ],
  ["AcquireLease", (id) => theirs.call("acquireLease", { conversationId: id, holder: "theirs" })],
  [
    "AcquireLease with a request_id that the session knows",
    (id) =>
      theirs.call("acquireLease", { conversationId: id, holder: "theirs", requestId: "first" }),
  ],
  ["RenewLease", (id) => theirs.call("renewLease", { conversationId: id, fencingToken: 1n })],
  ["ReleaseLease", (id) => theirs.call("releaseLease", { conversationId: id, fencingToken: 1n })],
  ["LoadContext", (id) => theirs.call("loadContext", { conversationId: id })],
  [
    "RepairSession",
    (id) => theirs.call("repairSession", { conversationId: id, requestId: "first" }),
  ],
  [
    "UpdateMessage",
    (id) => {
      const message = AgentMessage.fromPartial({ conversationId: id, seq: 1n } as never);
      return theirs.call("updateMessage", { message, updateMask: ["content"], requestId: "first" });
    },
  ],
  ["DeleteMessage", (id) => theirs.call("deleteMessage", { conversationId: id, seq: 1n })],
  ["UndeleteMessage", (id) => theirs.call("undeleteMessage", { conversationId: id, seq: 1n })],
  [
    "RevertMessage",
    (id) => theirs.call("revertMessage", { conversationId: id, seq: 1n, version: 1n }),
  ],
  [
    "ListMessageVersions",
    (id) => theirs.call("listMessageVersions", { conversationId: id, seq: 1n }),
  ],
  ["ForkSession", (id) => theirs.call("forkSession", { conversationId: id })],
  ["CreateSnapshot", (id) => theirs.call("createSnapshot", { conversationId: id })],
  ["ListSnapshots", (id) => theirs.call("listSnapshots", { conversationId: id })],
  ["GetSnapshot", (id) => theirs.call("getSnapshot", { conversationId: id, snapshotId: snapshot })],
  ...[RestoreMode.FORK, RestoreMode.ROLL_BACK].map(
    (mode): [string, (id: bigint) => Promise<unknown>] => [
      `RestoreSnapshot, mode ${mode}`,
      (id) => theirs.call("restoreSnapshot", { conversationId: id, snapshotId: snapshot, mode }),
    ],
  ),
  [
    "DeleteSnapshot",
    (id) => theirs.call("deleteSnapshot", { conversationId: id, snapshotId: snapshot }),
  ],
])("%s answers as for a session that never was", async (_, call) => {
  const never = session + 1_000_000n;
  const [foreign, absent] = [await failureOf(call(session)), await failureOf(call(never))];
  expect(foreign).toMatchObject({ code: "NOT_FOUND", reason: "SESSION_NOT_FOUND" });
  const told = ({ code, reason, message, metadata }: typeof foreign) =>
    JSON.stringify({ code, reason, message, metadata });
  expect(told(foreign).replaceAll(String(session), "ID")).toBe(
    told(absent).replaceAll(String(never), "ID"),
  );
  await expectUntouched();
});

test.each(["", "first", "new"])("DeleteSession finds nothing to delete (%o)", async (requestId) => {
  const request = { conversationId: session, requestId };
  expect(await theirs.call("deleteSession", request)).toEqual({ deleted: false, replayed: false });
  await expectUntouched();
});

test("lists and searches show one's own only", async () => {
  const { session: other } = await theirs.call("createSession", { modelId: "gpt-4" });
  const message = newMessage({ content: "their needle" });
  await theirs.call("addMessage", { conversationId: other!.id, message });
  for (const modelId of ["gpt-4", ""]) {
    for (const [stubs, id] of [
      [ours, session],
      [theirs, other!.id],
    ] as const) {
      const list = await stubs.call("listSessions", { modelId });
      expect(list.sessions.map((summary) => summary.session?.id)).toEqual([id]);
    }
  }
  const searches = [
    { mode: SearchMode.SUBSTRING },
    { mode: SearchMode.FULL_TEXT },
    { mode: SearchMode.FULL_TEXT, order: SearchOrder.NEWEST_FIRST },
  ];
  // Not indexed yet, and then indexed.
  for (const wait of [async () => {}, untilIndexed]) {
    await wait(ours);
    await wait(theirs);
    for (const search of searches) {
      for (const modelId of ["gpt-4", ""]) {
        const found = async (stubs: Stubs) => {
          const request = { modelId, query: "needle", ...search };
          const { results } = await stubs.call("searchMessages", request);
          return results.map(({ message }) => message?.content);
        };
        expect(await found(ours)).toEqual(["a needle"]);
        expect(await found(theirs)).toEqual(["their needle"]);
      }
    }
  }
  // A token of a list of ours leads them no further than their own sessions.
  await ours.call("createSession", { modelId: "gpt-4" });
  const page = await ours.call("listSessions", { modelId: "gpt-4", pageSize: 1 });
  const next = await theirs.call("listSessions", {
    modelId: "gpt-4",
    pageToken: page.nextPageToken,
  });
  expect(next.sessions.every((summary) => summary.session?.id === other!.id)).toBe(true);
});

test("a watch of many sessions tells of one's own only, and its position leads nobody else", async () => {
  const ofOurs = new SessionsWatcher(ours.channel, { afterPosition: "" }, as("ours"));
  const ofTheirs = new SessionsWatcher(theirs.channel, { afterPosition: "" }, as("theirs"));
  await Promise.all([ofOurs.untilKind("caughtUp"), ofTheirs.untilKind("caughtUp")]);
  const { session: other } = await theirs.call("createSession", { modelId: "watched" });
  const { session: own } = await ours.call("createSession", { modelId: "watched" });
  const tellsOf = (id: bigint) => (told: { id: bigint }[]) => told.some((one) => one.id === id);
  await ofOurs.until("the new one of ours", tellsOf(own!.id));
  await ofTheirs.until("the new one of theirs", tellsOf(other!.id));
  expect(ofOurs.told.some(({ id }) => id === session)).toBe(true);
  expect(ofOurs.told.some(({ id }) => id === other!.id)).toBe(false);
  expect(ofTheirs.told.some(({ id }) => id === session || id === own!.id)).toBe(false);
  const stolen = new SessionsWatcher(
    theirs.channel,
    { afterPosition: ofOurs.position },
    as("theirs"),
  );
  expect(await stolen.end()).toMatchObject({ code: "INVALID_ARGUMENT" });
  for (const watcher of [ofOurs, ofTheirs]) watcher.cancel();
  await ours.call("deleteSession", { conversationId: own!.id });
  await theirs.call("deleteSession", { conversationId: other!.id });
});

test("the same request_id of two tenants means two requests", async () => {
  const request = { modelId: "gpt-4", title: "same", requestId: "the same" };
  const [one, two] = await Promise.all([
    ours.call("createSession", request),
    theirs.call("createSession", { ...request, title: "other" }),
  ]);
  expect([one.replayed, two.replayed]).toEqual([false, false]);
  expect(one.session!.id).not.toBe(two.session!.id);
  expect((await ours.call("createSession", request)).session).toEqual(one.session);
});

test("what another tenant tried leaves our request_ids alone", async () => {
  const request = { conversationId: session, message: newMessage(), requestId: "contested" };
  await failureOf(theirs.call("addMessage", request));
  await theirs.call("deleteSession", { conversationId: session, requestId: "contested 2" });
  expect((await ours.call("addMessage", request)).replayed).toBe(false);
  const second = { ...request, requestId: "contested 2" };
  expect((await ours.call("addMessage", second)).replayed).toBe(false);
  await assertCountersAgree(server.databaseUrl);
});

test("without a known token nobody is anybody", async () => {
  for (const token of [undefined, "unknown", "ours ", hash("ours")]) {
    const stranger = new Stubs(server.address, token === undefined ? {} : { token });
    for (const call of [
      stranger.call("getSession", { conversationId: session }),
      stranger.call("createSession", { modelId: "gpt-4" }),
      stranger.readStream({ conversationId: session }),
      // Credentials come before the request is looked at.
      stranger.call("getSession", {}),
    ]) {
      expect(await failureOf(call)).toMatchObject({
        code: "UNAUTHENTICATED",
        reason: "UNAUTHENTICATED",
      });
    }
    stranger.close();
  }
});

async function expectUntouched(): Promise<void> {
  const rows = await withClient(server.databaseUrl, async (client) => {
    const { rows } = await client.query<object>(
      `SELECT title, last_seq::int, revision::int,
              (SELECT count(*)::int FROM conversation_messages WHERE conversation_id = c.id)
                AS messages,
              (SELECT array_agg(request_id) FROM conversation_requests
                WHERE conversation_id = c.id) AS requests
         FROM conversations AS c WHERE id = $1`,
      [session],
    );
    return rows;
  });
  expect(rows).toEqual([
    { title: "ours", last_seq: 2, revision: 3, messages: 2, requests: ["first"] },
  ]);
}
