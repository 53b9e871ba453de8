// Answers to appends, and the events that tell of them, are those that the generated encoder writes.
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  AddMessageResponse,
  AddMessagesResponse,
  AgentMessage,
  MessageView,
} from "../../gen/agentstore/v1/messages.js";
import { WatchSessionResponse } from "../../gen/agentstore/v1/watch.js";
import { encodeAppendAnswer } from "../../server/messages/wire/append-answer.js";
import { encodeAppended } from "../../server/watch/appended-event.js";

const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: -300n, max: 300n }),
  fc.nat({ max: 62 }).chain((bit) => fc.constantFrom(2n ** BigInt(bit) - 1n, 2n ** BigInt(bit))),
);
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }).map((value) => value.toWellFormed()),
  fc.constantFrom("", "\0", "a".repeat(127), "é".repeat(64), "漢".repeat(20_000)),
  fc.constantFrom(16_383, 16_384, 70_000).map((length) => "x".repeat(length)),
);
const message = fc.record<AgentMessage>({
  id: int64,
  conversationId: int64,
  role: fc.constantFrom(0, 1, 2, 3, 4),
  content: text,
  timestampMs: int64,
  seq: int64,
  name: text,
  toolCalls: fc.array(fc.record({ id: text, name: text, arguments: text }), { maxLength: 3 }),
  toolCallId: text,
  payload: text,
  payloadType: text,
  metadata: fc.option(fc.dictionary(text, fc.jsonValue({ maxDepth: 3 }), { maxKeys: 4 }), {
    nil: undefined,
  }),
  usage: fc.option(
    fc.record({
      inputTokens: int64,
      outputTokens: int64,
      cachedTokens: int64,
      reasoningTokens: int64,
      costMicros: int64,
    }),
    { nil: undefined },
  ),
  revision: int64,
  version: int64,
});
const etag = fc.constantFrom("", "p1Zb0kqXw3sYc8Rd");

const messagesOf = fc.array(message, { maxLength: 5 });

test.each([MessageView.UNSPECIFIED, MessageView.FULL])("in the view %i", (view) => {
  fc.assert(
    fc.property(messagesOf, fc.boolean(), etag, (messages, replayed, stateEtag) => {
      const all = encodeAppendAnswer({ messages, replayed, stateEtag }, view).take();
      const expected = AddMessagesResponse.encode({ messages, replayed, stateEtag }).finish();
      expect(all.equals(expected)).toBe(true);
      const [one] = messages;
      if (!one) return;
      const single = encodeAppendAnswer({ messages: [one], replayed, stateEtag }, view).take();
      const response = AddMessageResponse.encode({ message: one, replayed, stateEtag }).finish();
      expect(single.equals(response)).toBe(true);
    }),
  );
});

test("in an event", () => {
  fc.assert(
    fc.property(message, (value) => {
      const { conversationId, revision } = value;
      const event = { $case: "messageAppended", value } as const;
      const events = [{ conversationId, revision, event }];
      const expected = WatchSessionResponse.encode({ events }).finish();
      expect(encodeAppended(value).bytes.equals(expected)).toBe(true);
    }),
  );
});

test("in the view KEYS, with no more than what the server gave", () => {
  fc.assert(
    fc.property(messagesOf, fc.boolean(), etag, (messages, replayed, stateEtag) => {
      const keys = messages.map(({ id, conversationId, seq, timestampMs, revision }) =>
        AgentMessage.fromPartial({ id, conversationId, seq, timestampMs, revision }),
      );
      const encoded = encodeAppendAnswer(
        { messages, replayed, stateEtag },
        MessageView.KEYS,
      ).take();
      const expected = AddMessagesResponse.encode({ messages: keys, replayed, stateEtag }).finish();
      expect(encoded.equals(expected)).toBe(true);
    }),
  );
});
