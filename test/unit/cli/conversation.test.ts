// Lines of all forms become conversations, and conversations become the same lines again.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BadLineError } from "../../../cli/import/bad-line.js";
import { type ImportedConversation, readConversation } from "../../../cli/import/conversation.js";
import { openAiEnvelope, sourceEnvelope } from "../../../cli/show/json-line.js";
import type { AgentMessage, AgentSession, NewMessage } from "../../../client/index.js";

const read = (line: string): ImportedConversation => readConversation(Buffer.from(line));
const readValue = (value: unknown): ImportedConversation => read(JSON.stringify(value));

function stored(message: NewMessage, index: number): AgentMessage {
  return {
    id: BigInt(index + 1),
    conversationId: 1n,
    seq: BigInt(index + 1),
    timestampMs: 0n,
    revision: 1n,
    version: 1n,
    role: message.role,
    content: message.content ?? "",
    name: message.name ?? "",
    toolCalls: [...(message.toolCalls ?? [])],
    toolCallId: message.toolCallId ?? "",
    payload: message.payload ?? "",
    payloadType: message.payloadType ?? "",
  };
}

/** The line that `show` prints for a conversation once it is stored. */
function shown(conversation: ImportedConversation, form: "openai" | "source"): string {
  const session = { metadata: conversation.metadata } as AgentSession;
  const envelope = form === "openai" ? openAiEnvelope() : sourceEnvelope(session);
  const messages = conversation.messages.map(stored).map(envelope.message);
  return envelope.before + messages.join(",") + envelope.after;
}

const text = fc.oneof(fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" }));
const shortText = fc.stringMatching(/^[A-Za-z_0-9-]{1,20}$/);
const toolCall = fc.record({
  id: shortText,
  type: fc.constant("function"),
  function: fc.record({ name: shortText, arguments: text }),
});
const others = fc.dictionary(shortText, fc.jsonValue(), { maxKeys: 3 });
const openAiMessage = fc
  .oneof(
    fc.record({
      role: fc.constantFrom("system", "developer", "user", "assistant"),
      content: fc.oneof(
        text,
        fc.constant(null),
        fc.array(fc.record({ type: fc.constant("text"), text })),
      ),
    }),
    fc.record({
      role: fc.constant("assistant"),
      content: fc.oneof(text, fc.constant(null)),
      tool_calls: fc.array(toolCall),
    }),
    fc.record({
      role: fc.constant("tool"),
      tool_call_id: shortText,
      content: text,
      name: shortText,
    }),
    fc.record({ role: fc.constant("function"), name: shortText, content: text }),
    fc.record({
      role: fc.constant("assistant"),
      function_call: fc.record({ name: shortText, arguments: text }),
    }),
  )
  .chain((message) => others.map((more) => ({ ...more, ...message })));
const shareGptMessage = fc
  .record({
    from: fc.constantFrom("human", "gpt", "system", "function_call", "observation", "tool", "owl"),
    value: fc.oneof(text, fc.jsonValue()),
  })
  .chain((message) => others.map((more) => ({ ...more, ...message })));

/** JSON as some other program would have written it: spaced, escaped. */
function spaced(value: unknown): string {
  return JSON.stringify(value)
    .replaceAll(
      /[\u0080-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    )
    .replace(/^/, "  ");
}

describe("any conversation", () => {
  it("in OpenAI's form comes back with the same messages, and as the same line", () => {
    fc.assert(
      fc.property(fc.array(openAiMessage), others, fc.boolean(), (messages, more, escaped) => {
        const line = { ...more, messages };
        const conversation = read(escaped ? spaced(line) : JSON.stringify(line));
        // By value: JSON.parse("-0") is -0, which JSON.stringify cannot say.
        expect(JSON.parse(shown(conversation, "openai"))).toEqual(
          JSON.parse(JSON.stringify({ messages })),
        );
        expect(JSON.parse(shown(conversation, "source"))).toEqual(JSON.parse(JSON.stringify(line)));
      }),
    );
  });

  it("as a bare array comes back as a bare array", () => {
    fc.assert(
      fc.property(fc.array(openAiMessage), (messages) => {
        expect(JSON.parse(shown(readValue(messages), "source"))).toEqual(
          JSON.parse(JSON.stringify(messages)),
        );
      }),
    );
  });

  it("in ShareGPT's form comes back with the same bytes", () => {
    fc.assert(
      fc.property(fc.array(shareGptMessage), others, (conversations, more) => {
        const line = { ...more, conversations };
        const result = shown(readValue(line), "source");
        expect(result.startsWith(`{"conversations":${JSON.stringify(conversations)}`)).toBe(true);
        expect(JSON.parse(result)).toEqual(JSON.parse(JSON.stringify(line)));
      }),
    );
  });

  it("is read or refused, whatever the bytes are, and never anything else", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array)),
      fc.json().map((json) => Buffer.from(json)),
      fc.array(fc.jsonValue()).map((messages) => Buffer.from(JSON.stringify({ messages }))),
      fc
        .array(fc.oneof(openAiMessage, shareGptMessage))
        .map((messages) => Buffer.from(JSON.stringify(messages))),
    );
    fc.assert(
      fc.property(bytes, (line) => {
        try {
          expect(readConversation(line).messages).toBeInstanceOf(Array);
        } catch (error) {
          expect(error).toBeInstanceOf(BadLineError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("an OpenAI message", () => {
  it("keeps written-out arguments byte for byte", () => {
    const raw = '{ "n": 9007199254740993,  "a":[1.0] }';
    const call = `{"id":"c1","function":{"name":"f","arguments":${raw}}}`;
    const line = `{"messages":[{"role":"assistant","content":null,"tool_calls":[7,${call}]}]}`;
    const { messages } = read(line);
    expect(messages[0]?.toolCalls).toEqual([{ id: "c1", name: "f", arguments: raw }]);
    expect(shown(read(line), "openai")).toBe(line);
  });

  it("keeps a duplicate key that is nested", () => {
    const line =
      '{"messages":[{"role":"assistant","content":null,"tool_calls":' +
      '[{"id":"c","type":"function","function":{"name":"x","name":"f","arguments":"{}"}}]}]}';
    expect(shown(read(line), "openai")).toBe(line);
    expect(read(line).messages[0]?.toolCalls?.[0]?.name).toBe("f");
  });

  it("shows half a surrogate pair as U+FFFD, keeps it in the payload and says so", () => {
    const line = '{"messages":[{"role":"user","content":"a\\ud800b"}]}';
    const { messages, warnings } = read(line);
    expect(messages[0]?.content).toBe("a\ufffdb");
    expect(messages[0]?.payload).toBe('{"role":"user","content":"a\\ud800b"}');
    expect(shown(read(line), "openai")).toBe(line);
    expect(warnings).toEqual([expect.stringContaining("messages[0]")]);
  });

  it("says nothing about whole pairs and escaped backslashes", () => {
    const { warnings } = read(
      '{"messages":[{"role":"user","content":"\\ud83d\\ude00 \\\\ud800"}]}',
    );
    expect(warnings).toEqual([]);
  });
});

describe("a ShareGPT conversation", () => {
  const convert = (...conversations: unknown[]): ImportedConversation =>
    readValue({ conversations });
  const call = (value: string): NewMessage | undefined =>
    convert({ from: "function_call", value }).messages[0];

  it("cuts arguments out of the call byte for byte", () => {
    const raw = '{ "q" : 1.0, "big":9007199254740993, "s":"}{\\"\\u4f60" }';
    expect(call(`{"name": "f", "arguments": ${raw}}`)?.toolCalls).toEqual([
      { id: "call_1", name: "f", arguments: raw },
    ]);
  });

  it("takes any JSON value as arguments, by its bytes", () => {
    fc.assert(
      fc.property(fc.json(), (json) => {
        fc.pre(typeof JSON.parse(json) !== "string");
        expect(call(`{"arguments":  ${json} ,"name":"f"}`)?.toolCalls?.[0]?.arguments).toBe(json);
      }),
    );
  });

  it("unescapes arguments that are a string", () => {
    expect(call('{"name":"f","arguments":"{\\"a\\": 1.0}"}')?.toolCalls?.[0]?.arguments).toBe(
      '{"a": 1.0}',
    );
  });

  it.each([
    ["no arguments", '{"name":"f"}', ["{}"]],
    ["parameters", '{"name":"f","parameters":{"a":1}}', ['{"a":1}']],
    ["null", '{"name":"f","arguments":null}', ["null"]],
    ["OpenAI's nesting", '{"type":"function","function":{"name":"f","arguments":"x"}}', ["x"]],
    ["a list", '[{"name":"f","arguments":{}},{"name":"g","arguments":[]}]', ["{}", "[]"]],
  ])("reads a call with %s", (_, value, expected) => {
    expect(call(value)?.toolCalls?.map((one) => one.arguments)).toEqual(expected);
  });

  it.each(["", "not JSON", "[]", "7", '{"arguments":{}}', '[{"name":"f"},7]', '{"name":7}'])(
    "keeps %j, which is no call, as text",
    (value) => {
      const { messages, warnings } = convert({ from: "function_call", value });
      expect(messages[0]).toMatchObject({ role: "assistant", content: value });
      expect(messages[0]?.toolCalls).toBeUndefined();
      expect(warnings).toHaveLength(1);
    },
  );

  it("pairs each result with the first call before it that has none", () => {
    const calls = (...names: string[]): unknown => ({
      from: "function_call",
      value: JSON.stringify(names.map((name) => ({ name, arguments: {} }))),
    });
    const result = { from: "observation", value: "r" };
    const { messages } = convert(
      result,
      calls("a", "b"),
      result,
      result,
      result,
      calls("c"),
      result,
    );
    expect(messages.filter((one) => one.role === "tool").map((one) => one.toolCallId)).toEqual([
      undefined,
      "call_1",
      "call_2",
      undefined,
      "call_3",
    ]);
  });

  it("keeps an unknown speaker as a user of that name", () => {
    const { messages, warnings } = convert({ from: "Critic", value: "Hm" });
    expect(messages[0]).toMatchObject({ role: "user", name: "Critic", content: "Hm" });
    expect(warnings).toEqual([expect.stringContaining("conversations[0].from")]);
  });

  it.each([
    ["human", "user"],
    ["Human", "user"],
    ["gpt", "assistant"],
    ["system", "system"],
    ["observation", "tool"],
    ["tool_response", "tool"],
  ])("knows %s as %s", (from, role) => {
    expect(convert({ from, value: "x" }).messages[0]?.role).toBe(role);
  });
});

describe("what a line says beside its messages", () => {
  it("is metadata, and nothing but that where it is exact", () => {
    const { metadata } = readValue({ task_id: 3, messages: [], info: { a: [null, true] } });
    expect(metadata).toEqual({
      source_form: "messages",
      source: { task_id: 3, info: { a: [null, true] } },
    });
  });

  it.each([
    '"id":9007199254740993',
    '"score":1.0',
    '"a":1,"a":2',
    '"text":"\\u0000"',
    '"text":"\\ud800"',
    '"__proto__":{"a":1}',
    '"huge":1e400',
    `"deep":${"[".repeat(100)}${"]".repeat(100)}`,
  ])("comes back exactly: %s", (member) => {
    const line = `{"messages":[],${member}}`;
    expect(shown(read(line), "source")).toBe(line);
  });

  it("leaves out the largest member when there is too much, and says which", () => {
    const { metadata, warnings } = readValue({
      messages: [],
      small: 1,
      large: "x".repeat(300_000),
      tools: "y".repeat(100_000),
    });
    expect(Object.keys(metadata["source"] as object)).toEqual(["small", "tools"]);
    expect(warnings).toEqual([expect.stringContaining('"large"')]);
  });

  it("never passes the store's limit of 256 KiB", () => {
    fc.assert(
      fc.property(fc.integer({ min: 100_000, max: 300_000 }), (length) => {
        // Quotes and a number that needs the text beside the parsed form make it grow most.
        const line = `{"messages":[],"n":1.0,"tools":"${'\\"'.repeat(length / 4)}"}`;
        const { metadata } = read(line);
        expect(Buffer.byteLength(JSON.stringify(metadata))).toBeLessThanOrEqual(256 * 1024);
      }),
      { numRuns: 30 },
    );
  });

  it("names the model where it can", () => {
    expect(readValue({ messages: [], model: "gpt-4" }).model).toBe("gpt-4");
    expect(readValue({ messages: [], model: 4 }).model).toBeUndefined();
    expect(readValue({ messages: [], model: "x".repeat(300) }).model).toBeUndefined();
  });

  it("has the beginning of the user's first words as a title", () => {
    const title = (content: string): string =>
      readValue([
        { role: "system", content: "s" },
        { role: "user", content },
      ]).title;
    expect(title(" How\n\tare\u0000 you? ")).toBe("How are you?");
    expect(Array.from(title("你好😀".repeat(100)))).toHaveLength(80);
    expect(readValue({ messages: [] }).title).toBe("");
  });
});

describe("a bad line", () => {
  it.each([
    ['{"messages":[', /not valid JSON/],
    ["[", /jq -c/],
    ["{}", /neither "messages" nor "conversations"/],
    ["7", /neither an object nor an array/],
    ['{"messages":{}}', /"messages" is not an array/],
    ['{"messages":[[]]}', /messages\[0\] is not an object/],
    ['[{"role":"user","content":"x"},null]', /^\[1\] is not an object/],
    ['{"messages":[{"content":"x"}]}', /messages\[0\] has neither/],
    ['{"messages":[{"role":"robot"}]}', /messages\[0\]\.role is none of/],
  ])("%s says what is wrong", (line, message) => {
    expect(() => read(line)).toThrow(BadLineError);
    expect(() => read(line)).toThrow(message);
  });

  it("is one with bytes that are not UTF-8", () => {
    expect(() => readConversation(Buffer.from('{"messages":[]}\xff', "latin1"))).toThrow(/UTF-8/);
    // Half a surrogate pair written as bytes is not UTF-8 either.
    const half = Buffer.concat([
      Buffer.from('["'),
      Buffer.from([0xed, 0xa0, 0x80]),
      Buffer.from('"]'),
    ]);
    expect(() => readConversation(half)).toThrow(/UTF-8/);
  });

  it("is one with arguments that are nested beyond the stack", () => {
    const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
    const call = `{"id":"c","type":"function","function":{"name":"f","arguments":${deep}}}`;
    const line = `{"messages":[{"role":"assistant","content":null,"tool_calls":[${call}]}]}`;
    expect(() => read(line)).toThrow(BadLineError);
    expect(() => read(line)).toThrow(/nested too deeply/);
  });
});

describe("a message that is nested beyond the stack", () => {
  it("comes back as it is where nobody has to look inside", () => {
    const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
    const line = `{"messages":[{"role":"user","content":"x","deep":${deep}}]}`;
    expect(shown(read(line), "openai") === line).toBe(true);
  });
});

describe("the fixtures", () => {
  it.each(["tau-airline.jsonl", "toolcall-zh.jsonl"])("%s comes back as it is", (name) => {
    const path = fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
    for (const line of readFileSync(path, "utf8").trimEnd().split("\n")) {
      const conversation = read(line);
      expect(conversation.warnings).toEqual([]);
      const source = JSON.parse(line) as { messages?: unknown };
      expect(JSON.parse(shown(conversation, "source"))).toEqual(source);
      if (source.messages) {
        expect(JSON.parse(shown(conversation, "openai"))).toEqual({ messages: source.messages });
      }
    }
  });
});
