// The Connect client for Node, from its package and the descriptors alone, calls the whole service.
import { create, fromBinary, type Message } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { compressionGzip, createConnectTransport } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { registry } from "./http.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();
const service = registry.getService("agentstore.v1.AgentStore")!;
const ErrorInfo = registry.getMessage("google.rpc.ErrorInfo")!;

type Fields = Record<string, unknown>;
type Calls = Record<string, (request: Fields, options?: object) => Promise<Fields>>;

describe.each([
  ["JSON", {}],
  ["bytes", { useBinaryFormat: true }],
  ["JSON, reads by GET", { useHttpGet: true }],
  ["bytes, reads by GET", { useBinaryFormat: true, useHttpGet: true }],
  ["gzip", { sendCompression: compressionGzip, compressMinBytes: 0 }],
])("%s", (_, options) => {
  const connect = (): Calls => {
    const { httpUrl, token, ca } = store.target;
    const transport = createConnectTransport({
      baseUrl: httpUrl,
      httpVersion: "1.1",
      useBinaryFormat: false,
      ...(ca && { nodeOptions: { ca } }),
      interceptors: [
        (next) => (request) => {
          if (token) request.header.set("authorization", `Bearer ${token}`);
          return next(request);
        },
      ],
      ...options,
    });
    return createClient(service, transport) as Calls;
  };

  test("a conversation", async () => {
    const calls = connect();
    const { session } = await calls["createSession"]!({ modelId: uniqueModel() });
    const { id: conversationId } = session as { id: bigint };
    const content = "漢字 🙂 \0";
    const message = { role: 2, content, metadata: { a: [1, { b: null }] } };
    const added = await calls["addMessage"]!({ conversationId, message });
    expect(added["message"]).toMatchObject({ seq: 1n, content });
    const { messages } = await calls["getMessages"]!({ conversationId });
    expect(messages).toMatchObject([{ seq: 1n, content, metadata: message.metadata }]);
    const { stats } = await calls["getSessionStats"]!({ conversationId });
    expect(stats).toMatchObject({ totalMessages: 1n });
    expect(await calls["deleteSession"]!({ conversationId })).toMatchObject({ deleted: true });
  });

  test("an error has its code and details", async () => {
    const calls = connect();
    const failure = await calls["getSession"]!({ conversationId: 2n ** 62n }).catch(
      ConnectError.from,
    );
    expect(failure).toBeInstanceOf(ConnectError);
    const error = failure as unknown as ConnectError;
    expect(error.code).toBe(Code.NotFound);
    const [info] = error.findDetails(ErrorInfo) as (Message & Fields)[];
    expect(info).toMatchObject({ reason: "SESSION_NOT_FOUND", domain: "agentstore" });
  });

  test("a cancel reaches the caller as such", async () => {
    const calls = connect();
    const request = { conversationId: await store.newSession() };
    const signal = AbortSignal.abort();
    const gone = calls["getSession"]!(request, { signal }).catch(ConnectError.from);
    expect(await gone).toMatchObject({ code: Code.Canceled });
  });
});

test("messages of the descriptors are those of the service", () => {
  const type = registry.getMessage("agentstore.v1.GetSessionRequest")!;
  expect(fromBinary(type, Buffer.from([8, 1]))).toEqual(create(type, { conversationId: 1n }));
});
