// Imports what `agentstore export` wrote, in streams of some sessions each.
import { createHash } from "node:crypto";
import {
  type AgentStoreClient,
  type ImportedSession,
  InvalidImportError,
} from "../../client/index.js";
import { type Line, readLines } from "../../server/lines.js";
import { CliError } from "../errors.js";
import type { Input } from "./input.js";

/** Where an import tells what happens. */
export interface ExportFileEvents {
  /** These sessions are in the store, and so many bytes of the file are done. */
  sessions(sessions: ImportedSession[], messages: bigint, bytes: number): Promise<void>;
}

/** Sessions in one stream: what a failure makes the server look through again. */
const SESSIONS_AT_ONCE = 1_000;
const MAX_LINE_BYTES = 32 * 1024 * 1024;
const END = /^\s*\{\s*"end"\s*:/;

/**
 * Imports a file.
 *
 * @param importId undefined: one that follows from the file's header, so that the same file again is
 *   the same import
 * @throws CliError which names the line that is not acceptable
 * @throws AgentStoreError when the store cannot be reached or is full
 */
export async function importExportFile(
  store: AgentStoreClient,
  input: Input,
  importId: string | undefined,
  signal: AbortSignal,
  events: ExportFileEvents,
): Promise<void> {
  const lines = readLines(input.open(signal), MAX_LINE_BYTES);
  const header = await lines.next();
  if (header.done) return;
  const id = importId ?? `export:${createHash("sha256").update(header.value.bytes).digest("hex")}`;
  let next = await lines.next();
  while (!next.done) {
    let last: Line = next.value;
    // Of the lines in this stream, in the file.
    const numbers: number[] = [header.value.number];
    let sessions = 0;
    const batch = async function* (): AsyncGenerator<Buffer, void, undefined> {
      yield withBreak(header.value.bytes);
      while (!next.done && sessions < SESSIONS_AT_ONCE) {
        last = next.value;
        if (last.tooLong) {
          throw new CliError(`${input.name}:${last.number}: the line is too long`);
        }
        numbers.push(last.number);
        yield withBreak(last.bytes);
        if (END.test(last.bytes.toString("latin1", 0, 100))) sessions++;
        next = await lines.next();
      }
    };
    try {
      const done = await store.importSessions(id, batch(), { signal });
      await events.sessions(done.sessions, done.messages, last.endOffset);
    } catch (error) {
      throw error instanceof InvalidImportError ? atLine(error, input.name, numbers) : error;
    }
  }
}

function withBreak(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.from("\n")]);
}

function atLine(error: InvalidImportError, file: string, numbers: number[]): CliError {
  const line = numbers[Number(error.line ?? 0n) - 1] ?? (numbers.at(-1) ?? 0) + 1;
  const what = error.message.replace(/^line \d+: /, "");
  return new CliError(`${file}:${line}: ${what}`, "The sessions before it are imported.");
}
