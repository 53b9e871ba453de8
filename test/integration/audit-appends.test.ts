// `serve --audit-appends`: appends in the audit log, each in the transaction of its group.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { allEvents, verifyAll } from "../harness/admin-stubs.js";
import { startServer, type TestServer } from "../harness/server.js";
import { failureOf, newMessage, Stubs } from "../harness/stubs.js";

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer({ auditAppends: true });
  stubs = new Stubs(server.address);
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

async function newSession(): Promise<bigint> {
  return (await stubs.call("createSession", { modelId: "m" })).session!.id;
}

test("each append that is written leaves one event, however they are grouped", async () => {
  const ids = await Promise.all(Array.from({ length: 20 }, newSession));
  const requestIds = ids.map(() => randomUUID());
  await Promise.all(
    ids.flatMap((conversationId, n) => {
      const request = { conversationId, message: newMessage(), requestId: requestIds[n]! };
      return [
        stubs.call("addMessage", request),
        // The same once more: in the same group or a later one, it writes nothing.
        stubs.call("addMessage", request),
        stubs.call("addMessages", { conversationId, messages: [newMessage(), newMessage()] }),
        failureOf(stubs.call("addMessage", { ...request, requestId: "", expectedLastSeq: 99n })),
      ];
    }),
  );
  for (const [n, conversationId] of ids.entries()) {
    const events = await allEvents(stubs.channel, { conversationId });
    const appends = events.filter(({ rpc }) => rpc !== "CreateSession");
    expect(appends.map(({ rpc }) => rpc).sort()).toEqual(["AddMessage", "AddMessages"]);
    const single = appends.find(({ rpc }) => rpc === "AddMessage")!;
    const several = appends.find(({ rpc }) => rpc === "AddMessages")!;
    expect(single.requestId).toBe(requestIds[n]);
    // Whichever came first, the two take seqs 1 to 3, and an event has the last one of its own.
    expect([
      [1n, 3n],
      [3n, 2n],
    ]).toContainEqual([single.seq, several.seq]);
  }
  expect((await verifyAll(stubs.channel)).fault).toBeUndefined();
});

test("without it, an append leaves an event only where it replaces the state", async () => {
  const other = await startServer({ databaseUrl: server.databaseUrl });
  const quiet = new Stubs(other.address);
  try {
    const conversationId = await newSession();
    await quiet.call("addMessage", { conversationId, message: newMessage() });
    const state = { state: "{}" };
    await quiet.call("addMessage", { conversationId, message: newMessage(), state });
    const events = await allEvents(stubs.channel, { conversationId });
    expect(events.slice(1)).toEqual([
      expect.objectContaining({ rpc: "AddMessage", seq: 2n, fields: ["state"] }),
    ]);
  } finally {
    quiet.close();
    await other.stop();
  }
});
