// Exports and imports: files of sessions that go over the wire in pieces.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import {
  type ExportSessionsRequest,
  type ExportSessionsResponse,
  ExportFormat as WireFormat,
} from "../gen/agentstore/v1/transfer.js";
import type { CallScope } from "./call-scope.js";
import type { Connection, LogicalCall } from "./connection.js";
import { timeout } from "./connection-string.js";
import { InvalidFieldError, UnavailableError } from "./errors.js";
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
        for await (const piece of attempt(connection, call, request, idleMs, scope)) {
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

async function* attempt(
  connection: Connection,
  call: LogicalCall<ExportSessionsResponse>,
  request: ExportSessionsRequest,
  idleMs: number,
  scope: CallScope,
): AsyncGenerator<ExportSessionsResponse, void, undefined> {
  const bytes = AgentStoreService.exportSessions.requestSerialize(request);
  const stream = connection.stream(call, bytes, scope);
  const cancel = (): void => stream.cancel();
  scope.signal.addEventListener("abort", cancel);
  let idle: UnavailableError | undefined;
  const onIdle = (): void => {
    const message = `the export stood still for ${idleMs} ms`;
    idle = new UnavailableError({ code: "UNAVAILABLE", message, callId: call.callId });
    cancel();
  };
  const pieces: AsyncIterator<ExportSessionsResponse> = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      const timer = setTimeout(onIdle, idleMs);
      const piece = await pieces.next().finally(() => clearTimeout(timer));
      if (piece.done) return;
      yield piece.value;
    }
  } catch (failure) {
    throw idle ?? failure;
  } finally {
    scope.signal.removeEventListener("abort", cancel);
    cancel();
  }
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
