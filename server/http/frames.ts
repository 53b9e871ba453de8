// The frames that callers send over a WebSocket: JSON objects that begin a call or cancel it.
import type { JsonValue } from "@bufbuild/protobuf";
import type { RawData } from "ws";
import { fieldError, RpcError } from "../errors/rpc-error.js";
import { parseObject } from "./json.js";

/** What a caller asks for in its first frame. */
export interface Start {
  request: JsonValue;
  /** As the header, for callers that cannot set headers. */
  authorization: string | undefined;
  /** The whole frame. */
  text: string;
}

/**
 * Reads the first frame: `{"start": REQUEST}`, with `"authorization": "Bearer TOKEN"` if need be.
 *
 * @throws MALFORMED_REQUEST for what is no JSON object in text; INVALID_FIELD for another frame
 */
export function readStart(data: RawData, isBinary: boolean): Start {
  const { text, start, cancel, authorization } = readFrame(data, isBinary);
  if (start === undefined || cancel !== undefined) {
    throw fieldError("INVALID_FIELD", "start", "has to be in the first frame, and cancel not");
  }
  if (authorization !== undefined && typeof authorization !== "string") {
    throw fieldError("INVALID_FIELD", "authorization", "must be a string");
  }
  return { request: start, authorization, text };
}

/**
 * Reads a frame that comes later, which can only be `{"cancel": {}}`.
 *
 * @throws as readStart
 */
export function readCancel(data: RawData, isBinary: boolean): void {
  const { cancel, start } = readFrame(data, isBinary);
  if (start !== undefined) {
    throw fieldError("INVALID_FIELD", "start", "was there already: a WebSocket is one call");
  }
  if (cancel === undefined) {
    throw fieldError("INVALID_FIELD", "cancel", "is all that may follow the first frame");
  }
}

interface Frame {
  text: string;
  start: JsonValue | undefined;
  cancel: JsonValue | undefined;
  authorization: JsonValue | undefined;
}

function readFrame(data: RawData, isBinary: boolean): Frame {
  if (isBinary) throw new RpcError("MALFORMED_REQUEST", "frames are JSON in text, not bytes");
  // Sockets give whole Buffers of valid UTF-8 unless they are told otherwise.
  const text = (data as Buffer).toString();
  const { start, cancel, authorization, ...unknown } = parseObject(text);
  const [kind] = Object.keys(unknown);
  if (kind !== undefined) {
    const name = /^\w{1,100}$/.test(kind) ? kind : "(a key that is no name)";
    throw fieldError("INVALID_FIELD", name, "is no kind of frame: those are start and cancel");
  }
  return { text, start, cancel, authorization };
}
