// What errors have in common: no content in them, the same for a unary call and a stream, a call id.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type MessageOrder, Role } from "../../gen/agentstore/v1/messages.js";
import { bytes, int, message } from "../harness/wire.js";
import { type Fault, failure, unpack } from "./faults.js";
import { type Rpc, rpcName, userMessage, useStore } from "./store.js";

const store = useStore();

const MARKER = "confidential7f3a";

function expectSilent(fault: Fault): void {
  expect(fault.code).not.toBe("OK");
  expect(fault.everything).not.toContain(MARKER);
}

describe("tell nothing of what was sent", () => {
  const long = (length: number) => MARKER.repeat(Math.ceil(length / MARKER.length));
  const metadata = { [MARKER]: [MARKER, Number.NaN] };

  test.each<[Rpc, object]>([
    ["createSession", { modelId: long(300) }],
    ["createSession", { modelId: `${MARKER}\0` }],
    ["createSession", { modelId: "m", title: long(1_001) }],
    ["createSession", { modelId: "m", ownerId: `${MARKER}\0` }],
    ["createSession", { modelId: "m", tags: [long(200)] }],
    ["createSession", { modelId: "m", metadata }],
    ["createSession", { modelId: "m", requestId: long(129) }],
    ["updateSession", { session: { id: 1n, title: `${MARKER}\0` }, updateMask: [MARKER] }],
    ["listSessions", { modelId: `${MARKER}\0` }],
    ["listSessions", { modelId: MARKER, pageToken: MARKER }],
    ["getMessages", { conversationId: 1n, pageToken: MARKER }],
    ["searchMessages", { query: `${MARKER}\0` }],
    ["searchMessages", { query: long(10_001) }],
    ["addMessage", { conversationId: 1n, message: { content: MARKER } }],
    ["addMessage", { conversationId: 1n, message: userMessage(long(5 * 1024 * 1024)) }],
    ["addMessage", { conversationId: (1n << 63n) - 1n, message: userMessage(MARKER) }],
    [
      "addMessages",
      {
        conversationId: 1n,
        messages: [
          {
            role: Role.USER,
            name: long(2_000),
            toolCallId: long(2_000),
            payload: MARKER,
            payloadType: long(300),
            toolCalls: [{ id: long(2_000), name: long(2_000), arguments: MARKER }],
            metadata,
          },
        ],
      },
    ],
  ])("%# %s", async (rpc, request) => {
    expectSilent(await failure(store.any(rpc, request)));
  });

  test("where a request_id is used again", async () => {
    const conversationId = await store.newSession();
    const requestId = MARKER + randomUUID();
    const request = { conversationId, message: userMessage(MARKER), requestId };
    await store.call("addMessage", request);
    const other = { ...request, message: userMessage(`${MARKER} 2`) };
    expectSilent(await failure(store.call("addMessage", other)));
    const expected = { ...request, requestId: "", expectedLastSeq: 9n };
    expectSilent(await failure(store.call("addMessage", expected)));
  });

  test("where it is no UTF-8, or no protobuf", async () => {
    const raw = await store.raw();
    const broken = Buffer.concat([Buffer.from(MARKER), Buffer.from([0xff])]);
    const content = message(int(1, 1), bytes(2, int(1, 2), bytes(2, broken)));
    const key = message(bytes(1, "m"), bytes(5, bytes(1, bytes(1, broken), bytes(2, int(1, 0)))));
    const requests: [Rpc, Buffer][] = [
      ["addMessage", content],
      ["addMessage", Buffer.from(MARKER)],
      ["createSession", key],
      ["createSession", Buffer.concat([bytes(1, MARKER), Buffer.from([0])])],
    ];
    for (const [rpc, request] of requests) {
      const { code, text, details } = await raw.call(rpcName(rpc), request);
      expectSilent(unpack(code, text, details));
    }
  });
});

describe("are the same for a unary call and a stream", () => {
  test.each([
    ["id 0", { conversationId: 0n }],
    ["a negative id", { conversationId: -5n }],
    ["an unknown id", { conversationId: (1n << 63n) - 1n }],
    ["a negative page size", { conversationId: 1n, pageSize: -1 }],
    ["a large page size", { conversationId: 1n, pageSize: 1_001 }],
    ["an unknown order", { conversationId: 1n, order: 7 as MessageOrder }],
    ["several faults", { afterSeq: -1n, beforeSeq: -1n, lastN: -1n }],
  ])("%s", async (_, request) => {
    const unary = await failure(store.call("getMessages", request));
    const stream = await failure(store.pages(request));
    expect(stream).toEqual(unary);
    await store.answers();
  });

  test.each([
    ["no protobuf", Buffer.from([0x0f])],
    ["a varint cut off", Buffer.from([0x08, 0xff])],
    ["nothing", Buffer.alloc(0)],
  ])("%s", async (_, request) => {
    const raw = await store.raw();
    const faults = [];
    for (const rpc of ["GetMessages", "StreamMessages"]) {
      const { code, text, details } = await raw.call(rpc, request);
      faults.push(unpack(code, text, details));
    }
    expect(faults[1]).toEqual(faults[0]);
    expect(faults[0]!.domain).toBe("agentstore");
  });
});

describe("x-request-id", () => {
  const requests: [string, Buffer][] = [
    ["GetSession", int(1, 0)],
    ["StreamMessages", int(1, 0)],
    ["ListSessions", int(2, 1)],
  ];

  test.each(requests)("comes back from %s, whatever the outcome", async (rpc, request) => {
    const raw = await store.raw();
    const given = `call-${randomUUID()}`;
    const { headers } = await raw.call(rpc, request, { "x-request-id": given });
    expect(headers["x-request-id"]).toBe(given);
  });

  test.each(requests)("is made by the server where there is none: %s", async (rpc, request) => {
    const raw = await store.raw();
    const made = new Set();
    for (const headers of [{}, { "x-request-id": "" }, { "x-request-id": "x".repeat(129) }]) {
      const answer = await raw.call(rpc, request, headers);
      expect(answer.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
      made.add(answer.headers["x-request-id"]);
    }
    expect(made.size).toBe(3);
  });
});

test("a call may carry any other metadata", async () => {
  const conversationId = await store.newSession();
  const raw = await store.raw();
  const { code } = await raw.call("GetSession", int(1, conversationId), {
    "x-anything": "anything",
    "x-bytes-bin": "not base64!",
    traceparent: "00-0-0-0",
  });
  expect(code).toBe(0);
});
