// Exports and imports: files of sessions that go over the wire in pieces.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import {
  type ExportSessionsRequest,
  type ExportSessionsResponse,
  ExportFormat as WireFormat,
} from "../gen/agentstore/v1/transfer.js";
import { readAttempt } from "./attempt.js";
import type { Connection, LogicalCall } from "./connection.js";
import { timeout } from "./connection-string.js";
import { InvalidFieldError } from "./errors.js";
import { int64, list, text, textOrEmpty } from "./fields.js";
import { filterToWire } from "./session-filter.js";
import type {
  ExportedPiece,
  ExportFormat,
  ExportSessionsOptions,
  ImportSessionsOptions,
  ImportSummary,
} from "./transfer-types.js";

const FORMATS: ReadonlyMap<string, WireFormat> = new Map([
  ["jsonl", WireFormat.JSONL],
  ["json", WireFormat.JSON],
  ["csv", WireFormat.CSV],
  ["openai", WireFormat.OPENAI],
]);

const CHUNK_BYTES = 1024 * 1024;

export function exportSessions(
  connection: Connection,
  format: ExportFormat,
  options: ExportSessionsOptions,
): AsyncGenerator<ExportedPiece, void, undefined> {
  const wireFormat = FORMATS.get(format);
  if (wireFormat === undefined) {
    throw InvalidFieldError.of("format", `must be one of ${[...FORMATS.keys()].join(", ")}`);
  }
  const request: ExportSessionsRequest = {
    format: wireFormat,
    conversationIds: list(options.conversationIds ?? [], "conversation_ids").map((id, index) =>
      int64(id, `conversation_ids[${index}]`),
    ),
    modelId: textOrEmpty(options.modelId, "model_id"),
    filter: options.filter && filterToWire(options.filter),
    resumeToken: textOrEmpty(options.resumeToken, "resume_token"),
  };
  const idleMs = timeout(options.idleTimeoutMs, "idleTimeoutMs") ?? connection.timeoutMs;
  const timeoutMs = timeout(options.timeoutMs, "timeoutMs") ?? Number.POSITIVE_INFINITY;
  const call = connection.begin(AgentStoreService.exportSessions);
  return resuming(connection, call, request, { idleMs, timeoutMs, signal: options.signal });
}

// Goes on by itself where a break loses nothing: before the first piece, and behind a whole session.
async function* resuming(
  connection: Connection,
  call: LogicalCall<ExportSessionsResponse>,
  first: ExportSessionsRequest,
  { idleMs, timeoutMs, signal }: Bounds,
): AsyncGenerator<ExportedPiece, void, undefined> {
  const scope = connection.open(call, timeoutMs, signal);
  let request = first;
  let sessions = 0n;
  let whole = true;
  let failures = 0;
  let waitingSince = Date.now();
  try {
    for (let attempts = 1; ; attempts++) {
      const before = sessions;
      try {
        const attempt = { method: AgentStoreService.exportSessions, call, request, idleMs, scope };
        for await (const piece of readAttempt(connection, attempt)) {
          const { chunk, resumeToken } = piece;
          sessions = before + piece.sessions;
          failures = 0;
          whole = resumeToken !== "";
          if (whole) request = { ...request, resumeToken };
          yield { bytes: chunk, resumeToken, sessions };
          waitingSince = Date.now();
        }
        return;
      } catch (failure) {
        const error = connection.failed(failure, call, attempts, scope);
        if (!whole) throw error;
        const until = Math.min(scope.deadline, waitingSince + 2 * idleMs);
        await connection.pause(error, call, ++failures, scope, until);
      }
    }
  } finally {
    scope.close();
  }
}

interface Bounds {
  idleMs: number;
  timeoutMs: number;
  signal: AbortSignal | undefined;
}

export async function importSessions(
  connection: Connection,
  importId: string,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: ImportSessionsOptions,
): Promise<ImportSummary> {
  if (text(importId, "import_id") === "") throw InvalidFieldError.of("import_id", "is required");
  const timeoutMs = timeout(options.timeoutMs, "timeoutMs") ?? Number.POSITIVE_INFINITY;
  const method = AgentStoreService.importSessions;
  const call = connection.begin(method);
  const scope = connection.open(call, timeoutMs, options.signal);
  const upload = connection.upload(call, scope);
  try {
    let first = true;
    for await (const chunk of pieces(source)) {
      const message = { importId: first ? importId : "", chunk };
      first = false;
      // Whatever the server has to say ends the sending.
      if (!(await upload.send(method.requestSerialize(message)))) break;
    }
    if (first) await upload.send(method.requestSerialize({ importId, chunk: Buffer.alloc(0) }));
    upload.end();
    const { sessions, messages } = await upload.response;
    return { sessions, messages };
  } catch (failure) {
    upload.cancel();
    throw isThrown(failure) ? failure : connection.failed(failure, call, 1, scope);
  } finally {
    scope.close();
  }
}

// What the source throws is the caller's own.
function isThrown(failure: unknown): boolean {
  return !(failure instanceof Error && "code" in failure && "metadata" in failure);
}

async function* pieces(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const part of source) {
    if (!(part instanceof Uint8Array)) {
      throw new TypeError("an import's source gives bytes: Buffers or Uint8Arrays");
    }
    const bytes = Buffer.from(part.buffer, part.byteOffset, part.byteLength);
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      yield bytes.subarray(at, at + CHUNK_BYTES);
    }
  }
}
