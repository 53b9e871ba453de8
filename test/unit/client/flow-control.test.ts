// The client gives servers room for a page before it has to say that something was read.
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { AgentStoreClient } from "../../../client/index.js";

const MIB = 1024 * 1024;

it("lets a server send 1 MiB, on a stream and in all", async () => {
  const server = http2.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const store = new AgentStoreClient(`agentstore://127.0.0.1:${port}`);
  try {
    const stream = once(server, "stream") as Promise<[http2.ServerHttp2Stream]>;
    const call = store.getSession(1).catch(() => {});
    const [{ session }] = await stream;
    expect(session?.remoteSettings.initialWindowSize).toBe(MIB);
    expect(session?.state.remoteWindowSize).toBe(MIB);
    store.close();
    await call;
  } finally {
    store.close();
    server.close();
  }
});
