// Asks before what cannot be undone.
import { createInterface } from "node:readline/promises";
import { CliError, UsageError } from "./errors.js";

/**
 * Asks on the terminal.
 *
 * @param question without the answers that it takes
 * @throws UsageError without a terminal; CliError when the answer is not yes
 */
export async function confirm(question: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new UsageError("there is no terminal to ask on", "Add --yes to delete without asking.");
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`${question} [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw new CliError("nothing was deleted");
  } catch (error) {
    if ((error as Error).name !== "AbortError") throw error;
    throw new CliError("nothing was deleted");
  } finally {
    terminal.close();
  }
}
