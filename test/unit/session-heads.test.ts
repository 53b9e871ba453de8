// What a server remembers of how sessions stand, and when it stops to rely on it.
import { expect, test } from "vitest";
import { limits } from "../../server/config.js";
import { SessionHeads } from "../../server/messages/session-heads.js";

const head = (id: bigint, lastSeq = 1n) => ({
  id,
  tenant_id: "default",
  last_seq: lastSeq,
  revision: 2n,
  message_count: lastSeq,
  fencing_token: 0n,
});

test("guesses where all sessions are remembered", () => {
  const heads = new SessionHeads();
  expect(heads.guess([1n])).toBeUndefined();
  heads.learn([head(1n), head(2n)]);
  heads.learn([head(2n, 5n)]);
  expect(heads.guess([2n, 1n])).toEqual([head(2n, 5n), head(1n)]);
  expect(heads.guess([1n, 3n])).toBeUndefined();
});

test("remembers so many sessions, those that were written last", () => {
  const heads = new SessionHeads();
  const most = limits.rememberedSessions;
  heads.learn(Array.from({ length: most }, (_, n) => head(BigInt(n))));
  heads.learn([head(0n), head(BigInt(most))]);
  expect(heads.guess([0n])).toBeDefined();
  expect(heads.guess([1n])).toBeUndefined();
  expect(heads.guess([2n, BigInt(most)])).toBeDefined();
});

test("guesses less often the more guesses in a row were wrong, and anew after a right one", () => {
  const heads = new SessionHeads();
  const groupsUntilGuess = () => {
    heads.learn([head(1n)]);
    let groups = 0;
    while (heads.guess([1n]) === undefined) groups++;
    return groups;
  };
  const waits = Array.from({ length: 9 }, () => {
    heads.forget([1n]);
    return groupsUntilGuess();
  });
  expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 64, 64]);
  heads.confirm();
  heads.forget([1n]);
  expect(groupsUntilGuess()).toBe(1);
});
