// Tests that OpenAI chat messages of every shape come back as they were.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AgentMessage,
  fromLlmMessage,
  fromLlmMessages,
  InvalidFieldError,
  type NewMessage,
  OPENAI_CHAT_MESSAGE,
  type OpenAiMessage,
  toLlmJson,
  toLlmMessage,
  toLlmMessages,
} from "../../../client/index.js";

/** What the store gives back for what was appended. */
function storedFrom(message: NewMessage): AgentMessage {
  return {
    id: 1n,
    conversationId: 1n,
    seq: 1n,
    revision: 2n,
    version: 1n,
    timestampMs: 0n,
    role: message.role,
    content: message.content ?? "",
    name: message.name ?? "",
    toolCalls: [...(message.toolCalls ?? [])],
    toolCallId: message.toolCallId ?? "",
    payload: message.payload ?? "",
    payloadType: message.payloadType ?? "",
  };
}

const call = (id: string, name: string, args: string) => ({
  id,
  type: "function" as const,
  function: { name, arguments: args },
});

describe("a message that the typed fields can say in full", () => {
  it.each<OpenAiMessage>([
    { role: "system", content: "You are helpful." },
    { role: "user", content: "", name: "Zoë" },
    { role: "user", content: "NUL \0 and 𝄞 and \u2028" },
    { role: "assistant", content: null, tool_calls: [call("c1", "f", '{"a": 1.0, "a":2}')] },
    {
      role: "assistant",
      content: "Both",
      tool_calls: [call("", "", ""), call("c2", "g", "no json")],
    },
    { role: "tool", content: '{"ok":true}', tool_call_id: "c1", name: "f" },
  ])("needs no payload: %j", (message) => {
    const stored = fromLlmMessage(message, JSON.stringify(message));
    expect(stored.payload).toBeUndefined();
    expect(stored.payloadType).toBeUndefined();
    expect(toLlmMessage(storedFrom(stored))).toEqual(message);
  });

  it("takes a key that is undefined for one that is not there", () => {
    const message = { role: "user", content: "Hello", name: undefined } as unknown as OpenAiMessage;
    expect(fromLlmMessage(message)).toEqual({ role: "user", content: "Hello" });
  });
});

describe("a message of another shape", () => {
  it.each<[Record<string, unknown>, Partial<NewMessage>]>([
    [
      { role: "developer", content: "Be brief." },
      { role: "system", content: "Be brief." },
    ],
    [
      { role: "function", name: "f", content: "1" },
      { role: "tool", name: "f", content: "1" },
    ],
    [{ role: "assistant" }, { content: "" }],
    [{ role: "assistant", content: null }, { content: "" }],
    [{ role: "assistant", content: "x", tool_calls: [] }, { content: "x" }],
    [{ role: "assistant", content: "x", tool_calls: null }, { content: "x" }],
    [
      { role: "assistant", content: "", tool_calls: [call("c", "f", "{}")] },
      { toolCalls: [{ id: "c", name: "f", arguments: "{}" }] },
    ],
    [{ role: "assistant", content: null, refusal: "I cannot." }, { content: "I cannot." }],
    [{ role: "assistant", content: "Hi", refusal: null, annotations: [] }, { content: "Hi" }],
    [
      { role: "assistant", content: null, audio: { id: "a", transcript: "Said." } },
      { content: "Said." },
    ],
    [
      { role: "assistant", content: null, function_call: { name: "f", arguments: "{}" } },
      { toolCalls: [{ id: "", name: "f", arguments: "{}" }] },
    ],
    [
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "c", type: "custom", custom: { name: "f", input: "in" } }],
      },
      { toolCalls: [{ id: "c", name: "f", arguments: "in" }] },
    ],
    [
      { role: "assistant", content: null, tool_calls: [{ ...call("c", "f", "{}"), index: 0 }] },
      { toolCalls: [{ id: "c", name: "f", arguments: "{}" }] },
    ],
    [
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: { a: 1 } } }],
      },
      { toolCalls: [{ id: "c", name: "f", arguments: '{"a":1}' }] },
    ],
    [{ role: "user", content: "x", tool_calls: [call("c", "f", "{}")] }, { content: "x" }],
    [{ role: "user", content: "x", tool_call_id: "c" }, { content: "x" }],
    [{ role: "user", content: "x", name: "" }, { content: "x" }],
    [{ role: "user", content: "x", name: "n".repeat(1025) }, { content: "x" }],
    [{ role: "user", content: "x", name: "n\0" }, { content: "x" }],
    [
      {
        role: "user",
        content: [
          { type: "text", text: "See" },
          { type: "image_url", image_url: { url: "data:" } },
          { type: "text", text: "this." },
        ],
      },
      { content: "See\nthis." },
    ],
    [{ role: "user", content: "half \ud83d" }, { content: "half \ufffd" }],
    [JSON.parse('{"role":"user","content":"x","__proto__":{}}'), { content: "x" }],
  ])("keeps %j in its payload", (message, fields) => {
    const { payload, ...stored } = fromLlmMessage(message as unknown as OpenAiMessage);
    expect(payload).toBe(JSON.stringify(message));
    expect(payload?.isWellFormed()).toBe(true);
    expect(stored).toEqual({
      role: message["role"],
      ...fields,
      content: fields.content ?? "",
      payloadType: OPENAI_CHAT_MESSAGE,
    });
    expect(toLlmMessage(storedFrom({ ...stored, payload }))).toEqual(message);
  });

  it("keeps the very bytes of its source, numbers beyond a double included", () => {
    const raw = '{ "role":"user",  "content":"x", "cost": 12345678901234567890.10 }';
    const stored = fromLlmMessage(JSON.parse(raw) as OpenAiMessage, raw);
    expect(stored.payload).toBe(raw);
    expect(toLlmJson(storedFrom(stored))).toBe(raw);
  });

  it.each([[null], ["text"], [[]], [{}], [{ role: "narrator", content: "x" }], [{ role: 1 }]])(
    "is refused when nobody speaks: %j",
    (message) => {
      expect(() => fromLlmMessage(message as unknown as OpenAiMessage)).toThrow(InvalidFieldError);
    },
  );
});

describe("a stored message that did not come from OpenAI", () => {
  it("is what its fields say, whatever its payload is", () => {
    const message = storedFrom({
      role: "assistant",
      content: "",
      toolCalls: [{ id: "c", name: "f", arguments: "{}" }],
      payload: "<xml/>",
      payloadType: "acme.message",
    });
    const expected = { role: "assistant", content: null, tool_calls: [call("c", "f", "{}")] };
    expect(toLlmMessage(message)).toEqual(expected);
    expect(JSON.parse(toLlmJson(message))).toEqual(expected);
  });
});

describe("any OpenAI messages", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.string(), fc.constant(""));
  const anything = fc.jsonValue({ maxDepth: 2 });
  const toolCall = fc.oneof(
    fc.record({
      id: text,
      type: fc.constant("function"),
      function: fc.record({ name: text, arguments: text }),
    }),
    anything,
  );
  const oftenMissing = { requiredKeys: ["role"] as ["role"] };
  const message = fc
    .tuple(
      fc.record(
        {
          role: fc.constantFrom("system", "developer", "user", "assistant", "tool", "function"),
          content: fc.oneof(
            text,
            fc.constant(null),
            fc.array(fc.oneof(anything, fc.record({ type: fc.constant("text"), text }))),
            anything,
          ),
          name: fc.oneof(text, anything),
          tool_calls: fc.oneof(fc.array(toolCall, { maxLength: 3 }), anything),
          tool_call_id: fc.oneof(text, anything),
          refusal: fc.oneof(text, fc.constant(null)),
          function_call: anything,
          audio: anything,
        },
        oftenMissing,
      ),
      fc.oneof(
        { weight: 3, arbitrary: fc.constant({}) },
        { weight: 1, arbitrary: fc.dictionary(fc.string(), anything, { maxKeys: 2 }) },
      ),
    )
    // As it comes out of JSON, which is where every OpenAI message has been.
    .map(
      ([known, unknown]) => JSON.parse(JSON.stringify({ ...unknown, ...known })) as OpenAiMessage,
    );

  it("come back deep-equal, with a payload only where it is needed", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 4 }), (messages) => {
        const stored = fromLlmMessages(messages);
        expect(toLlmMessages(stored.map(storedFrom))).toEqual(messages);
        stored.forEach((each, index) => {
          const { payload, payloadType, ...fields } = each;
          expect(payloadType).toBe(payload === undefined ? undefined : OPENAI_CHAT_MESSAGE);
          if (payload === undefined) return;
          expect(toLlmMessage(storedFrom(fields))).not.toEqual(messages[index]);
        });
      }),
      { numRuns: 2_000 },
    );
  });

  it("are something that the store accepts", () => {
    fc.assert(
      fc.property(message, (each) => {
        const stored = fromLlmMessage(each);
        const texts = [
          stored.content,
          stored.name,
          stored.toolCallId,
          stored.payload,
          ...(stored.toolCalls ?? []).flatMap((one) => [one.id, one.name, one.arguments]),
        ];
        for (const one of texts) expect(one?.isWellFormed() ?? true).toBe(true);
        if (stored.role !== "assistant") expect(stored.toolCalls).toBeUndefined();
        if (stored.role !== "tool") expect(stored.toolCallId).toBeUndefined();
        for (const one of [stored.name, stored.toolCallId]) {
          expect([...(one ?? "")].length).toBeLessThanOrEqual(1024);
          expect(one ?? "").not.toContain("\0");
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
