// Text comes back exactly: nothing trimmed, normalised, replaced or cut, U+0000 included.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type NewMessage, Role } from "../../../gen/agentstore/v1/messages.js";
import { text } from "../../harness/histories.js";
import { withClient } from "../../harness/postgres.js";
import { startServer, type TestServer } from "../../harness/server.js";
import { newMessage, Stubs } from "../../harness/stubs.js";

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

// Bytes, because what a terminal or a diff shows as the same may not be.
function bytesOf(message: NewMessage): string[] {
  const texts = [
    message.content,
    message.name,
    message.toolCallId,
    message.payload,
    message.payloadType,
    ...message.toolCalls.flatMap((call) => [call.id, call.name, call.arguments]),
  ];
  return texts.map((value) => Buffer.from(value).toString("hex"));
}

const anywhere = fc.record({ at: fc.nat({ max: 40 }), value: text });

/** A text with U+0000 somewhere in it. */
const withNul = anywhere.map(({ at, value }) => {
  const characters = [...value].slice(0, 90);
  characters.splice(at % (characters.length + 1), 0, "\0");
  return characters.join("");
});

const anyText = fc.oneof(
  withNul,
  text.map((value) => [...value].slice(0, 90).join("")),
);

const assistant = fc
  .record({
    content: anyText,
    name: anyText,
    payload: anyText,
    payloadType: anyText.map((value) => value || "p"),
    toolCalls: fc.array(fc.record({ id: anyText, name: anyText, arguments: anyText }), {
      maxLength: 3,
    }),
  })
  .map((fields) => newMessage({ ...fields, role: Role.ASSISTANT }));

const tool = fc
  .record({ content: anyText, name: anyText, toolCallId: anyText })
  .map((fields) => newMessage({ ...fields, role: Role.TOOL }));

test("every text field, by every way in and every way out", async () => {
  const batches = fc.array(fc.oneof(assistant, tool), { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(batches, async (messages) => {
      const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
      const conversationId = session!.id;
      const sent = [...messages, messages[0]!].map(bytesOf);
      const batch = { conversationId, messages, requestId: "batch" };
      const single = { conversationId, message: messages[0]!, requestId: "single" };
      const ways = {
        answered: [
          ...(await stubs.call("addMessages", batch)).messages,
          (await stubs.call("addMessage", single)).message!,
        ],
        replayed: [
          ...(await stubs.call("addMessages", batch)).messages,
          (await stubs.call("addMessage", single)).message!,
        ],
        paged: (await stubs.call("getMessages", { conversationId })).messages,
        streamed: (await stubs.readStream({ conversationId })).flatMap((page) => page.messages),
        fetched: await Promise.all(
          sent.map(async (_, index) => {
            const seq = BigInt(index + 1);
            return (await stubs.call("getMessage", { conversationId, seq })).message!;
          }),
        ),
      };
      for (const [way, read] of Object.entries(ways)) {
        expect(read.map(bytesOf), way).toEqual(sent);
      }
    }),
    { numRuns: 60, interruptAfterTimeLimit: 15_000 },
  );
});

test("the searchable text has U+FFFD for U+0000, and is found around it", async () => {
  const { session } = await stubs.call("createSession", { modelId: "searched" });
  const conversationId = session!.id;
  const content = "needle one\0\0needle two 针";
  await stubs.call("addMessage", { conversationId, message: newMessage({ content }) });
  const stored = await withClient(server.databaseUrl, async (client) => {
    const query = "SELECT content FROM conversation_messages WHERE conversation_id = $1";
    return (await client.query<{ content: string }>(query, [conversationId])).rows;
  });
  expect(stored).toEqual([{ content: content.replaceAll("\0", "\uFFFD") }]);
  for (const query of ["needle one", "needle two", "NEEDLE", "针", "one\uFFFD\uFFFDneedle"]) {
    const { results } = await stubs.call("searchMessages", { modelId: "searched", query });
    expect(results.map(({ message }) => message?.content)).toEqual([content]);
  }
  const { stats } = await stubs.call("getSessionStats", { conversationId });
  expect(stats?.totalCharacters).toBe(24n);
});

test("four mebibytes of the hardest text", async () => {
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  const conversationId = session!.id;
  const unit = '\0😀e\u0301\uFEFF\r\n\\"';
  const content = unit.repeat(Math.floor((4_194_304 - 100) / Buffer.byteLength(unit)));
  const message = newMessage({ content });
  const added = await stubs.call("addMessage", { conversationId, message });
  const read = await stubs.call("getMessage", { conversationId, seq: 1n });
  for (const back of [added.message, read.message]) {
    expect(Buffer.from(back!.content).equals(Buffer.from(content))).toBe(true);
  }
});
