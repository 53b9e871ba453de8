// Requests and responses in JSON: the canonical mapping, and what is none of it.
import { fromBinary, fromJsonString, toBinary, toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  AddMessageRequest,
  GetMessagesResponse,
  NewMessage,
} from "../../gen/agentstore/v1/messages.js";
import { expectFault } from "./faults.js";
import { faultOfAnswer, registry, send } from "./http.js";
import { ODD_TEXT, oddMessages } from "./odd-messages.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();

const requestType = registry.getMessage("agentstore.v1.AddMessageRequest")!;
const responseType = registry.getMessage("agentstore.v1.GetMessagesResponse")!;

describe("a message comes back as it was sent, over both transports", () => {
  test.each(Object.entries(oddMessages))("%s", async (_, message) => {
    const conversationId = await store.newSession();
    const whole = NewMessage.fromPartial(message as never);
    const bytes = AddMessageRequest.encode(
      AddMessageRequest.fromPartial({ conversationId, message: whole } as never),
    ).finish();
    const body = JSON.stringify(toJson(requestType, fromBinary(requestType, bytes)));
    const added = await send(store.target, "AddMessage", { body });
    expect(added.httpStatus, added.body.toString()).toBe(200);

    const overGrpc = await store.call("getMessages", { conversationId });
    const read = await send(store.target, "GetMessages", {
      body: { conversationId: String(conversationId) },
    });
    const decoded = fromJsonString(responseType, read.body.toString());
    expect(GetMessagesResponse.decode(toBinary(responseType, decoded))).toEqual(overGrpc);
    expect(overGrpc.messages[0]!.content).toBe(message.content ?? "");
  });

  test("metadata that is nested as deeply as it may be", async () => {
    const conversationId = String(await store.newSession());
    let metadata: unknown = "x";
    for (let depth = 0; depth < 32; depth++) metadata = { a: metadata };
    const message = { role: "ROLE_USER", metadata };
    const added = await send(store.target, "AddMessage", { body: { conversationId, message } });
    expect(added.json).toMatchObject({ message: { metadata } });
    const read = await send(store.target, "GetMessages", { body: { conversationId } });
    expect(read.json).toMatchObject({ messages: [{ metadata }] });
    const deeper = { conversationId, message: { role: "ROLE_USER", metadata: { a: metadata } } };
    expectFault(faultOfAnswer(await send(store.target, "AddMessage", { body: deeper })), {
      reason: "INVALID_FIELD",
      fields: ["message.metadata"],
    });
  });
});

test.each([
  ["numbers for 64-bit integers", '"conversationId": ID'],
  ["names as in the .proto files", '"conversation_id": "ID"'],
  ["null for what is not set", '"conversationId": "ID", "requestId": null'],
  ["a number for an enum", '"conversationId": "ID", "message": {"role": 2}'],
  ["escapes in a key", '"conversation\\u0049d": "ID"'],
  [
    "numbers of sixteen digits that are exact",
    '"conversationId": "ID", "message": {"role": 2, "usage": {"inputTokens": 1000000000000000}}',
  ],
])("takes %s", async (_, fields) => {
  const conversationId = await store.newSession();
  const text = fields.replace("ID", String(conversationId));
  const message = text.includes('"message"') ? "" : ', "message": {"role": "ROLE_USER"}';
  const answer = await send(store.target, "AddMessage", { body: `{${text}${message}}` });
  expect(answer.httpStatus, answer.body.toString()).toBe(200);
});

describe("what is no JSON object is malformed", () => {
  test.each([
    "",
    " ",
    "null",
    "1",
    '"x"',
    "[]",
    "[{}]",
    "{",
    "{}{}",
    '{"conversationId"',
    "{conversationId:1}",
    "{'conversationId':1}",
    '{"conversationId":1,}',
    '{"conversationId":01}',
    '{"conversationId":NaN}',
    '{"conversationId":1} // a comment',
    '{"conversationId":"\u0001"}',
    '{"conversationId":1,"conversationId":2}',
    '{"conversationId":1,"conversation\\u0049d":2}',
    '{"conversationId":1,"conversation_id":2}',
    '{"message":{"metadata":{"a":1,"a":2}}}',
  ])("%j", async (body) => {
    const fault = faultOfAnswer(await send(store.target, "AddMessage", { body }));
    expectFault(fault, { reason: "MALFORMED_REQUEST" });
  });

  test.each(["[", '{"a":'])("%s, a hundred thousand times", async (opening) => {
    const body = opening.repeat(100_000);
    const fault = faultOfAnswer(await send(store.target, "AddMessage", { body }));
    expectFault(fault, { reason: "MALFORMED_REQUEST" });
  });

  test.each([
    ["a lone continuation byte", [0x80]],
    ["an overlong slash", [0xc0, 0xaf]],
    ["half a surrogate pair", [0xed, 0xa0, 0x80]],
    ["Latin-1", [0xe9]],
  ])("nor is %s", async (_, bytes) => {
    const [before, behind] = ['{"conversationId":1,"requestId":"', '"}'];
    const body = Buffer.concat([Buffer.from(before), Buffer.from(bytes), Buffer.from(behind)]);
    const fault = faultOfAnswer(await send(store.target, "AddMessage", { body }));
    expectFault(fault, { reason: "MALFORMED_REQUEST" });
  });

  test("a byte order mark is passed over", async () => {
    const conversationId = await store.newSession();
    const body = `\uFEFF{"conversationId":"${conversationId}"}`;
    expect((await send(store.target, "GetSession", { body })).httpStatus).toBe(200);
  });
});

describe("a wrong value is told by its field, and not quoted", () => {
  const secret = "hunter2";
  const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;

  test.each([
    ["conversation_id", '{"conversationId":"hunter2"}'],
    ["conversation_id", '{"conversationId":true}'],
    ["conversation_id", '{"conversationId":{}}'],
    ["conversation_id", '{"conversationId":1.5}'],
    ["conversation_id", '{"conversationId":9007199254740993}'],
    ["conversation_id", '{"conversationId":9223372036854775808}'],
    ["conversation_id", '{"conversationId":"9223372036854775808"}'],
    ["conversation_id", '{"conversationId":1e400}'],
    ["message", '{"message":[]}'],
    ["message", '{"message":"hunter2"}'],
    ["message.role", '{"message":{"role":"hunter2"}}'],
    ["message.role", '{"message":{"role":2.5}}'],
    ["message.content", '{"message":{"content":1}}'],
    ["message.content", '{"message":{"content":["hunter2"]}}'],
    ["message.hunter", '{"message":{"hunter":1}}'],
    ["message.(a key that is no name)", '{"message":{"hunter2 is my password":1}}'],
    ["message.__proto__", '{"message":{"__proto__":{"role":2}}}'],
    ["constructor", '{"constructor":{"prototype":{}}}'],
    ["message.tool_calls", '{"message":{"toolCalls":{}}}'],
    ["message.tool_calls[1]", '{"message":{"toolCalls":[{},"hunter2"]}}'],
    ["message.tool_calls[0]", '{"message":{"toolCalls":[null]}}'],
    [
      "message.tool_calls[1].arguments",
      '{"message":{"toolCalls":[{},{"arguments":{"a":"hunter2"}}]}}',
    ],
    ["message.metadata", '{"message":{"metadata":["hunter2"]}}'],
    ["message.metadata", `{"message":{"metadata":{"a":${deep}}}}`],
    ["message.usage.input_tokens", '{"message":{"usage":{"inputTokens":"hunter2"}}}'],
  ])("%s", async (field, body) => {
    const fault = faultOfAnswer(await send(store.target, "AddMessage", { body }));
    expectFault(fault, { reason: "INVALID_FIELD", fields: [field] });
    expect(fault.everything).not.toContain(secret);
  });

  test.each([
    ["tags[0]", { tags: [1] }],
    ["expires_at", { expiresAt: "hunter2" }],
    ["expires_at", { expiresAt: "2026-13-01T00:00:00Z" }],
    ["expires_at", { expiresAt: 1 }],
  ])("%s: %j", async (field, fields) => {
    const body = { modelId: uniqueModel(), ...fields };
    const fault = faultOfAnswer(await send(store.target, "CreateSession", { body }));
    expectFault(fault, { reason: "INVALID_FIELD", fields: [field] });
    expect(fault.everything).not.toContain(secret);
  });

  test.each([
    ["update_mask", { updateMask: "owner_id" }],
    ["update_mask", { updateMask: ["title"] }],
  ])("%s: %j", async (field, fields) => {
    const fault = faultOfAnswer(await send(store.target, "UpdateSession", { body: fields }));
    expectFault(fault, { reason: "INVALID_FIELD", fields: [field] });
  });
});

describe("half a surrogate pair is refused rather than replaced", () => {
  test.each([
    ["message.content", '{"content":"\\ud800"}'],
    ["message.content", '{"content":"\\uDFFFx"}'],
    ["message.tool_calls[0].arguments", '{"toolCalls":[{"arguments":"\\ud83d"}]}'],
    ["message.metadata", '{"metadata":{"a":["\\ud83d"]}}'],
    ["message.metadata", '{"metadata":{"\\ud83d":1}}'],
  ])("in %s: %s", async (field, message) => {
    const body = `{"conversationId":"1","message":${message}}`;
    const fault = faultOfAnswer(await send(store.target, "AddMessage", { body }));
    expectFault(fault, { reason: "INVALID_UTF8", fields: [field] });
  });

  test("a whole one that is escaped is text", async () => {
    const conversationId = String(await store.newSession());
    const body = `{"conversationId":"${conversationId}","message":{"role":"ROLE_USER","content":"\\ud83d\\ude00"}}`;
    const answer = await send(store.target, "AddMessage", { body });
    expect(answer.json).toMatchObject({ message: { content: "😀" } });
  });
});

test("U+0000 is kept in contents and refused where Postgres cannot have it", async () => {
  const conversationId = String(await store.newSession());
  const message = { role: "ROLE_USER", content: ODD_TEXT };
  const kept = await send(store.target, "AddMessage", { body: { conversationId, message } });
  expect(kept.json).toMatchObject({ message: { content: ODD_TEXT } });
  const bad = { ...message, metadata: { a: "\0" } };
  const fault = faultOfAnswer(
    await send(store.target, "AddMessage", { body: { conversationId, message: bad } }),
  );
  expectFault(fault, { reason: "INVALID_FIELD", fields: ["message.metadata"] });
});

test("the key __proto__ in metadata is refused rather than lost", async () => {
  const body = '{"conversationId":"1","message":{"role":"ROLE_USER","metadata":{"__proto__":1}}}';
  const fault = faultOfAnswer(await send(store.target, "AddMessage", { body }));
  expectFault(fault, { reason: "INVALID_FIELD", fields: ["message.metadata"] });
});

test("a request of many megabytes", async () => {
  const conversationId = String(await store.newSession());
  const content = "x".repeat(40_000);
  const messages = Array.from({ length: 1_000 }, () => ({ role: "ROLE_USER", content }));
  const answer = await send(store.target, "AddMessages", { body: { conversationId, messages } });
  expect(answer.httpStatus).toBe(200);
  const { session } = await store.call("getSession", { conversationId: BigInt(conversationId) });
  expect(session!.lastSeq).toBe(1_000n);
});
