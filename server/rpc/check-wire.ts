// Looks at a request's bytes beside its descriptor, for what its decoder would let pass.

import { type BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import {
  type DescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
} from "@bufbuild/protobuf/wkt";
import { limits } from "../config.js";
import { fieldError } from "../errors/rpc-error.js";
import { descriptorSet } from "./descriptors.js";

/**
 * Checks that the bytes are a message of a type, to the last one. ts-proto's
 * decoders stop without a word at a tag that is none, do not notice a field that
 * runs over the end of its message, and lose what has no place in JavaScript's
 * objects.
 *
 * @param typeName with its package, behind a dot
 * @param reader at the start of the bytes
 * @param texts whether to decode the strings too, with the reader
 * @throws INVALID_FIELD for a Struct or Timestamp that cannot be kept; INVALID_UTF8
 *   where the reader cannot read a string; Error for bytes that are no such message
 */
export function checkWire(
  typeName: string,
  reader: BinaryReader,
  { texts }: { texts: boolean },
): void {
  checkMessage(messageType(typeName), reader, reader.len, null, texts);
}

/** A field in a request; the path to it is put together only for an error. */
interface Place {
  within: Place | null;
  field: Field;
  index: number;
  /** How many messages are around it. */
  depth: number;
}

// One level of a Struct takes three levels of messages; what is around it, a few.
const DEEPEST = limits.metadataDepth * 3 + 3;

function checkMessage(
  type: MessageType,
  reader: BinaryReader,
  end: number,
  within: Place | null,
  texts: boolean,
): void {
  const depth = within ? within.depth + 1 : 0;
  if (depth > DEEPEST) throw invalid(within, `must be nested at most ${limits.metadataDepth} deep`);
  let last = 0;
  const items = new Map<number, number>();
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    const field = type.fields.get(number);
    if (field?.wireType !== wireType) {
      skip(reader, number, wireType);
      continue;
    }
    last = Math.max(last, number);
    const index = field.isList ? (items.get(number) ?? 0) : 0;
    if (field.isList) items.set(number, index + 1);
    checkField(reader, { within, field, index, depth }, texts);
  }
  if (reader.pos !== end) throw new Error("a field runs over the end of its message");
  if (last < type.leastField) throw invalid(within, "holds a Value without a kind");
}

function checkField(reader: BinaryReader, place: Place, texts: boolean): void {
  const { field } = place;
  if (field.message !== undefined) {
    const end = reader.uint32() + reader.pos;
    if (end > reader.len) throw new RangeError("premature EOF");
    checkMessage(messageType(field.message), reader, end, place, texts);
  } else if (field.isStructKey) {
    // An object's prototype has this name, so it would be lost.
    if (readText(reader, place) === "__proto__") {
      throw invalid(place, "must not have the key __proto__");
    }
  } else if (field.isNanos) {
    const nanos = reader.int32();
    // Only positive ones are right, but ts-proto's clients send negative ones before 1970.
    if (Math.abs(nanos) > 999_999_999) {
      throw invalid(place.within, "must have nanos from 0 to 999999999");
    }
  } else if (field.isText && texts) {
    readText(reader, place);
  } else {
    skip(reader, field.number, field.wireType);
  }
}

function skip(reader: BinaryReader, number: number, wireType: WireType): void {
  const start = reader.pos;
  reader.skip(wireType, number);
  if (wireType === WireType.Varint && reader.pos - start > 10) throw new Error("invalid varint");
}

function readText(reader: BinaryReader, place: Place): string {
  try {
    return reader.string();
  } catch (error) {
    // A RangeError is a length beyond the end of the bytes.
    if (error instanceof RangeError) throw error;
    throw fieldError("INVALID_UTF8", pathOf(place), "is not valid UTF-8");
  }
}

function invalid(place: Place | null, description: string): Error {
  return fieldError("INVALID_FIELD", pathOf(place), description);
}

function pathOf(place: Place | null): string {
  let path = "";
  for (let step = place; step; step = step.within) {
    const { name, isList } = step.field;
    path = `${name}${isList ? `[${step.index}]` : ""}${path && "."}${path}`;
  }
  // What a caller calls `metadata.a.b` is a chain of map entries on the wire.
  return path.replace(/\.fields\[.*/, "");
}

interface Field {
  name: string;
  number: number;
  wireType: WireType;
  isList: boolean;
  isText: boolean;
  isStructKey: boolean;
  isNanos: boolean;
  /** The type of a field that is a message. */
  message: string | undefined;
}

interface MessageType {
  fields: Map<number, Field>;
  /** A message without a field of this number or a higher one lacks what makes it one. */
  leastField: number;
}

function messageType(typeName: string): MessageType {
  const type = messageTypes.get(typeName);
  if (!type) throw new Error(`${typeName} is not in the descriptor set`);
  return type;
}

const STRUCT_ENTRY = ".google.protobuf.Struct.FieldsEntry";

const messageTypes = new Map<string, MessageType>();
for (const file of descriptorSet.file) addTypes(`.${file.package}`, file.messageType);

function addTypes(prefix: string, types: DescriptorProto[]): void {
  for (const type of types) {
    const name = `${prefix}.${type.name}`;
    const fields = type.field.map((field) => [field.number, toField(name, field)] as const);
    messageTypes.set(name, { fields: new Map(fields), leastField: leastFieldOf(name) });
    addTypes(name, type.nestedType);
  }
}

function leastFieldOf(typeName: string): number {
  // Any of its fields is a Value's kind; the second one of an entry is its Value.
  if (typeName === ".google.protobuf.Value") return 1;
  return typeName === STRUCT_ENTRY ? 2 : 0;
}

function toField(typeName: string, field: FieldDescriptorProto): Field {
  const isMessage = field.type === FieldDescriptorProto_Type.MESSAGE;
  return {
    name: field.name,
    number: field.number,
    wireType: wireTypeOf(field.type),
    isList: field.label === FieldDescriptorProto_Label.REPEATED,
    isText: field.type === FieldDescriptorProto_Type.STRING,
    isStructKey: typeName === STRUCT_ENTRY && field.name === "key",
    isNanos: typeName === ".google.protobuf.Timestamp" && field.name === "nanos",
    message: isMessage ? field.typeName : undefined,
  };
}

function wireTypeOf(type: FieldDescriptorProto_Type): WireType {
  switch (type) {
    case FieldDescriptorProto_Type.DOUBLE:
      return WireType.Bit64;
    case FieldDescriptorProto_Type.STRING:
    case FieldDescriptorProto_Type.BYTES:
    case FieldDescriptorProto_Type.MESSAGE:
      return WireType.LengthDelimited;
    default:
      return WireType.Varint;
  }
}
