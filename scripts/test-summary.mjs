// Reads vitest's JSON report (first argument) and writes as its last line how many tests passed and
// failed. Ends with the code that vitest ended with (second argument), or with 1 when there is no
// report.
import { existsSync, readFileSync } from "node:fs";
import { fail } from "./run.mjs";

/** @typedef {{ status: string, fullName: string }} Test */
/** @typedef {{ name: string, status: string, assertionResults: Test[] }} File */
/** @typedef {{ testResults: File[] }} Report */

const [file, code] = process.argv.slice(2);
if (!file || !existsSync(file)) fail("The tests did not run to their end: there is no report.");

const report = /** @type {Report} */ (JSON.parse(readFileSync(file, "utf8")));
const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults);
/** @type {(status: string) => number} */
const count = (status) => tests.filter((test) => test.status === status).length;

// A file that cannot be loaded, or whose hooks fail, holds no failed test, but is a failure.
const broken = report.testResults.filter(
  ({ status, assertionResults }) =>
    status === "failed" && !assertionResults.some((test) => test.status === "failed"),
);
for (const { name } of broken) console.log(`failed as a whole: ${name}`);

const passed = count("passed");
const failed = count("failed") + broken.length;
const others = tests.length - passed - count("failed");
if (others > 0) console.log(`${others} skipped`);
if (code !== "0" && failed === 0) {
  console.log(`vitest ended with code ${code} outside of the tests`);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = Number(code);
