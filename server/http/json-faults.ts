// Finds what is wrong with a request in JSON, so that its error names the field and quotes nothing.
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";
import { fieldError } from "../errors/rpc-error.js";

const LONGS = new Set<ScalarType | undefined>([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
]);

/**
 * Looks for the first field that is none, or whose value is not of its type.
 *
 * @param type the request's type
 * @param json the request
 * @throws INVALID_FIELD, or INVALID_UTF8 for text with half a surrogate pair, naming the field as
 *   the .proto files do
 */
export function checkJson(type: DescMessage, json: JsonValue): void {
  checkMessage(type, json, "");
}

function checkMessage(type: DescMessage, json: JsonValue, path: string): void {
  // At the top, this is told as a request that is malformed.
  if (!isObject(json)) {
    if (path === "") return;
    throw fieldError("INVALID_FIELD", path, "must be a JSON object");
  }
  for (const [key, value] of Object.entries(json)) {
    const field = fieldOf(type, key);
    if (field === undefined) {
      const name = /^\w{1,100}$/.test(key) ? key : "(a key that is no name)";
      throw fieldError("INVALID_FIELD", within(path, name), `is not a field of ${type.typeName}`);
    }
    if (value !== null) checkField(type, field, key, value, within(path, field.name));
  }
}

function checkField(
  type: DescMessage,
  field: DescField,
  key: string,
  value: JsonValue,
  path: string,
): void {
  if (field.fieldKind === "list") {
    if (!Array.isArray(value)) throw fieldError("INVALID_FIELD", path, "must be a JSON array");
    for (const [index, item] of value.entries()) {
      const place = `${path}[${index}]`;
      if (isNested(field.message)) checkMessage(field.message, item, place);
      else checkValue(type, field, key, [item], place);
    }
  } else if (isNested(field.message)) {
    checkMessage(field.message, value, path);
  } else {
    checkValue(type, field, key, value, path);
  }
}

// A value whose form is one piece: a scalar, an enum, or a type with a mapping of its own.
function checkValue(
  type: DescMessage,
  field: DescField,
  key: string,
  value: JsonValue,
  path: string,
): void {
  if (!isWellFormed(value)) {
    throw fieldError("INVALID_UTF8", path, "holds half a surrogate pair");
  }
  const number = Array.isArray(value) ? value[0] : value;
  if (LONGS.has(field.scalar) && typeof number === "number" && !Number.isSafeInteger(number)) {
    throw fieldError("INVALID_FIELD", path, "must be a string: JSON rounds numbers of this size");
  }
  try {
    fromJson(type, { [key]: value });
  } catch {
    throw fieldError("INVALID_FIELD", path, `must be ${expected(field)} in JSON`);
  }
}

function expected(field: DescField): string {
  if (field.enum) return `a name of ${field.enum.typeName}`;
  if (field.message) return `a ${field.message.typeName}`;
  return field.scalar === undefined ? "a map" : `a ${ScalarType[field.scalar].toLowerCase()}`;
}

function fieldOf(type: DescMessage, key: string): DescField | undefined {
  return type.fields.find(({ name, jsonName }) => name === key || jsonName === key);
}

// The types of google.protobuf that requests have are no objects of their fields in JSON.
function isNested(type: DescMessage | undefined): type is DescMessage {
  return type !== undefined && !type.typeName.startsWith("google.protobuf.");
}

function isObject(json: JsonValue): json is { [key: string]: JsonValue } {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

// Without recursion: a value may be nested as deeply as there is room for brackets.
function isWellFormed(value: JsonValue): boolean {
  const rest: JsonValue[] = [value];
  for (let item = rest.pop(); item !== undefined; item = rest.pop()) {
    if (typeof item === "string") {
      if (!item.isWellFormed()) return false;
    } else if (typeof item === "object" && item !== null) {
      for (const [key, inner] of Object.entries(item)) rest.push(key, inner);
    }
  }
  return true;
}

function within(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}
