// Makes gen/ of proto/: the stubs, with one correction, and the descriptor set.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { succeeds } from "./run.mjs";

// ts-proto cuts towards zero, which gives a time before 1970 negative nanos; they have to be
// 0 to 999,999,999 (google/protobuf/timestamp.proto), and other languages refuse such a message.
const CUT = `  const seconds = BigInt(Math.trunc(date.getTime() / 1_000));
  const nanos = (date.getTime() % 1_000) * 1_000_000;
`;
const FLOORED = `  const seconds = BigInt(Math.floor(date.getTime() / 1_000));
  const nanos = (((date.getTime() % 1_000) + 1_000) % 1_000) * 1_000_000;
`;

/**
 * Generates.
 *
 * @param {string} directory the directory that gets or has `gen`
 * @returns {boolean} whether proto/ generates
 * @throws {Error} when ts-proto no longer writes what is corrected here
 */
export function generate(directory) {
  const gen = path.join(directory, "gen");
  const image = path.join(gen, "agentstore.binpb");
  if (!succeeds("buf", ["generate", "-o", directory]) || !succeeds("buf", ["build", "-o", image])) {
    return false;
  }
  const corrected = readdirSync(gen, { recursive: true, encoding: "utf8" }).filter((file) => {
    if (!file.endsWith(".ts")) return false;
    const text = readFileSync(path.join(gen, file), "utf8");
    if (!text.includes(CUT)) return false;
    writeFileSync(path.join(gen, file), text.replaceAll(CUT, FLOORED));
    return true;
  });
  if (corrected.length === 0) {
    throw new Error("ts-proto writes toTimestamp in another way now: see scripts/generate.mjs");
  }
  return true;
}
