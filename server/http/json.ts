// Requests and responses as JSON, by protobuf's canonical mapping and the service's own descriptors.
import {
  type DescMessage,
  fromBinary,
  fromJson,
  fromJsonString,
  type JsonValue,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { StructSchema } from "@bufbuild/protobuf/wkt";
import { RpcError } from "../errors/rpc-error.js";
import { registry } from "../rpc/descriptors.js";
import { checkJson } from "./json-faults.js";

const utf8 = new TextDecoder("utf-8", { fatal: true });

// What the mapping takes and may not be kept as it was sent: half a surrogate pair, which is written
// as an escape, and integers that JavaScript rounds.
const DOUBTFUL = /\\u[dD][89a-fA-F]|\d{16}/;

/**
 * Reads a request.
 *
 * @param type the request's type
 * @param bytes an object in JSON, as UTF-8
 * @returns its bytes as protobuf
 * @throws INVALID_FIELD or INVALID_UTF8 naming the field that is none or that has a wrong value;
 *   MALFORMED_REQUEST for what is no JSON object, or has a key twice
 */
export function requestFromJson(type: DescMessage, bytes: Uint8Array): Buffer {
  const text = decodeText(bytes);
  return convert(
    type,
    text,
    () => fromJsonString(type, text),
    () => parse(text),
  );
}

/**
 * As requestFromJson, for a request that is part of a text.
 *
 * @param request what parseObject() has read
 * @param text where it was read from
 */
export function requestFromValue(type: DescMessage, request: JsonValue, text: string): Buffer {
  return convert(
    type,
    text,
    () => fromJson(type, request),
    () => request,
  );
}

/**
 * Reads a text that is an object in JSON.
 *
 * @throws MALFORMED_REQUEST for what is none, or has a key twice
 */
export function parseObject(text: string): { [key: string]: JsonValue } {
  const value = parse(text);
  try {
    fromJsonString(StructSchema, text);
  } catch {
    throw malformed();
  }
  return value as { [key: string]: JsonValue };
}

/** Writes a message. */
export function messageToJson(type: DescMessage, bytes: Uint8Array): string {
  return JSON.stringify(toJson(type, fromBinary(type, bytes), { registry }));
}

function convert(
  type: DescMessage,
  text: string,
  read: () => Message,
  value: () => JsonValue,
): Buffer {
  let message: Message | undefined;
  try {
    message = read();
  } catch {
    // Its texts quote values; what is wrong is found out below.
  }
  if (message === undefined || DOUBTFUL.test(text)) checkJson(type, value());
  if (message === undefined) throw malformed();
  return Buffer.from(toBinary(type, message));
}

function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new RpcError("MALFORMED_REQUEST", "the request is not valid UTF-8");
  }
}

function parse(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    throw malformed();
  }
}

function malformed(): RpcError {
  return new RpcError(
    "MALFORMED_REQUEST",
    "the request is not a JSON object that has each of its keys and fields once",
  );
}
