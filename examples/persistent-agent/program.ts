// What each program of the demo does at its end: it cleans up when interrupted, and says what went
// wrong and what to do about it.
import { UnauthenticatedError, UnavailableError } from "@agentstore/client";
import { ChatError } from "@agentstore/client/agent";

/** An error that a person can act on. */
export class DemoError extends Error {
  /** What to do about it. */
  readonly hint: string;

  constructor(message: string, hint = "") {
    super(message);
    this.hint = hint;
  }
}

/** Runs a program. Its signal aborts on Ctrl-C, when it is asked to end, and when nobody reads on. */
export async function runProgram(program: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.once(signal, () => interrupt.abort());
  }
  // The reader of the output has left, as in `npm run demo | head`.
  process.stdout.on("error", () => interrupt.abort());
  try {
    await program(interrupt.signal);
  } catch (error) {
    process.exitCode = interrupt.signal.aborted ? 130 : 1;
    if (interrupt.signal.aborted) return;
    const hint = hintFor(error);
    process.stderr.write(`\nerror: ${error instanceof Error ? error.message : String(error)}\n`);
    if (hint !== "") process.stderr.write(`  ${hint}\n`);
  }
}

function hintFor(error: unknown): string {
  if (error instanceof DemoError) return error.hint;
  if (error instanceof ChatError) {
    return "Check OPENAI_API_KEY, OPENAI_MODEL and OPENAI_BASE_URL; the next run goes on from here.";
  }
  if (error instanceof UnauthenticatedError) {
    return "Set AGENTSTORE_TOKEN to a token that the server accepts.";
  }
  if (error instanceof UnavailableError && process.env["AGENTSTORE_URL"]) {
    return "AGENTSTORE_URL names this server. Without it, the demo starts a server itself.";
  }
  return "";
}
