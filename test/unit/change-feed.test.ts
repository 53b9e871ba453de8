// The feed of changes: what it does behind the back of whoever makes one.
import { expect, test } from "vitest";
import { ChangeFeed } from "../../server/changes/feed.js";
import type { Database } from "../../server/db/database.js";
import { makeLogger } from "../../server/log.js";

test("other servers are told when the answers have gone, once for many changes", async () => {
  let told = 0;
  const isTold = new Promise<void>((resolve) => {
    const query = async () => {
      told++;
      resolve();
      return [];
    };
    const feed = new ChangeFeed({ query } as unknown as Database, makeLogger("silent"), true);
    for (let n = 0; n < 10; n++) feed.changed();
  });
  await new Promise(process.nextTick);
  expect(told).toBe(0);
  // The feed's own timers do not keep a process alive.
  const alive = setInterval(() => {}, 1_000);
  await isTold;
  clearInterval(alive);
  expect(told).toBe(1);
});
