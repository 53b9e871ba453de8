// Random transcripts with tool calls: answered in any order, late, twice, never, or never asked for.
import fc from "fast-check";
import { type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { newMessage } from "./stubs.js";

/** Few ids, so that they repeat; the empty one is what older tables have. */
const id = fc.constantFrom("a", "b", "c", "d", "");

const content = fc.oneof(
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.constantFrom("", "\0", "你好，世界", "x".repeat(200)),
);

const calls = fc.array(
  fc.record({ id, name: fc.constantFrom("look", "買う"), arguments: content }),
  { minLength: 1, maxLength: 3 },
);

const usage = fc.record({
  inputTokens: fc.bigInt(0n, 9n),
  outputTokens: fc.bigInt(0n, 60n),
  cachedTokens: fc.constant(0n),
  reasoningTokens: fc.constant(0n),
  costMicros: fc.constant(0n),
});

const message: fc.Arbitrary<NewMessage> = fc.oneof(
  {
    weight: 2,
    arbitrary: content.map((said) => newMessage({ role: Role.USER, content: said })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(content, fc.option(usage, { nil: undefined }))
      .map(([said, used]) => newMessage({ role: Role.ASSISTANT, content: said, usage: used })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(content, calls, fc.option(usage, { nil: undefined }))
      .map(([said, toolCalls, used]) =>
        newMessage({ role: Role.ASSISTANT, content: said, toolCalls, usage: used }),
      ),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(content, id)
      .map(([said, toolCallId]) => newMessage({ role: Role.TOOL, content: said, toolCallId })),
  },
  {
    weight: 1,
    arbitrary: content.map((said) => newMessage({ role: Role.SYSTEM, content: said })),
  },
);

/** A transcript of up to so many messages. */
export function transcript(maxLength: number): fc.Arbitrary<NewMessage[]> {
  return fc
    .tuple(
      fc.array(
        content.map((said) => newMessage({ role: Role.SYSTEM, content: said })),
        { maxLength: 3 },
      ),
      fc.array(message, { maxLength }),
    )
    .map(([leading, rest]) => [...leading, ...rest]);
}
