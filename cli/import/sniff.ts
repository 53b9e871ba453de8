// Tells exports of a store from conversations of other programs, by their first line.
import type { Input } from "./input.js";

/** What an input holds: an export in JSONL, or conversations, one a line. */
export type Form = "agentstore" | "conversations";

/** An input whose form is known. */
export interface SniffedInput {
  input: Input;
  form: Form;
}

const ENOUGH_BYTES = 4096;
const NEWLINE = 0x0a;
const HEADER = /^\uFEFF?\s*\{\s*"header"\s*:\s*\{[^}]*"schemaVersion"\s*:/;

/** Reads the beginning of an input; what is returned gives all of it. */
export async function sniff(input: Input, signal: AbortSignal): Promise<SniffedInput> {
  // Whoever reads on may stop for a reason of its own.
  const stopped = new AbortController();
  const either = AbortSignal.any([signal, stopped.signal]);
  const rest = input.open(either)[Symbol.asyncIterator]();
  const begun: Buffer[] = [];
  let bytes = 0;
  while (bytes < ENOUGH_BYTES) {
    const next = await rest.next();
    if (next.done) break;
    begun.push(next.value);
    bytes += next.value.length;
    // More may not come before what is there has been dealt with.
    if (next.value.includes(NEWLINE)) break;
  }
  const beginning = Buffer.concat(begun).subarray(0, ENOUGH_BYTES).toString();
  const form = HEADER.test(beginning) ? "agentstore" : "conversations";
  if (input.size !== undefined) {
    // A file is opened again when its turn comes: there may be thousands.
    await rest.return?.();
    return { input, form };
  }
  async function* open(until: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    const stop = (): void => stopped.abort(until.reason);
    until.addEventListener("abort", stop, { once: true });
    try {
      yield* begun.splice(0);
      for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
    } finally {
      until.removeEventListener("abort", stop);
      await rest.return?.();
    }
  }
  return { input: { ...input, open }, form };
}
