// The memory of a response is nobody else's until it is taken.
import fc from "fast-check";
import { expect, test } from "vitest";
import { ProtobufBuffer } from "../../server/messages/wire/protobuf-buffer.js";
import type { Encoded } from "../../server/rpc/method.js";
import { varint } from "../harness/wire.js";

const KEY = (1 << 3) | 2;

test("responses that are written, finished, sent and dropped in any order", () => {
  const step = fc.record({
    what: fc.constantFrom("begin", "write", "finish", "take", "drop"),
    which: fc.nat(),
    length: fc.oneof(fc.nat({ max: 300 }), fc.nat({ max: 100_000 })),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const written: { out: ProtobufBuffer; expected: Buffer[] }[] = [];
      const finished: { encoded: Encoded<never>; expected: Buffer[] }[] = [];
      const take = ({ encoded, expected }: (typeof finished)[number]) => {
        expect(encoded.take().equals(Buffer.concat(expected))).toBe(true);
      };
      for (const [index, { what, which, length }] of steps.entries()) {
        const open = which % Math.max(1, written.length);
        const waiting = which % Math.max(1, finished.length);
        if (what === "begin") written.push({ out: new ProtobufBuffer(), expected: [] });
        else if (what === "take") finished.splice(waiting, 1).forEach(take);
        else if (what === "drop") finished.splice(waiting, 1);
        else if (what === "finish") {
          for (const { out, expected } of written.splice(open, 1)) {
            finished.push({ encoded: out.finish(), expected });
          }
        } else if (open < written.length) {
          const { out, expected } = written[open]!;
          const bytes = Buffer.alloc(length, index + 1);
          out.bytes(KEY, bytes);
          expected.push(Buffer.from([KEY]), varint(length), bytes);
        }
      }
      finished.forEach(take);
    }),
    { numRuns: 500 },
  );
});

test("a response can be taken once", () => {
  const encoded = new ProtobufBuffer().finish();
  encoded.take();
  expect(() => encoded.take()).toThrow("missing");
});
