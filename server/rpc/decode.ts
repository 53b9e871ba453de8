// Decodes requests strictly: bytes that are no valid message never reach a handler.

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  type DescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
} from "@bufbuild/protobuf/wkt";
import { limits } from "../config.js";
import { fieldError, RpcError } from "../errors/rpc-error.js";
import { descriptorSet } from "./descriptors.js";

class StrictReader extends BinaryReader {
  override string(): string {
    return super.string(true);
  }
}

/** Decodes one type of message; ts-proto's generated decoders take a reader as well as bytes. */
export type Decode = (input: BinaryReader) => unknown;

/**
 * Decodes a request.
 *
 * @param decode ts-proto's decoder of the request
 * @param typeName its name in the package agentstore.v1, to find out which
 *   field is at fault
 * @throws INVALID_UTF8 naming the field; INVALID_FIELD for a Struct nested too
 *   deeply; MALFORMED_REQUEST for all other bytes that are no such message
 */
export function decodeRequest(decode: Decode, typeName: string, bytes: Uint8Array): unknown {
  try {
    return decode(new StrictReader(bytes));
  } catch {
    throw faultOf(`.agentstore.v1.${typeName}`, bytes);
  }
}

// Runs only after decoding has failed: reads the bytes again beside the
// descriptor to name the field.
function faultOf(typeName: string, bytes: Uint8Array): RpcError {
  try {
    walk(messageType(typeName), new StrictReader(bytes), bytes.length, "", 0);
  } catch (error) {
    if (error instanceof RpcError) return error;
  }
  return new RpcError(
    "MALFORMED_REQUEST",
    "the request is not a well-formed protobuf message of this method's type",
  );
}

// One level of a Struct takes three levels of messages; what is around it, a few.
const DEEPEST = limits.metadataDepth * 3 + 4;

function walk(
  type: DescriptorProto,
  reader: BinaryReader,
  end: number,
  prefix: string,
  depth: number,
): void {
  if (depth > DEEPEST) {
    const description = `must be nested at most ${limits.metadataDepth} deep`;
    throw fieldError("INVALID_FIELD", visiblePath(prefix), description);
  }
  const seen = new Map<number, number>();
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    const field = type.field.find((candidate) => candidate.number === number);
    if (!field || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, number);
      continue;
    }
    const index = seen.get(number) ?? 0;
    seen.set(number, index + 1);
    const isList = field.label === FieldDescriptorProto_Label.REPEATED;
    const path = `${prefix}${prefix && "."}${field.name}${isList ? `[${index}]` : ""}`;
    if (field.type === FieldDescriptorProto_Type.MESSAGE) {
      const length = reader.uint32();
      walk(messageType(field.typeName), reader, reader.pos + length, path, depth + 1);
    } else if (field.type === FieldDescriptorProto_Type.STRING) {
      readString(reader, path);
    } else {
      reader.skip(wireType, number);
    }
  }
}

function readString(reader: BinaryReader, path: string): void {
  try {
    reader.string();
  } catch (error) {
    // A RangeError is a length beyond the end of the bytes.
    if (error instanceof RangeError) throw error;
    throw fieldError("INVALID_UTF8", visiblePath(path), "is not valid UTF-8");
  }
}

// What a caller calls `metadata.a.b` is a chain of map entries on the wire.
function visiblePath(path: string): string {
  return path.replace(/\.fields\[.*/, "");
}

function messageType(typeName: string): DescriptorProto {
  const type = messageTypes.get(typeName);
  if (!type) throw new Error(`${typeName} is not in the descriptor set`);
  return type;
}

const messageTypes = new Map<string, DescriptorProto>();
for (const file of descriptorSet.file) addTypes(`.${file.package}`, file.messageType);

function addTypes(prefix: string, types: DescriptorProto[]): void {
  for (const type of types) {
    const name = `${prefix}.${type.name}`;
    messageTypes.set(name, type);
    addTypes(name, type.nestedType);
  }
}
