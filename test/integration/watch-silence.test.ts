// Watches in which nothing happens: they say that they are alive, and no limit of calls ends them.
import { expect, test } from "vitest";
import { limits } from "../../server/config.js";
import { startServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { SessionsWatcher, SessionWatcher } from "../harness/watching.js";

test("a watch outlives the longest time that a call may take, and tells what comes then", async () => {
  const server = await startServer();
  const stubs = new Stubs(server.address);
  const { session } = await stubs.call("createSession", { modelId: "m" });
  const conversationId = session!.id;
  const watchers = [
    new SessionWatcher(stubs.channel, conversationId),
    new SessionsWatcher(stubs.channel),
    // Nothing that this one asks for ever happens.
    new SessionsWatcher(stubs.channel, { modelId: "another" }),
  ];
  const startedMs = performance.now();
  const heartbeats = Math.ceil(limits.callMs / limits.watchHeartbeatMs) + 1;
  // A wait for an event gives up after half a minute.
  for (let n = 1; n <= heartbeats; n++) {
    await Promise.all(watchers.map((watcher) => watcher.untilKind("heartbeat", n)));
  }
  expect(performance.now() - startedMs).toBeGreaterThan(limits.callMs);
  const [first] = watchers;
  expect(first!.events.at(-1)).toMatchObject({ conversationId, revision: 1n });
  await stubs.call("addMessage", { conversationId, message: newMessage({ content: "at last" }) });
  for (const watcher of watchers.slice(0, 2)) {
    await watcher.until("the message", (told) => told.at(-1)?.content === "at last");
  }
  expect(watchers[2]!.told).toEqual([]);
  for (const watcher of watchers) watcher.cancel();
  stubs.close();
  await server.stop();
}, 150_000);
