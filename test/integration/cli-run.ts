// Runs the built `agentstore` command as a child process.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { projectRoot } from "../../server/paths.js";

/** How a command ended. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A command that runs. */
export interface Running {
  child: ChildProcessWithoutNullStreams;
  /** Lines of stdout as they come. */
  lines: AsyncIterator<string>;
  ended: Promise<Ended>;
}

const MAIN = `${projectRoot}/dist/cli/main.js`;

/** Starts the command. Its environment has no AGENTSTORE_ variables but those given. */
export function start(args: readonly string[], env: Record<string, string> = {}): Running {
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH, HOME, ...env } });
  // A command that ends early closes its stdin under the writer.
  child.stdin.on("error", () => {});
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, "close").then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
    ...output,
  }));
  return { child, lines, ended };
}

/** Runs the command to its end. */
export async function run(
  args: readonly string[],
  env: Record<string, string> = {},
  input: string | Buffer = "",
): Promise<Ended> {
  const { child, ended } = start(args, env);
  child.stdin.end(input);
  return ended;
}

/** The JSON documents of an output, one a line. */
export function jsonLines<T>(text: string): T[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as T);
}
