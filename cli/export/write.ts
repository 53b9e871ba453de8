// Writes an export to stdout or to a file; one to a file goes on where it was cut off.
import { once } from "node:events";
import { open } from "node:fs/promises";
import {
  type AgentStoreClient,
  AgentStoreError,
  DeadlineExceededError,
  type ExportFormat,
  type ExportSessionsOptions,
  OverloadedError,
  UnavailableError,
} from "../../client/index.js";
import { UsageError } from "../errors.js";
import { ExportProgress } from "./progress.js";

/** What is exported. */
export type What = Pick<ExportSessionsOptions, "conversationIds" | "modelId" | "filter">;

/** Resumptions in a row that bring nothing. */
const PATIENCE = 5;

/** Writes to stdout, as fast as its reader reads. What is cut off there cannot be taken back. */
export async function toStdout(
  store: AgentStoreClient,
  format: ExportFormat,
  what: What,
  signal: AbortSignal,
): Promise<void> {
  for await (const { bytes } of store.exportSessions(format, { ...what, signal })) {
    if (!process.stdout.write(bytes)) await once(process.stdout, "drain");
  }
}

/**
 * Writes a file anew.
 *
 * @throws UsageError when the file cannot be written
 * @throws AgentStoreError when the store cannot be reached any more; the file then ends with a whole
 *   session
 */
export async function toFile(
  store: AgentStoreClient,
  format: ExportFormat,
  what: What,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  const file = await open(path, "w").catch((error: unknown) => {
    throw new UsageError(`${path} cannot be written: ${(error as Error).message}`);
  });
  const progress = new ExportProgress();
  // The file is complete up to here, and goes on with this.
  let whole = { bytes: 0, sessions: 0n, resumeToken: "" };
  try {
    for (let failures = 0; ; ) {
      let at = whole.bytes;
      const before = whole.sessions;
      try {
        const { resumeToken } = whole;
        const pieces = store.exportSessions(format, { ...what, resumeToken, signal });
        for await (const piece of pieces) {
          await file.write(piece.bytes, 0, piece.bytes.length, at);
          at += piece.bytes.length;
          const sessions = before + piece.sessions;
          progress.update(sessions, at);
          if (piece.resumeToken === "") continue;
          whole = { bytes: at, sessions, resumeToken: piece.resumeToken };
          failures = 0;
        }
        break;
      } catch (error) {
        if (!(error instanceof AgentStoreError)) throw error;
        await file.truncate(whole.bytes);
        if (!mayPass(error) || ++failures === PATIENCE || signal.aborted) throw error;
      }
    }
  } finally {
    progress.stop();
    await file.close();
  }
  process.stderr.write(`${progress.describe(whole.sessions, whole.bytes)} in ${path}\n`);
}

function mayPass(error: AgentStoreError): boolean {
  return (
    error instanceof UnavailableError ||
    error instanceof DeadlineExceededError ||
    error instanceof OverloadedError
  );
}
