// Watchers over WebSockets that stop reading while much is written.
import { expect, test } from "vitest";
import { MessageView } from "../../gen/agentstore/v1/messages.js";
import { Socket } from "../e2e/web-socket.js";
import { growthUntilCalm, residentBytes } from "../harness/memory.js";
import { createDatabase } from "../harness/postgres.js";
import { spawnServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";

const MIB = 1024 * 1024;

interface WatchEvent {
  messageAppended?: { content: string };
}

test("watchers that stall cost little, and are then told all that they have missed", async () => {
  const database = await createDatabase();
  const server = await spawnServer(["--database-url", database.url, "--log-level", "warn"]);
  const stubs = new Stubs(server.address);
  const pid = server.child.pid!;
  const count = 40;
  const writeAll = async (conversationId: bigint) => {
    for (let n = 1; n <= count; n++) {
      const message = newMessage({ content: `${n}`.padEnd(MIB, "x") });
      await stubs.call("addMessage", { conversationId, message, view: MessageView.KEYS });
    }
  };
  const newSession = async () => (await stubs.call("createSession", { modelId: "m" })).session!.id;
  // What appends of this size take by themselves is not the watchers'.
  await writeAll(await newSession());
  const conversationId = await newSession();
  const sockets = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const socket = await Socket.open(server, "WatchSession");
      socket.send({ start: { conversationId: String(conversationId) } });
      expect((await socket.next())?.response).toMatchObject({ events: [{ caughtUp: {} }] });
      socket.raw.pause();
      return socket;
    }),
  );
  const before = residentBytes(pid);
  await writeAll(conversationId);
  const most = await growthUntilCalm(pid, before, sockets.length * count * MIB);
  process.stdout.write(`8 stalled watchers over WebSockets: +${Math.round(most / MIB)} MiB\n`);
  // Of 8 times 40 MiB: what is kept for all, and of each watcher an event and its form in JSON.
  expect(most).toBeLessThan(160 * MIB);

  const [socket, ...others] = sockets;
  for (const { raw } of others) raw.terminate();
  socket!.raw.resume();
  const told: number[] = [];
  const marks: string[] = [];
  while (told.length < count || marks.length < 2) {
    const { response } = (await socket!.next())!;
    for (const { messageAppended, ...event } of response!.events as WatchEvent[]) {
      if (messageAppended) told.push(Number.parseInt(messageAppended.content, 10));
      else marks.push(...Object.keys(event).filter((key) => key in { fellBehind: 0, caughtUp: 0 }));
    }
  }
  expect(told).toEqual(Array.from({ length: count }, (_, index) => index + 1));
  expect(marks).toEqual(["fellBehind", "caughtUp"]);
  socket!.raw.terminate();
  stubs.close();
  await server.end("SIGKILL");
  await database.drop();
});
