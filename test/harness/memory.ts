// How much memory a process has, and by how much more it grows.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const MIB = 1024 * 1024;

/** The memory of a process that is in use. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}

/**
 * The growth of a process's memory over `before`, sampled until it has stopped growing.
 *
 * @param enough a growth from which on there is no need to look any longer
 */
export async function growthUntilCalm(
  pid: number,
  before: number,
  enough: number,
): Promise<number> {
  let most = 0;
  for (let calm = 0; calm < 8; calm++) {
    await sleep(250);
    const growth = residentBytes(pid) - before;
    if (growth > most + MIB) calm = 0;
    most = Math.max(most, growth);
    if (most > enough) break;
  }
  return most;
}
