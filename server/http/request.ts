// Reads unary requests of the Connect protocol: by POST from the body, by GET from the query.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { overloaded } from "../errors/postgres.js";
import { RpcError } from "../errors/rpc-error.js";
import type { Endpoint } from "./endpoint.js";
import { Refusal } from "./refusal.js";

/** How messages are written. */
export type Encoding = "json" | "proto";

/** How a request is to be read. */
export interface RequestForm {
  encoding: Encoding;
  isGzip: boolean;
  /** The query of a GET; absent for a POST. */
  query: URLSearchParams | undefined;
  /** How long the caller waits, in milliseconds. */
  timeoutMs: number | undefined;
}

/**
 * Looks at the method, headers and query of a request.
 *
 * @throws Refusal for what is not the Connect protocol, or not for this RPC
 */
export function formOf(
  request: IncomingMessage,
  { hasNoSideEffects }: Endpoint,
  query: URLSearchParams,
): RequestForm {
  const isGet = request.method === "GET" && hasNoSideEffects;
  if (!isGet && request.method !== "POST") {
    const allow = hasNoSideEffects ? "GET, POST" : "POST";
    throw new Refusal(405, "unimplemented", `call it by ${allow}`, { allow });
  }
  const version = isGet ? (query.get("connect") ?? "v1") : `v${header(request, VERSION) ?? "1"}`;
  if (version !== "v1") {
    throw new Refusal(400, "invalid_argument", "the version of the Connect protocol here is 1");
  }
  const coding = isGet ? query.get("compression") : header(request, "content-encoding");
  return {
    encoding: isGet ? encodingOfQuery(query) : encodingOfBody(request),
    isGzip: isGzip(coding),
    query: isGet ? query : undefined,
    timeoutMs: timeoutOf(header(request, "connect-timeout-ms")),
  };
}

/**
 * Reads the message of a request, uncompressed.
 *
 * @param response told to go on if the caller asks before it sends
 * @param most how many bytes it may have
 * @param memory what it is kept in; to be given back when it is not needed any more
 * @throws MESSAGE_TOO_LARGE; OVERLOADED when there is no memory; MALFORMED_REQUEST for what is no
 *   gzip; another error when the caller goes away meanwhile
 */
export async function readMessage(
  request: IncomingMessage,
  response: ServerResponse,
  { query, isGzip }: RequestForm,
  most: number,
  memory: BodyMemory,
): Promise<Buffer> {
  if (Number(header(request, "content-length") ?? 0) > most) throw tooLarge(most);
  if (header(request, "expect") !== undefined) response.writeContinue();
  const bytes = query ? messageOf(query, memory) : await collect(request, most, memory);
  // The Connect protocol has it that nothing is not compressed.
  if (!isGzip || bytes.length === 0) return bytes;
  const gunzip = createGunzip();
  try {
    gunzip.end(bytes);
    return await collect(gunzip, most, memory);
  } catch (error) {
    if (error instanceof RpcError) throw error;
    throw new RpcError("MALFORMED_REQUEST", "the request is not compressed by gzip");
  } finally {
    memory.give(bytes.length);
    gunzip.destroy();
  }
}

/** Memory for requests, which all calls of a server share. */
export class BodyMemory {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  /** Takes so many bytes; false when there are not as many. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  /** Gives so many back. */
  give(bytes: number): void {
    this.#left += bytes;
  }
}

const VERSION = "connect-protocol-version";

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === "string" ? value : undefined;
}

function encodingOfBody(request: IncomingMessage): Encoding {
  const [type = "", ...parameters] = (header(request, "content-type") ?? "")
    .toLowerCase()
    .split(";")
    .map((part) => part.trim());
  if (type === "application/proto") return "proto";
  if (type === "application/json") {
    const isUtf8 = parameters.every((one) => !/^charset=(?!"?utf-?8"?$)/.test(one));
    if (isUtf8) return "json";
  }
  throw new Refusal(
    415,
    "invalid_argument",
    "the content-type has to be application/json or application/proto",
    { "accept-post": "application/json, application/proto" },
  );
}

function encodingOfQuery(query: URLSearchParams): Encoding {
  const encoding = query.get("encoding");
  if (encoding === "json" || encoding === "proto") return encoding;
  throw new Refusal(415, "invalid_argument", "the encoding has to be json or proto");
}

function isGzip(coding: string | null | undefined): boolean {
  if (coding === null || coding === undefined || coding === "identity") return false;
  if (coding.toLowerCase() === "gzip") return true;
  throw new Refusal(501, "unimplemented", "the encodings of requests here are gzip and identity");
}

function timeoutOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new Refusal(400, "invalid_argument", "connect-timeout-ms has 1 to 10 digits");
}

function messageOf(query: URLSearchParams, memory: BodyMemory): Buffer {
  const text = query.get("message") ?? "";
  const bytes = Buffer.from(text, query.get("base64") === "1" ? "base64url" : "utf8");
  if (!memory.take(bytes.length)) throw noMemory();
  return bytes;
}

async function collect(stream: Readable, most: number, memory: BodyMemory): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    await new Promise<void>((resolve, reject) => {
      let failed = false;
      const fail = (error: RpcError) => {
        failed = true;
        reject(error);
      };
      // What comes after a failure is read too, and dropped: a caller that still sends would not
      // read the answer.
      stream.on("data", (chunk: Buffer) => {
        if (failed) return;
        if (length + chunk.length > most) fail(tooLarge(most));
        else if (!memory.take(chunk.length)) fail(noMemory());
        else {
          length += chunk.length;
          chunks.push(chunk);
        }
      });
      stream.on("end", resolve);
      stream.on("error", reject);
    });
    return Buffer.concat(chunks, length);
  } catch (error) {
    memory.give(length);
    throw error;
  }
}

function tooLarge(most: number): RpcError {
  return new RpcError("MESSAGE_TOO_LARGE", `the request must have at most ${most} bytes`, {
    metadata: { limit_bytes: String(most) },
  });
}

function noMemory(): RpcError {
  return overloaded("the server reads as many large requests as it has memory for");
}
