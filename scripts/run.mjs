// What the scripts share: where the project is, how its tools are run, how a check fails.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The project's directory. */
export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/**
 * Runs a command of node_modules/.bin in the project's directory, with its output shown.
 *
 * @param {string} tool the command's name
 * @param {string[]} args its arguments
 * @returns {boolean} whether it ended with code 0
 * @throws {Error} when the command cannot be started
 */
export function succeeds(tool, args) {
  const bin = path.join(root, "node_modules", ".bin", tool);
  const { status, error } = spawnSync(bin, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (error) throw new Error(`${tool} does not start; has npm ci been run?`, { cause: error });
  return status === 0;
}

/**
 * Writes lines to stderr and ends the process with code 1.
 *
 * @param {...string} lines what is wrong, and which command puts it right
 * @returns {never}
 */
export function fail(...lines) {
  process.stderr.write(`${lines.join("\n")}\n`);
  process.exit(1);
}
