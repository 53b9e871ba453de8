// Streams whose callers go away while nothing happens, or while they do not read: each ends then, and
// lets go of what it holds.
import diagnostics from "node:diagnostics_channel";
import { once } from "node:events";
import http2 from "node:http2";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { StreamMessagesRequest } from "../../gen/agentstore/v1/messages.js";
import { WatchSessionRequest, WatchSessionsRequest } from "../../gen/agentstore/v1/watch.js";
import { limits } from "../../server/config.js";
import type { CallMeasurement } from "../../server/rpc/interceptors.js";
import { withClient } from "../harness/postgres.js";
import { until, untilQuiet } from "../harness/postgres-watch.js";
import { proxyToServer } from "../harness/proxy.js";
import { RawConnection } from "../harness/raw-grpc.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { SessionsWatcher, SessionWatcher } from "../harness/watching.js";
import { frame } from "../harness/wire.js";

let server: TestServer;
let stubs: Stubs;
let conversationId: bigint;
let ended: CallMeasurement[] = [];
const onCall = (measurement: unknown) => ended.push(measurement as CallMeasurement);

beforeAll(async () => {
  // Nothing but its caller's going away ends a wait.
  Object.assign(limits, { watchHeartbeatMs: 3_600_000 });
  server = await startServer();
  stubs = new Stubs(server.address);
  conversationId = (await stubs.call("createSession", { modelId: "m" })).session!.id;
  // Each response that holds one of them is larger than what a reader lets a server send ahead.
  for (let n = 0; n < 4; n++) {
    const message = newMessage({ content: "x".repeat(1_000_000) });
    await stubs.call("addMessage", { conversationId, message });
  }
  diagnostics.subscribe("agentstore.call", onCall);
});

afterEach(() => {
  ended = [];
});

afterAll(async () => {
  diagnostics.unsubscribe("agentstore.call", onCall);
  stubs.close();
  await server.stop();
});

async function expectEnded(method: string, code: string): Promise<void> {
  await until(`${method} has ended`, () => ended.some((call) => call.method === method));
  expect(ended.map((call) => [call.method, call.code])).toContainEqual([method, code]);
  await untilQuiet(server.databaseUrl);
  // The server listens for changes while there is a watch.
  await until("nobody listens", () =>
    withClient(server.databaseUrl, async (client) => {
      const { rowCount } = await client.query(
        `SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'agentstore changes'`,
      );
      return rowCount === 0;
    }),
  );
}

test.each([
  ["WatchSession", () => new SessionWatcher(stubs.channel, conversationId)],
  ["WatchSessions", () => new SessionsWatcher(stubs.channel)],
])("a %s that waits for something to happen ends when it is cancelled", async (method, watch) => {
  const watcher = watch();
  await watcher.untilKind("caughtUp");
  watcher.cancel();
  await expectEnded(method, "CANCELLED");
});

const afterPosition = "";
const STREAMS: [string, () => Uint8Array][] = [
  [
    "StreamMessages",
    () =>
      StreamMessagesRequest.encode(StreamMessagesRequest.fromPartial({ conversationId })).finish(),
  ],
  [
    "WatchSession",
    () => WatchSessionRequest.encode({ conversationId, afterRevision: 0n }).finish(),
  ],
  [
    "WatchSessions",
    () => WatchSessionsRequest.encode(WatchSessionsRequest.fromPartial({ afterPosition })).finish(),
  ],
];

test.each(STREAMS)(
  "a %s whose caller does not read ends when it is cancelled",
  async (rpc, request) => {
    const { connection, stream } = await stalled(rpc, request());
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await expectEnded(rpc, "CANCELLED");
    await connection.close();
  },
);

test.each(STREAMS)(
  "a %s whose caller does not read ends when the connection breaks",
  async (rpc, request) => {
    const proxy = await proxyToServer(server.address);
    const { connection } = await stalled(rpc, request(), { address: proxy.address });
    proxy.cut();
    await expectEnded(rpc, "CANCELLED");
    await connection.close();
    await proxy.close();
  },
);

test.each(STREAMS)("a %s whose caller does not read ends at its deadline", async (rpc, request) => {
  const { connection } = await stalled(rpc, request(), { deadlineMs: 500 });
  await expectEnded(rpc, "DEADLINE_EXCEEDED");
  await connection.close();
});

/** Opens a stream and reads nothing of it: the server is in the middle of a response. */
async function stalled(
  rpc: string,
  request: Uint8Array,
  { address = server.address, deadlineMs = 60_000 } = {},
) {
  const connection = await RawConnection.open({ address });
  const stream = connection.session.request({
    ":method": "POST",
    ":path": `/agentstore.v1.AgentStore/${rpc}`,
    te: "trailers",
    "content-type": "application/grpc",
    "grpc-timeout": `${deadlineMs}m`,
  });
  stream.on("error", () => {});
  stream.end(frame(request));
  await once(stream, "readable");
  return { connection, stream };
}
