// Fails when gen/ is not what `npm run gen` makes of proto/. Generates into a temporary directory
// and compares, so that other changes in the working tree do not matter.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { generate } from "./generate.mjs";
import { fail, root } from "./run.mjs";

const scratch = mkdtempSync(path.join(tmpdir(), "agentstore-gen-"));
process.on("exit", () => rmSync(scratch, { recursive: true }));

if (!generate(scratch)) fail("proto/ does not generate.");
const differences = compare(path.join(root, "gen"), path.join(scratch, "gen"));
if (differences.length > 0) {
  fail("gen/ is stale; run `npm run gen` and commit the result:", ...differences);
}
console.log("gen/ is up to date.");

/**
 * Says how a directory differs from a fresh one.
 *
 * @param {string} committed the directory
 * @param {string} fresh what it should be like
 * @returns {string[]} a line for each file that differs
 */
function compare(committed, fresh) {
  const had = filesIn(committed);
  const made = filesIn(fresh);
  /** @type {(file: string) => boolean} */
  const same = (file) =>
    readFileSync(path.join(committed, file)).equals(readFileSync(path.join(fresh, file)));
  return [
    ...made.filter((file) => !had.includes(file)).map((file) => `  missing: ${file}`),
    ...had.filter((file) => !made.includes(file)).map((file) => `  not generated: ${file}`),
    ...made.filter((file) => had.includes(file) && !same(file)).map((file) => `  differs: ${file}`),
  ];
}

/**
 * Lists the files below a directory, relative to it.
 *
 * @param {string} directory where to look; it need not exist
 * @returns {string[]}
 */
function filesIn(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((file) => statSync(path.join(directory, file)).isFile())
    .toSorted();
}
