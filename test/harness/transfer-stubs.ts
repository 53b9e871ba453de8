// The generated stubs of ExportSessions and ImportSessions, with failures decoded.
import { type ClientReadableStream, type Client as GrpcClient, Metadata } from "@grpc/grpc-js";
import { errorFromStatus, isEndStatus } from "../../client/status.js";
import { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import {
  ExportSessionsRequest,
  type ExportSessionsResponse,
  ImportSessionsRequest,
  type ImportSessionsResponse,
} from "../../gen/agentstore/v1/transfer.js";

/** Opens an export; whoever reads it hears of its end. */
export function openExport(
  channel: GrpcClient,
  request: Partial<ExportSessionsRequest>,
): ClientReadableStream<ExportSessionsResponse> {
  const method = AgentStoreService.exportSessions;
  const stream = channel.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    ExportSessionsRequest.fromPartial(request),
    new Metadata(),
  );
  stream.on("error", () => {});
  return stream;
}

/** Reads what an export sends; throws its failure as an AgentStoreError. */
export async function* piecesOf(
  stream: ClientReadableStream<ExportSessionsResponse>,
): AsyncGenerator<ExportSessionsResponse, void, undefined> {
  try {
    yield* stream as AsyncIterable<ExportSessionsResponse>;
  } catch (failure) {
    throw isEndStatus(failure) ? errorFromStatus(failure, {}) : failure;
  }
}

/** An import that is being sent. */
export interface OpenImport {
  /** Sends a chunk; resolves when there is room for the next one. */
  write(chunk: Buffer): Promise<void>;
  end(): void;
  cancel(): void;
  answer: Promise<ImportSessionsResponse>;
}

/** Opens an import. */
export function openImport(channel: GrpcClient, importId: string): OpenImport {
  const method = AgentStoreService.importSessions;
  let respond: (failure: unknown, response: ImportSessionsResponse | undefined) => void = () => {};
  const answer = new Promise<ImportSessionsResponse>((resolve, reject) => {
    respond = (failure, response) => {
      if (failure) reject(isEndStatus(failure) ? errorFromStatus(failure, {}) : failure);
      else resolve(response!);
    };
  });
  answer.catch(() => {});
  const open = channel.makeClientStreamRequest(
    method.path,
    (request: ImportSessionsRequest) => method.requestSerialize(request),
    method.responseDeserialize,
    new Metadata(),
    (failure, response) => respond(failure, response),
  );
  open.on("error", () => {});
  let first = true;
  return {
    answer,
    write(chunk) {
      const request = ImportSessionsRequest.fromPartial({ importId: first ? importId : "", chunk });
      first = false;
      return new Promise((resolve) => {
        open.write(request, () => resolve());
      });
    },
    end: () => open.end(),
    cancel: () => open.cancel(),
  };
}

/** Sends a whole import. */
export async function importAll(
  channel: GrpcClient,
  importId: string,
  bytes: Buffer,
): Promise<ImportSessionsResponse> {
  const open = openImport(channel, importId);
  const size = 1024 * 1024;
  for (let at = 0; at < Math.max(bytes.length, 1); at += size) {
    await open.write(bytes.subarray(at, at + size));
  }
  open.end();
  return await open.answer;
}

/** Reads a whole export. */
export async function exportAll(
  channel: GrpcClient,
  request: Partial<ExportSessionsRequest>,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const { chunk } of piecesOf(openExport(channel, request))) chunks.push(chunk);
  return Buffer.concat(chunks);
}
