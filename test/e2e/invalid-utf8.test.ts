// Bytes that are no UTF-8, wherever a request has a string: the error names the field.
import { describe, expect, test } from "vitest";
import { bytes, int, message } from "../harness/wire.js";
import type { Rpc } from "./store.js";
import { useStore } from "./store.js";

const store = useStore();

const BAD: [string, Buffer][] = [
  ["a byte that never occurs", Buffer.from([0xff])],
  ["a continuation alone", Buffer.from("a\x80b", "latin1")],
  ["a character cut off", Buffer.from([0x61, 0xe6, 0xbc])],
  ["an overlong form of U+0000", Buffer.from([0xc0, 0x80])],
  ["a surrogate", Buffer.from([0xed, 0xa0, 0x80])],
  ["a pair of surrogates", Buffer.from([0xed, 0xa0, 0xbd, 0xed, 0xb9, 0x82])],
  ["beyond U+10FFFF", Buffer.from([0xf4, 0x90, 0x80, 0x80])],
  ["at the end of a long text", Buffer.concat([Buffer.alloc(100_000, "x"), Buffer.from([0xff])])],
];
const bad = Buffer.from([0x61, 0xff]);

const model = bytes(1, "m");
const id = int(1, 1);
const user = int(1, 2);
const assistant = int(1, 3);

/** A Struct of one entry. */
const entry = (key: Buffer | string, value: Buffer) => bytes(1, bytes(1, key), bytes(2, value));
const text = (value: Buffer | string) => bytes(3, value);
const deep = entry("a", bytes(5, entry("b", bytes(6, bytes(1, int(4, 1)), bytes(1, text(bad))))));

const places: [Rpc, string, Buffer][] = [
  ["createSession", "model_id", bytes(1, bad)],
  ["createSession", "title", message(model, bytes(2, bad))],
  ["createSession", "owner_id", message(model, bytes(3, bad))],
  ["createSession", "tags[0]", message(model, bytes(4, bad))],
  ["createSession", "tags[1]", message(model, bytes(4, "ok"), bytes(4, bad), bytes(4, "ok"))],
  ["createSession", "metadata", message(model, bytes(5, entry(bad, text("x"))))],
  ["createSession", "metadata", message(model, bytes(5, entry("x", text(bad))))],
  ["createSession", "metadata", message(model, bytes(5, deep))],
  ["createSession", "request_id", message(model, bytes(7, bad))],
  ["createSession", "title", message(model, bytes(2, bad), bytes(2, "the last one counts"))],
  ["updateSession", "session.title", bytes(1, id, bytes(4, bad))],
  ["updateSession", "session.owner_id", bytes(1, id, bytes(5, bad))],
  ["updateSession", "session.tags[0]", bytes(1, id, bytes(6, bad))],
  ["updateSession", "session.metadata", bytes(1, id, bytes(7, entry(bad, text("x"))))],
  ["updateSession", "update_mask.paths[1]", message(bytes(2, bytes(1, "title"), bytes(1, bad)))],
  ["updateSession", "request_id", message(bytes(1, id), bytes(3, bad))],
  ["updateMessage", "message.content", bytes(1, id, bytes(4, bad))],
  ["updateMessage", "message.tool_calls[0].arguments", bytes(1, id, bytes(8, bytes(3, bad)))],
  ["updateMessage", "message.metadata", bytes(1, id, bytes(12, entry("x", text(bad))))],
  ["updateMessage", "update_mask.paths[0]", bytes(2, bytes(1, bad))],
  ["updateMessage", "request_id", bytes(3, bad)],
  ["deleteMessage", "request_id", bytes(3, bad)],
  ["undeleteMessage", "request_id", bytes(3, bad)],
  ["revertMessage", "request_id", bytes(4, bad)],
  ["listMessageVersions", "page_token", bytes(4, bad)],
  ["forkSession", "request_id", bytes(3, bad)],
  ["createSnapshot", "name", bytes(2, bad)],
  ["createSnapshot", "request_id", bytes(3, bad)],
  ["listSnapshots", "page_token", bytes(3, bad)],
  ["restoreSnapshot", "request_id", bytes(4, bad)],
  ["deleteSnapshot", "request_id", bytes(3, bad)],
  ["listSessions", "model_id", bytes(1, bad)],
  ["listSessions", "page_token", bytes(3, bad)],
  ["deleteSession", "request_id", message(id, bytes(2, bad))],
  ["addMessage", "message.content", message(id, bytes(2, user, bytes(2, bad)))],
  ["addMessage", "message.name", message(id, bytes(2, user, bytes(4, bad)))],
  [
    "addMessage",
    "message.tool_calls[0].id",
    message(id, bytes(2, assistant, bytes(5, bytes(1, bad)))),
  ],
  [
    "addMessage",
    "message.tool_calls[1].name",
    message(id, bytes(2, assistant, bytes(5, bytes(2, "f")), bytes(5, bytes(2, bad)))),
  ],
  [
    "addMessage",
    "message.tool_calls[0].arguments",
    message(id, bytes(2, assistant, bytes(5, bytes(3, bad)))),
  ],
  ["addMessage", "message.tool_call_id", message(id, bytes(2, user, bytes(6, bad)))],
  ["addMessage", "message.payload", message(id, bytes(2, user, bytes(7, bad)))],
  ["addMessage", "message.payload_type", message(id, bytes(2, user, bytes(8, bad)))],
  ["addMessage", "message.metadata", message(id, bytes(2, user, bytes(9, entry("x", text(bad)))))],
  ["addMessage", "request_id", message(id, bytes(2, user), bytes(3, bad))],
  [
    "addMessages",
    "messages[2].content",
    message(id, bytes(2, user), bytes(2, user), bytes(2, user, bytes(2, bad))),
  ],
  ["addMessages", "request_id", message(id, bytes(2, user), bytes(3, bad))],
  ["getMessages", "page_token", message(id, bytes(3, bad))],
  ["searchMessages", "model_id", message(bytes(1, bad), bytes(2, "x"))],
  ["searchMessages", "query", bytes(2, bad)],
];

describe("is refused", () => {
  test.each(places)("in %s: %s", async (rpc, field, request) => {
    await store.refusesBytes(rpc, request, { reason: "INVALID_UTF8", fields: [field] });
  });

  test.each(BAD)("in any form: %s", async (_, content) => {
    const conversationId = await store.newSession();
    const request = message(int(1, conversationId), bytes(2, user, bytes(2, content)));
    const expected = { reason: "INVALID_UTF8", fields: ["message.content"] };
    await store.refusesBytes("addMessage", request, expected);
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.lastSeq).toBe(0n);
  });

  test("and none of a batch is written", async () => {
    const conversationId = await store.newSession();
    const good = bytes(2, user, bytes(2, "good"));
    const request = message(int(1, conversationId), good, bytes(2, user, bytes(2, bad)), good);
    const expected = { reason: "INVALID_UTF8", fields: ["messages[1].content"] };
    await store.refusesBytes("addMessages", request, expected);
    const { session } = await store.call("getSession", { conversationId });
    expect(session!.lastSeq).toBe(0n);
  });
});

test("what a field that nobody knows holds does not matter", async () => {
  const conversationId = await store.newSession();
  const raw = await store.raw();
  const answer = await raw.call("GetSession", message(int(1, conversationId), bytes(99, bad)));
  expect(answer.code).toBe(0);
});
