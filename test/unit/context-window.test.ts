// Which messages of a session LoadContext chooses, held against the same rules without a shortcut.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AgentMessage, type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { ToolCallPairing } from "../../server/context/tool-calls.js";
import { measure, selectWindow, totalOf } from "../../server/context/window.js";
import { charactersOf, expectedContext, tokensOf } from "../harness/context-rules.js";
import { newMessage } from "../harness/stubs.js";
import { transcript } from "../harness/transcripts.js";

const ANY = { characters: undefined, tokens: undefined };

function stored(messages: NewMessage[]): AgentMessage[] {
  return messages.map(({ embedding: _, ...message }, index) =>
    AgentMessage.fromPartial({ ...message, seq: BigInt(index + 1) }),
  );
}

function assistant(...ids: string[]): NewMessage {
  const toolCalls = ids.map((id) => ({ id, name: "f", arguments: "{}" }));
  return newMessage({ role: Role.ASSISTANT, toolCalls });
}

const tool = (toolCallId: string) => newMessage({ role: Role.TOOL, toolCallId, content: "ok" });
const user = () => newMessage({ content: "user" });

function openCalls(messages: NewMessage[]): string[] {
  const pairing = new ToolCallPairing();
  for (const message of stored(messages)) pairing.take(message);
  return pairing.open().map(({ seq, toolCallId }) => `${seq}:${toolCallId}`);
}

test("a message's size is its characters and tokens", () => {
  fc.assert(
    fc.property(transcript(4), (messages) => {
      for (const message of stored(messages)) {
        const { characters, tokens } = measure(message);
        expect([Number(characters), Number(tokens)]).toEqual([
          charactersOf(message),
          tokensOf(message),
        ]);
      }
    }),
  );
});

test("the window is the longest end of the session that fits, and reading on changes nothing", () => {
  const budget = fc.option(fc.integer({ min: 1, max: 400 }), { nil: 0 });
  fc.assert(
    fc.property(transcript(20), budget, budget, (messages, maxCharacters, maxTokens) => {
      // The leading system messages are no part of what the window is chosen from.
      const session = messages.filter(({ role }) => role !== Role.SYSTEM);
      const tail = stored(session).map(measure);
      const most = {
        characters: maxCharacters === 0 ? undefined : BigInt(maxCharacters),
        tokens: maxTokens === 0 ? undefined : BigInt(maxTokens),
      };
      const limits = { maxMessages: 1_000, maxCharacters, maxTokens };
      const expected = expectedContext(session, limits)!.map((index) => BigInt(index + 1));
      const whole = selectWindow(tail, most);
      expect(whole.messages.map(({ message }) => message.seq)).toEqual(expected);
      for (let length = 0; length < tail.length; length++) {
        const part = selectWindow(tail.slice(tail.length - length), most);
        if (part.isFull) expect(part.messages).toEqual(whole.messages);
      }
    }),
    { numRuns: 500 },
  );
});

test("a turn's results count with its call, wherever they stand", () => {
  const tail = stored([user(), assistant("a", "b"), user(), tool("b"), user(), tool("a")]).map(
    measure,
  );
  const seqs = (characters: bigint | undefined) =>
    selectWindow(tail, { ...ANY, characters }).messages.map(({ message }) => Number(message.seq));
  expect(seqs(undefined)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(seqs(18n)).toEqual([2, 3, 4, 5, 6]);
  // One character less, and the turn is left out with its results; what was said meanwhile is not.
  expect(seqs(17n)).toEqual([3, 5]);
  expect(seqs(7n)).toEqual([5]);
  expect(seqs(3n)).toEqual([]);
});

test("results without an id stay with what they follow", () => {
  const tail = stored([user(), assistant("a"), tool(""), tool("")]).map(measure);
  const { messages } = selectWindow(tail, ANY);
  expect(messages).toHaveLength(4);
  const { characters } = totalOf(tail.slice(1));
  expect(selectWindow(tail, { ...ANY, characters }).messages).toHaveLength(3);
  expect(selectWindow(tail, { ...ANY, characters: characters - 1n }).messages).toEqual([]);
});

describe("calls without an answer", () => {
  test.each<[string, NewMessage[], string[]]>([
    ["all answered, out of order", [assistant("a", "b"), tool("b"), tool("a")], []],
    ["some answered", [assistant("a", "b", "c"), tool("b")], ["1:a", "1:c"]],
    ["answered late", [assistant("a"), user(), assistant("b"), tool("b"), tool("a")], []],
    ["several turns", [assistant("a"), user(), assistant("b")], ["1:a", "3:b"]],
    ["an answer before its call", [tool("a"), assistant("a")], ["2:a"]],
    ["an answer to nothing", [tool("x"), assistant("a"), tool("y")], ["2:a"]],
    ["an id used again", [assistant("a"), assistant("a"), tool("a")], ["1:a"]],
    ["one id twice in a turn", [assistant("a", "a"), tool("a")], ["1:a"]],
    ["an answer without an id", [assistant("a", "b"), tool("")], ["1:b"]],
    ["calls without ids", [assistant("", ""), tool("")], ["1:"]],
    ["a call without an id first", [assistant(""), assistant("a"), tool("")], ["2:a"]],
  ])("%s", (_, messages, expected) => {
    expect(openCalls(messages)).toEqual(expected);
  });

  test("are all closed by one answer each, in their order", () => {
    fc.assert(
      fc.property(transcript(20), (messages) => {
        const open = openCalls(messages);
        const answers = open.map((call) => tool(call.slice(call.indexOf(":") + 1)));
        expect(openCalls([...messages, ...answers])).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });
});
