// kill -9 of the server and of Postgres, again and again, in the middle of concurrent appends.
import { randomInt } from "node:crypto";
import { expect, test } from "vitest";
import { runChaos } from "../harness/chaos.js";

// CHAOS_ROUNDS=200 for a long run; CHAOS_SEED repeats the victims and moments of an earlier one.
const rounds = Number(process.env.CHAOS_ROUNDS ?? 12);
const seed = Number(process.env.CHAOS_SEED ?? randomInt(2 ** 31));

test(
  `after ${rounds} kills all that was acknowledged is there, once and in order`,
  async () => {
    process.stdout.write(`chaos: ${rounds} kills, CHAOS_SEED=${seed}\n`);
    const report = await runChaos(rounds, seed);
    process.stdout.write(`chaos: ${JSON.stringify(report)}\n`);
    expect(Object.values(report.kills).reduce((sum, kills) => sum + kills)).toBe(rounds);
    // The kills did hit appends.
    expect(report.retried).toBeGreaterThan(0);
  },
  60_000 + rounds * 15_000,
);
