// Server-streaming calls over WebSockets: what is streamed, resumed, cancelled and refused.
import { once } from "node:events";
import net from "node:net";
import { fromJson, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { StreamMessagesResponse } from "../../gen/agentstore/v1/messages.js";
import { expectFault } from "./faults.js";
import { registry, rpcs, send } from "./http.js";
import { useStore } from "./store.js";
import { Socket, streamOver } from "./web-socket.js";

const store = useStore();

const pageType = registry.getMessage("agentstore.v1.StreamMessagesResponse")!;

function contents(responses: Record<string, unknown>[]): string[] {
  return responses.flatMap(({ messages }) =>
    (messages as { content: string }[]).map(({ content }) => content),
  );
}

test("a session is streamed as over gRPC", async () => {
  const conversationId = await store.newConversation(250);
  const request = { conversationId: String(conversationId), pageSize: 100 };
  const { responses, fault, closeCode } = await streamOver(store.target, "StreamMessages", request);
  expect([fault, closeCode]).toEqual([undefined, 1000]);
  const decoded = responses.map((page) =>
    StreamMessagesResponse.decode(toBinary(pageType, fromJson(pageType, page as never))),
  );
  expect(decoded).toEqual(await store.pages({ conversationId, pageSize: 100 }));
});

test("a reader that is cut off resumes after the last page that it saw", async () => {
  const conversationId = String(await store.newConversation(250));
  const socket = await Socket.open(store.target, "StreamMessages");
  socket.send({ start: { conversationId, pageSize: 100 } });
  const first = (await socket.next())!.response!;
  socket.raw.terminate();
  const rest = await streamOver(store.target, "StreamMessages", {
    conversationId,
    pageSize: 100,
    afterSeq: first["lastSeq"],
  });
  expect(contents([first, ...rest.responses])).toEqual(
    Array.from({ length: 250 }, (_, index) => String(index + 1)),
  );
});

describe.each(rpcs.filter(({ methodKind }) => methodKind === "server_streaming"))(
  "$name",
  ({ name, parent }) => {
    const path = `/${parent.typeName}/${name}`;

    test("names a field that it does not have", async () => {
      const { fault, closeCode } = await streamOver(store.target, path, { noSuchField: 1 });
      expectFault(fault!, { reason: "INVALID_FIELD", fields: ["noSuchField"] });
      expect(closeCode).toBe(1008);
    });

    test("is told of a frame that is no start", async () => {
      const socket = await Socket.open(store.target, path);
      socket.send({ subscribe: {} });
      const { fault, closeCode } = await socket.rest();
      expectFault(fault!, { reason: "INVALID_FIELD", fields: ["subscribe"] });
      expect(closeCode).toBe(1008);
    });
  },
);

test("an error in mid-stream is the last frame", async () => {
  const conversationId = await store.newConversation(3);
  await store.call("deleteSession", { conversationId });
  const request = { conversationId: String(conversationId) };
  const { responses, fault, closeCode } = await streamOver(store.target, "StreamMessages", request);
  expect(responses).toEqual([]);
  expectFault(fault!, { reason: "SESSION_NOT_FOUND" });
  expect(closeCode).toBe(1008);
});

describe("a first frame", () => {
  test.each([
    ["", "MALFORMED_REQUEST", [], 1007],
    ["hello", "MALFORMED_REQUEST", [], 1007],
    ["[]", "MALFORMED_REQUEST", [], 1007],
    ["null", "MALFORMED_REQUEST", [], 1007],
    ['{"start":', "MALFORMED_REQUEST", [], 1007],
    ['{"start":{},"start":{}}', "MALFORMED_REQUEST", [], 1007],
    ['{"start":{"conversationId":"1","conversationId":"2"}}', "MALFORMED_REQUEST", [], 1007],
    ['{"start":[]}', "MALFORMED_REQUEST", [], 1007],
    ['{"start":null}', "MALFORMED_REQUEST", [], 1007],
    [`{"start":${"[".repeat(100_000)}`, "MALFORMED_REQUEST", [], 1007],
    [`{"start":${"[".repeat(1_000)}${"]".repeat(1_000)}}`, "MALFORMED_REQUEST", [], 1007],
    [Buffer.from('{"start":{}}'), "MALFORMED_REQUEST", [], 1007],
    ["{}", "INVALID_FIELD", ["start"], 1008],
    ['{"cancel":{}}', "INVALID_FIELD", ["start"], 1008],
    ['{"start":{},"cancel":{}}', "INVALID_FIELD", ["start"], 1008],
    ['{"start":{},"authorization":1}', "INVALID_FIELD", ["authorization"], 1008],
    ['{"event":{}}', "INVALID_FIELD", ["event"], 1008],
    ['{"start":{},"__proto__":{}}', "INVALID_FIELD", ["__proto__"], 1008],
    ['{"my password":"hunter2"}', "INVALID_FIELD", ["(a key that is no name)"], 1008],
    ['{"start":{"conversationId":"hunter2"}}', "INVALID_FIELD", ["conversation_id"], 1008],
    ['{"start":{"conversationId":9007199254740993}}', "INVALID_FIELD", ["conversation_id"], 1008],
    ['{"start":{"conversationId":"0"}}', "INVALID_FIELD", ["conversation_id"], 1008],
  ])("of %.60s is refused: %s", async (frame, reason, fields, code) => {
    const socket = await Socket.open(store.target, "StreamMessages");
    socket.send(frame);
    const { responses, fault, closeCode } = await socket.rest();
    expect(responses).toEqual([]);
    expectFault(fault!, { reason, fields });
    expect(fault!.everything).not.toContain("hunter2");
    expect(closeCode).toBe(code);
    await store.answers();
  });
});

describe("while a call runs", () => {
  /** A stream that stands still, because its reader does. */
  async function running(): Promise<Socket> {
    const conversationId = String(await largeSession());
    const socket = await Socket.open(store.target, "StreamMessages");
    socket.send({ start: { conversationId } });
    await socket.next();
    return socket;
  }

  let large: Promise<bigint> | undefined;
  function largeSession(): Promise<bigint> {
    large ??= (async () => {
      const conversationId = await store.newSession();
      const content = "x".repeat(1_000_000);
      for (let n = 0; n < 20; n++) {
        await store.call("addMessage", { conversationId, message: { role: 2, content } });
      }
      return conversationId;
    })();
    return large;
  }

  test("cancel ends it", async () => {
    const socket = await running();
    socket.send({ cancel: {} });
    const { fault, closeCode } = await socket.rest();
    expect([fault?.code, closeCode]).toEqual(["CANCELLED", 1008]);
  });

  test.each([
    [{ start: {} }, "INVALID_FIELD", ["start"], 1008],
    [{ pong: {} }, "INVALID_FIELD", ["pong"], 1008],
    [{}, "INVALID_FIELD", ["cancel"], 1008],
    ["{", "MALFORMED_REQUEST", [], 1007],
    [Buffer.from("{}"), "MALFORMED_REQUEST", [], 1007],
  ])("%j ends it with an error", async (frame, reason, fields, code) => {
    const socket = await running();
    socket.send(frame);
    const { fault, closeCode } = await socket.rest();
    expectFault(fault!, { reason, fields });
    expect(closeCode).toBe(code);
  });
});

test("a ping is answered", async () => {
  const socket = await Socket.open(store.target, "StreamMessages");
  socket.raw.ping("are you there");
  const [data] = (await once(socket.raw, "pong")) as [Buffer];
  expect(data.toString()).toBe("are you there");
  socket.raw.close();
  expect(await socket.closed).toBe(1005);
});

describe("what opens no socket", () => {
  test.each([
    ["a method that does not stream", "AddMessage", {}, 501],
    ["a stream of requests", "ImportSessions", {}, 501],
    ["no method", "NoSuchMethod", {}, 404],
    ["the root", "/", {}, 404],
    ["health", "/healthz", {}, 404],
    ["a page of another origin", "StreamMessages", { origin: "https://evil.example" }, 403],
    ["a page of no origin", "StreamMessages", { origin: "null" }, 403],
    ["another's name", "StreamMessages", { host: "evil.example" }, 403],
  ])("%s", async (_, rpc, headers, httpStatus) => {
    await expect(Socket.open(store.target, rpc, { headers })).rejects.toThrow(`${httpStatus}`);
    await store.answers();
  });

  test("a GET without an upgrade", async () => {
    const answer = await send(store.target, "StreamMessages", { method: "GET" });
    expect(answer.httpStatus).toBe(501);
  });
});

test("a page of the server's own origin may connect", async () => {
  const conversationId = String(await store.newConversation(1));
  const headers = { origin: store.target.httpUrl };
  const request = { conversationId };
  const answer = await streamOver(store.target, "StreamMessages", request, { headers });
  expect(contents(answer.responses)).toEqual(["1"]);
});

describe("frames that break the protocol close the socket", () => {
  test("of 100 MB", async () => {
    const socket = await Socket.open(store.target, "StreamMessages");
    socket.send(Buffer.alloc(100_000_000, " ").toString());
    const code = await socket.closed;
    // The server may be gone before the client has read why.
    expect([1009, 1006]).toContain(code);
    await store.answers();
  });

  /** The first bytes of a frame, and the code with which the server closes. */
  test.each([
    ["text that is no UTF-8", [0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007],
    ["no mask", [0x81, 0x02, 0x7b, 0x7d], 1002],
    ["a reserved bit", [0xc1, 0x80, 0, 0, 0, 0], 1002],
    ["an unknown kind", [0x83, 0x80, 0, 0, 0, 0], 1002],
    ["a continuation of nothing", [0x80, 0x80, 0, 0, 0, 0], 1002],
    ["a length of 2^63", [0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009],
    ["a length of 100 MB", [0x81, 0xff, 0, 0, 0, 0, 5, 0xf5, 0xe1, 0, 0, 0, 0, 0], 1009],
  ])("%s", async (_, bytes, code) => {
    const raw = await upgrade();
    raw.end(Buffer.from(bytes));
    const chunks: Buffer[] = [];
    for await (const chunk of raw) chunks.push(chunk as Buffer);
    const close = Buffer.concat(chunks);
    expect([close[0], close.readUInt16BE(2)]).toEqual([0x88, code]);
    await store.answers();
  });
});

test("10,000 sockets in a row", async () => {
  const open = async (count: number) => {
    for (let n = 0; n < count; n++) (await upgrade()).destroy();
  };
  await Promise.all(Array.from({ length: 8 }, () => open(1_250)));
  await store.answers();
});

/** Opens a WebSocket of which the test decides every byte. */
async function upgrade(): Promise<net.Socket> {
  const { hostname, port } = new URL(store.target.httpUrl);
  const raw = net.connect(Number(port), hostname.replace(/^\[|\]$/g, ""));
  raw.on("error", () => {});
  raw.write(
    "GET /agentstore.v1.AgentStore/StreamMessages HTTP/1.1\r\nHost: localhost\r\n" +
      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  const [head] = (await once(raw, "data")) as [Buffer];
  expect(head.toString()).toMatch(/^HTTP\/1\.1 101 /);
  return raw;
}
