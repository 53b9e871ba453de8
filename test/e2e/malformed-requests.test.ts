// Bytes that are no protobuf message of the request's type, and messages that no client would send.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AddMessageRequest, AddMessagesRequest } from "../../gen/agentstore/v1/messages.js";
import {
  CreateSessionRequest,
  CreateSessionResponse,
  UpdateSessionRequest,
} from "../../gen/agentstore/v1/sessions.js";
import { bytes, double, int, message, tag, varint } from "../harness/wire.js";
import { unpack } from "./faults.js";
import { oddMessages } from "./odd-messages.js";
import { type Rpc, rpcName, uniqueModel, useStore } from "./store.js";

const store = useStore();

const MALFORMED = { reason: "MALFORMED_REQUEST" };

async function rawCall(rpc: Rpc, request: Uint8Array) {
  return await (await store.raw()).call(rpcName(rpc), request);
}

async function lastSeqOf(conversationId: bigint): Promise<bigint> {
  return (await store.call("getSession", { conversationId })).session!.lastSeq;
}

const user = int(1, 2);
const hello = bytes(2, "hello");

/** Wrong bytes behind a good AddMessage(s)Request. */
const wrongTails: [string, Buffer][] = [
  ["field number 0", Buffer.from([0])],
  ["field number 0 and more", message(Buffer.from([0]), bytes(2, user, hello))],
  ["field number 0 with a length", tag(0, 2)],
  ["the end of a group that did not begin", message(tag(1, 4), bytes(2, user, hello))],
  ["a group that does not end", tag(100, 3)],
  ["a group that ends as another", message(tag(100, 3), tag(101, 4))],
  ["wire type 6", message(tag(100, 6), varint(1))],
  ["wire type 7", message(tag(100, 7), varint(1))],
  ["a tag cut off", Buffer.from([0x80])],
  ["a tag of eleven bytes", Buffer.alloc(11, 0x88)],
  ["a tag beyond 32 bits", Buffer.from([0x88, 0x80, 0x80, 0x80, 0x10, 1])],
  ["a varint cut off", message(tag(100, 0), Buffer.from([0xff, 0xff]))],
  ["a varint of eleven bytes", message(tag(4, 0), Buffer.alloc(10, 0xff), Buffer.from([1]))],
  ["a number cut off", message(tag(100, 1), Buffer.alloc(7))],
  ["a string without length", tag(3, 2)],
  ["a string that is cut off", message(tag(3, 2), varint(5), Buffer.from("abcd"))],
  ["a message that is cut off", message(tag(2, 2), varint(100), user)],
  ["a length of 4 GiB", message(tag(2, 2), varint(0xffffffff), user)],
  ["a length of 4 GiB of an unknown field", message(tag(100, 2), varint(0xffffffff))],
  [
    "10,000 groups in one another",
    Buffer.concat(Array.from({ length: 10_000 }, () => tag(100, 3))),
  ],
];

describe("is refused, and nothing is written", () => {
  test.each(wrongTails)("%s", async (_, tail) => {
    const conversationId = await store.newSession();
    const good = message(int(1, conversationId), bytes(2, user, hello));
    for (const rpc of ["addMessage", "addMessages"] as const) {
      await store.refusesBytes(rpc, message(good, tail), MALFORMED);
    }
    expect(await lastSeqOf(conversationId)).toBe(0n);
  });

  test.each(wrongTails)("inside of a message: %s", async (_, tail) => {
    const conversationId = await store.newSession();
    const request = message(int(1, conversationId), bytes(2, user, hello, tail), bytes(3, "r"));
    for (const rpc of ["addMessage", "addMessages"] as const) {
      await store.refusesBytes(rpc, request, MALFORMED);
    }
    expect(await lastSeqOf(conversationId)).toBe(0n);
  });

  test("a string that runs over the end of its message into the next field", async () => {
    const conversationId = await store.newSession();
    const next = bytes(3, "request_id");
    const content = message(tag(2, 2), varint(next.length));
    const request = message(int(1, conversationId), bytes(2, user, content), next);
    await store.refusesBytes("addMessage", request, MALFORMED);
    expect(await lastSeqOf(conversationId)).toBe(0n);
  });

  test.each(["getSession", "streamMessages", "listSessions", "searchMessages"] as const)(
    "in %s too",
    async (rpc) => {
      await store.refusesBytes(rpc, Buffer.from([0x0a, 0x05, 0x61]), MALFORMED);
      await store.refusesBytes(rpc, Buffer.from([0xff]), MALFORMED);
    },
  );
});

test("a request that is cut off anywhere is refused, or is what is left of it", async () => {
  const conversationId = await store.newSession();
  const whole = AddMessageRequest.encode(
    AddMessageRequest.fromPartial({
      conversationId,
      message: { ...oddMessages["every field, odd text"], content: "content" } as never,
      expectedLastSeq: 99n,
    }),
  ).finish();
  // Complete without expected_last_seq, which is the last field and keeps anything from being written.
  const expectedBytes = int(4, 99).length;
  for (let length = 0; length < whole.length - expectedBytes; length++) {
    const { code, text, details } = await rawCall("addMessage", whole.subarray(0, length));
    const fault = unpack(code, text, details);
    expect([length, fault.code]).toEqual([length, "INVALID_ARGUMENT"]);
    expect(["MALFORMED_REQUEST", "INVALID_FIELD"]).toContain(fault.reason);
  }
  await store.refusesBytes("addMessage", whole, { reason: "LAST_SEQ_MISMATCH" });
  expect(await lastSeqOf(conversationId)).toBe(0n);
});

describe("random bytes", () => {
  const rpcs: Rpc[] = [
    "createSession",
    "getSession",
    "updateSession",
    "listSessions",
    "addMessage",
    "addMessages",
    "getMessage",
    "getMessages",
    "streamMessages",
    "updateMessage",
    "deleteMessage",
    "revertMessage",
    "listMessageVersions",
    "createSnapshot",
    "getSnapshot",
    "restoreSnapshot",
    "searchMessages",
    "getSessionStats",
    "acquireLease",
    "renewLease",
    "releaseLease",
    "loadContext",
    "repairSession",
  ];
  const harmless = ["OK", "INVALID_ARGUMENT", "NOT_FOUND", "ABORTED", "FAILED_PRECONDITION"];

  async function expectHarmless(rpc: Rpc, request: Uint8Array): Promise<void> {
    const answer = await rawCall(rpc, request);
    if (rpc === "createSession" && answer.code === 0) {
      const { session } = CreateSessionResponse.decode(answer.messages[0]!);
      await store.call("deleteSession", { conversationId: session!.id });
    }
    const fault = unpack(answer.code, answer.text, answer.details);
    expect(harmless, `${rpc}: ${fault.text}`).toContain(fault.code);
    if (fault.code === "OK") return;
    expect(fault.domain).toBe("agentstore");
    const hasFields = !["MALFORMED_REQUEST", "SESSION_NOT_FOUND", "LAST_SEQ_MISMATCH"].includes(
      fault.reason!,
    );
    expect(fault.fields.length > 0, fault.reason).toBe(hasFields && fault.code !== "NOT_FOUND");
  }

  test("get an answer that makes sense", async () => {
    const anything = fc.uint8Array({ maxLength: 200 });
    await fc.assert(fc.asyncProperty(fc.constantFrom(...rpcs), anything, expectHarmless), {
      numRuns: 400,
    });
    await store.answers();
  });

  test("in place of some of a good request get an answer that makes sense", async () => {
    const conversationId = await store.newSession();
    const fields = { title: "t", tags: ["a", "b"], metadata: { a: [1, { b: "c" }] } };
    const session = { id: conversationId, ...fields };
    const every = Object.values(oddMessages).slice(0, 6) as never[];
    const goods: [Rpc, Uint8Array][] = [
      [
        "createSession",
        CreateSessionRequest.encode(
          CreateSessionRequest.fromPartial({ modelId: uniqueModel(), ...fields }),
        ).finish(),
      ],
      [
        "updateSession",
        UpdateSessionRequest.encode(
          UpdateSessionRequest.fromPartial({ session, updateMask: ["title", "tags"] }),
        ).finish(),
      ],
      [
        "addMessages",
        AddMessagesRequest.encode(
          AddMessagesRequest.fromPartial({ conversationId, messages: every }),
        ).finish(),
      ],
    ];
    const change = fc.record({
      which: fc.constantFrom(...goods),
      place: fc.double({ min: 0, max: 0.9999, noNaN: true }),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(change, async ({ which: [rpc, good], place, bytes: wrong }) => {
        const request = Buffer.from(good);
        const start = Math.floor(place * (request.length - wrong.length));
        request.set(wrong, start);
        await expectHarmless(rpc, request);
      }),
      { numRuns: 300 },
    );
    await store.answers();
  });
});

describe("metadata on the wire", () => {
  const entry = (key: string, ...value: Buffer[]) => bytes(1, bytes(1, key), ...value);
  const struct = (...entries: Buffer[]) => message(bytes(1, "m"), bytes(5, ...entries));
  const value = (...kind: Buffer[]) => bytes(2, ...kind);
  const REFUSAL = { reason: "INVALID_FIELD", fields: ["metadata"] };

  function nested(depth: number): Buffer {
    let inner: Buffer = Buffer.alloc(0);
    for (let level = 1; level < depth; level++) inner = entry("a", value(bytes(5, inner)));
    return inner;
  }

  test.each([
    ["a Value without a kind", struct(entry("a", value()))],
    ["a Value with nothing but an unknown kind", struct(entry("a", value(int(9, 1))))],
    ["a Value of a kind's wrong wire type", struct(entry("a", value(int(3, 1))))],
    ["an entry without a value", struct(entry("a"))],
    ["an empty entry", struct(bytes(1))],
    ["a list with a Value without a kind", struct(entry("a", value(bytes(6, bytes(1)))))],
    ["NaN", struct(entry("a", value(double(2, Number.NaN))))],
    ["Infinity", struct(entry("a", value(double(2, Number.POSITIVE_INFINITY))))],
    ["-Infinity deep down", struct(entry("a", value(bytes(6, bytes(1, double(2, -Infinity))))))],
    ["33 levels", struct(nested(33))],
    ["1,000 levels", struct(nested(1_000))],
    ["the key __proto__", struct(entry("__proto__", value(bytes(3, "x"))))],
    ["the key __proto__ of a Struct", struct(entry("__proto__", value(bytes(5))))],
  ])("is refused with %s", async (_, request) => {
    await store.refusesBytes("createSession", request, REFUSAL);
  });

  test("is kept: an entry without a key, the last of two, the last kind of a Value", async () => {
    const request = struct(
      bytes(1, value(bytes(3, "no key"))),
      entry("a", value(bytes(3, "first"))),
      entry("a", value(bytes(3, "x"), double(2, 2.5))),
      entry("n", value(int(1, 0))),
      entry("deep", value(bytes(5, nested(31)))),
    );
    const answer = await rawCall("createSession", request);
    expect([answer.code, answer.text]).toEqual([0, "OK"]);
    const { session } = CreateSessionResponse.decode(answer.messages[0]!);
    expect(session!.metadata).toMatchObject({ "": "no key", a: 2.5, n: null });
    await store.call("deleteSession", { conversationId: session!.id });
  });
});

describe("times on the wire", () => {
  const at = (...fields: Buffer[]) => message(bytes(1, "m"), bytes(6, ...fields));

  test.each([
    ["the highest second", at(int(1, (1n << 63n) - 1n))],
    ["the lowest second", at(int(1, -(1n << 63n)))],
    ["the second after the year 9999", at(int(1, 253_402_300_800n))],
    ["the second before the year 1", at(int(1, -62_135_596_801n))],
    ["a negative second of nanoseconds", at(int(1, 5), int(2, -1_000_000_000))],
    ["a second of nanoseconds", at(int(1, 5), int(2, 1_000_000_000))],
  ])("are refused with %s", async (_, request) => {
    const expected = { reason: "INVALID_FIELD", fields: ["expires_at"] };
    await store.refusesBytes("createSession", request, expected);
  });
});

test("a time before 1970 may have negative nanoseconds, as some clients send it", async () => {
  const request = message(bytes(1, "m"), bytes(6, int(1, -1), int(2, -2_000_000)));
  const answer = await rawCall("createSession", request);
  expect([answer.code, answer.text]).toEqual([0, "OK"]);
  const { session } = CreateSessionResponse.decode(answer.messages[0]!);
  expect(session!.expiresAt).toEqual(new Date(-1_002));
  await store.call("deleteSession", { conversationId: session!.id });
});

describe("what newer or unusual clients send", () => {
  test("fields that nobody knows are passed over, of every wire type", async () => {
    const conversationId = await store.newSession();
    const unknown = message(
      int(100, 7),
      double(101, 1),
      bytes(102, "x"),
      tag(103, 3),
      int(1, 0),
      tag(103, 4),
      tag(104, 5),
      Buffer.alloc(4),
    );
    const request = message(
      unknown,
      bytes(2, unknown, hello, unknown, user),
      unknown,
      int(1, conversationId),
    );
    const answer = await rawCall("addMessage", request);
    expect([answer.code, answer.text]).toEqual([0, "OK"]);
    const { message: stored } = await store.call("getMessage", { conversationId, seq: 1n });
    expect(stored!.content).toBe("hello");
  });

  test("the last value of a field counts", async () => {
    const conversationId = await store.newSession();
    const first = message(int(1, 99), bytes(2, "first"));
    const request = message(int(1, 7), int(1, conversationId), bytes(2, first, user, hello));
    expect((await rawCall("addMessage", request)).code).toBe(0);
    const { message: stored } = await store.call("getMessage", { conversationId, seq: 1n });
    expect(stored!.content).toBe("hello");
  });

  test("a field of the wrong wire type counts as absent", async () => {
    await store.refusesBytes("getSession", bytes(1, "1"), {
      reason: "INVALID_FIELD",
      fields: ["conversation_id"],
    });
  });

  test("an empty request is one whose fields are all absent", async () => {
    const expected = { reason: "INVALID_FIELD", fields: ["conversation_id", "message"] };
    await store.refusesBytes("addMessage", Buffer.alloc(0), expected);
    expect((await rawCall("listSessions", Buffer.alloc(0))).code).toBe(0);
  });
});
