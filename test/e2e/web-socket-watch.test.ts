// The other streams over WebSockets: what happens to a session, as it happens, and exports.
import { expect, test } from "vitest";
import { ExportFormat } from "../../gen/agentstore/v1/transfer.js";
import { expectFault } from "./faults.js";
import { uniqueModel, userMessage, useStore } from "./store.js";
import { exportText } from "./transfers.js";
import { Socket, streamOver } from "./web-socket.js";

const store = useStore();

interface Event {
  conversationId: string;
  revision: string;
  messageAppended?: { seq: string; content: string };
  sessionDeleted?: object;
  caughtUp?: object;
}

/** The events of a watch, one by one. */
async function* events(socket: Socket): AsyncGenerator<Event> {
  for (let frame = await socket.next(); frame?.response; frame = await socket.next()) {
    yield* (frame.response["events"] ?? []) as Event[];
  }
}

async function watch(start: object): Promise<{ socket: Socket; seen: AsyncGenerator<Event> }> {
  const socket = await Socket.open(store.target, "WatchSession");
  socket.send({ start });
  return { socket, seen: events(socket) };
}

/** The next event that says a message was appended. */
async function nextAppended(seen: AsyncGenerator<Event>): Promise<Event> {
  for (;;) {
    const { done, value } = await seen.next();
    if (done) throw new Error("the watch has ended");
    if (value.messageAppended) return value;
  }
}

test("a session is watched as it grows, from a revision on, to its end", async () => {
  const conversationId = await store.newConversation(2);
  const request = { conversationId: String(conversationId), afterRevision: "0" };
  const { socket, seen } = await watch(request);
  expect((await nextAppended(seen)).messageAppended?.content).toBe("1");
  const second = await nextAppended(seen);
  expect(second.messageAppended).toMatchObject({ seq: "2", content: "2" });
  await store.call("addMessage", { conversationId, message: userMessage("3") });
  const third = await nextAppended(seen);
  expect(third.messageAppended?.content).toBe("3");
  expect(BigInt(third.revision)).toBeGreaterThan(BigInt(second.revision));
  socket.raw.terminate();

  await store.call("addMessage", { conversationId, message: userMessage("4") });
  const resumed = await watch({ ...request, afterRevision: third.revision });
  expect((await nextAppended(resumed.seen)).messageAppended?.content).toBe("4");
  await store.call("deleteSession", { conversationId });
  let last: Event | undefined;
  for await (const event of resumed.seen) last = event;
  expect(last).toHaveProperty("sessionDeleted");
  expect(await resumed.socket.closed).toBe(1000);
});

test("a revision that is to come, and a session that is gone, are told as over gRPC", async () => {
  const conversationId = await store.newConversation(2);
  const ahead = { conversationId: String(conversationId), afterRevision: "4" };
  const { responses, fault, closeCode } = await streamOver(store.target, "WatchSession", ahead);
  expect([responses, closeCode]).toEqual([[], 1008]);
  expectFault(fault!, { reason: "REVISION_AHEAD" });
  expect(fault!.metadata).toMatchObject({ after_revision: "4", revision: "3" });

  await store.call("deleteSession", { conversationId });
  const gone = await streamOver(store.target, "WatchSession", { ...ahead, afterRevision: "0" });
  expect([gone.responses, gone.closeCode]).toEqual([[], 1008]);
  expectFault(gone.fault!, { reason: "SESSION_NOT_FOUND" });
});

test("a position that was altered is refused", async () => {
  const request = { afterPosition: "bm8gcG9zaXRpb24" };
  const { responses, fault } = await streamOver(store.target, "WatchSessions", request);
  expect(responses).toEqual([]);
  expectFault(fault!, { reason: "INVALID_PAGE_TOKEN", fields: ["after_position"] });
});

test("the sessions of a model are watched, and again from a position on", async () => {
  const modelId = uniqueModel();
  const conversationId = await store.newSession({ modelId });
  const append = (content: string) =>
    store.call("addMessage", { conversationId, message: userMessage(content) });
  const start = async (afterPosition: string) => {
    const socket = await Socket.open(store.target, "WatchSessions");
    socket.send({ start: { modelId, afterPosition } });
    return socket;
  };
  /** The position behind the response that tells of a message. */
  const until = async (socket: Socket, content: string): Promise<string> => {
    for (let frame = await socket.next(); frame?.response; frame = await socket.next()) {
      const told = (frame.response["events"] ?? []) as Event[];
      const found = told.some(({ messageAppended }) => messageAppended?.content === content);
      if (found) return frame.response["position"] as string;
    }
    throw new Error("the watch has ended");
  };
  const socket = await start("");
  await append("1");
  const position = await until(socket, "1");
  socket.raw.terminate();
  await append("2");
  const resumed = await start(position);
  await until(resumed, "2");
  resumed.send({ cancel: {} });
  expect((await resumed.rest()).fault?.code).toBe("CANCELLED");
});

test("an export is that of gRPC", async () => {
  const conversationId = await store.newConversation(20);
  const ids = { conversationIds: [String(conversationId)] };
  const answer = await streamOver(store.target, "ExportSessions", {
    ...ids,
    format: "EXPORT_FORMAT_OPENAI",
  });
  expect(answer.closeCode).toBe(1000);
  const chunks = answer.responses.map(({ chunk = "" }) => Buffer.from(chunk as string, "base64"));
  const request = { conversationIds: [conversationId], format: ExportFormat.OPENAI };
  expect(Buffer.concat(chunks).toString()).toBe(await exportText(store, request));
});
