// ExportSessions and ImportSessions by the generated client, for the tests of both.
import type { Readable } from "node:stream";
import type { ServiceError } from "@grpc/grpc-js";
import {
  ExportFormat,
  ExportSessionsRequest,
  type ExportSessionsResponse,
  type ImportSessionsResponse,
} from "../../gen/agentstore/v1/transfer.js";
import type { Part, Store } from "./store.js";

/** Everything that an export sends. */
export async function exportPieces(
  store: Store,
  request: Part<ExportSessionsRequest>,
): Promise<ExportSessionsResponse[]> {
  const full = ExportSessionsRequest.fromPartial(request as never);
  const stream: Readable = store.client.exportSessions(full, store.metadata());
  const pieces: ExportSessionsResponse[] = [];
  for await (const piece of stream) pieces.push(piece as ExportSessionsResponse);
  return pieces;
}

/** An export as text. */
export async function exportText(
  store: Store,
  request: Part<ExportSessionsRequest>,
): Promise<string> {
  const pieces = await exportPieces(store, request);
  return Buffer.concat(pieces.map(({ chunk }) => chunk)).toString();
}

/** The lines of an export in JSONL, parsed. */
export async function exportLines(
  store: Store,
  request: Part<ExportSessionsRequest>,
): Promise<Record<string, Record<string, unknown>>[]> {
  const text = await exportText(store, { ...request, format: ExportFormat.JSONL });
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, Record<string, unknown>>);
}

/** How an import is sent. */
export interface ImportOptions {
  importId?: string;
  /** How many bytes each message carries. */
  chunkBytes?: number;
  /** Does not end the stream, and goes away when this resolves. */
  until?: () => Promise<void>;
}

/** Sends an import, the chunks as they are cut. */
export function importText(
  store: Store,
  text: string | Buffer,
  { importId = "test", chunkBytes = 64 * 1024, until }: ImportOptions = {},
): Promise<ImportSessionsResponse> {
  const bytes = Buffer.from(text as string);
  return new Promise((resolve, reject) => {
    const call = store.client.importSessions(
      store.metadata(),
      (error: ServiceError | null, response: ImportSessionsResponse) => {
        if (error) reject(error);
        else resolve(response);
      },
    );
    // The callback tells it.
    call.on("error", () => {});
    call.write({ importId, chunk: bytes.subarray(0, chunkBytes) });
    for (let at = chunkBytes; at < bytes.length; at += chunkBytes) {
      call.write({ importId: "", chunk: bytes.subarray(at, at + chunkBytes) });
    }
    if (!until) {
      call.end();
      return;
    }
    until().then(() => call.cancel(), reject);
  });
}

/** Lines of JSONL. */
export function jsonl(lines: unknown[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}
