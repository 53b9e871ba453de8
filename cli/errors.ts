// What the command says and how it exits when something goes wrong.
import { visible } from "./output.js";

/** Exit codes: what was asked for is done; something of it failed; it was asked for wrongly. */
export const exitCodes = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** An error that a person can act on: a line that says what happened and one that says what to do. */
export class CliError extends Error {
  override name = "CliError";
  readonly hint: string;
  readonly exitCode: number;

  constructor(message: string, hint = "", exitCode: number = exitCodes.failed) {
    super(message);
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

/** A command line that makes no sense. */
export class UsageError extends CliError {
  override name = "UsageError";

  constructor(message: string, hint = "") {
    super(message, hint, exitCodes.usage);
  }
}

/** Writes an error to stderr and returns the exit code that belongs to it. */
export function reportError(error: unknown): number {
  const { message, hint, exitCode } = error instanceof CliError ? error : unexpected(error);
  process.stderr.write(`error: ${oneLine(message)}\n`);
  if (hint !== "") process.stderr.write(`  ${oneLine(hint)}\n`);
  return exitCode;
}

function unexpected(error: unknown): CliError {
  return new CliError(error instanceof Error ? error.message : String(error));
}

function oneLine(text: string): string {
  return visible(text.replaceAll(/\s*\n\s*/g, " "));
}
