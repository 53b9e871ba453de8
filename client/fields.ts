// Checks what callers hand in, so that a mistake is named here instead of being encoded into
// something else: a lone surrogate would reach the server as U+FFFD, a Date in metadata as {}.
import { InvalidFieldError } from "./errors.js";
import type { JsonObject } from "./types.js";

const INT32_MAX = 2 ** 31 - 1;
/** How deep metadata may be nested, as the service's contract says. */
const MAX_METADATA_DEPTH = 32;

/** A 64-bit integer from a bigint or a safe integer number. `field` is its path in the request. */
export function int64(value: bigint | number, field: string): bigint {
  const number = typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof number !== "bigint") {
    throw InvalidFieldError.of(field, "must be a bigint or a safe integer");
  }
  if (BigInt.asIntN(64, number) !== number) {
    throw InvalidFieldError.of(field, "must be a 64-bit integer");
  }
  return number;
}

/** As `int64`, with 0 for a value that is left out. */
export function int64OrZero(value: bigint | number | undefined, field: string): bigint {
  return value === undefined ? 0n : int64(value, field);
}

/** A 32-bit integer, 0 when left out. */
export function int32OrZero(value: number | undefined, field: string): number {
  if (value === undefined) return 0;
  if (!Number.isInteger(value) || Math.abs(value) > INT32_MAX) {
    throw InvalidFieldError.of(field, "must be a 32-bit integer");
  }
  return value;
}

/** A well-formed string. */
export function text(value: string, field: string): string {
  if (typeof value !== "string") throw InvalidFieldError.of(field, "must be a string");
  if (!value.isWellFormed()) {
    throw InvalidFieldError.of(
      field,
      "holds a lone surrogate, which UTF-8 cannot carry; toWellFormed() replaces it",
    );
  }
  return value;
}

/** As `text`, with the empty string for a value that is left out. */
export function textOrEmpty(value: string | undefined, field: string): string {
  return value === undefined ? "" : text(value, field);
}

/** A valid point in time. */
export function date(value: Date, field: string): Date {
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) {
    throw InvalidFieldError.of(field, "must be a valid Date");
  }
  return value;
}

/** A list, read without being changed. */
export function list<T>(value: readonly T[], field: string): readonly T[] {
  const isArray: boolean = Array.isArray(value);
  if (!isArray) throw InvalidFieldError.of(field, "must be an array");
  return value;
}

/** An object that JSON, and so google.protobuf.Struct, can say in full. */
export function jsonObject(value: JsonObject | undefined, field: string): JsonObject | undefined {
  if (value === undefined) return undefined;
  if (!isPlainObject(value)) throw InvalidFieldError.of(field, "must be a plain object");
  checkJson(value, field, 1);
  return value;
}

function checkJson(value: unknown, field: string, depth: number): void {
  if (value === null || typeof value === "boolean") return;
  if (typeof value === "string") {
    text(value, field);
    return;
  }
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw InvalidFieldError.of(field, "must be a finite number");
    return;
  }
  if (!Array.isArray(value) && !isPlainObject(value)) {
    throw InvalidFieldError.of(
      field,
      "is not JSON: null, booleans, finite numbers, strings, arrays and plain objects are",
    );
  }
  if (depth > MAX_METADATA_DEPTH) {
    throw InvalidFieldError.of(field, `is nested more than ${MAX_METADATA_DEPTH} deep`);
  }
  if (Array.isArray(value)) {
    value.forEach((item, index) => checkJson(item, `${field}[${index}]`, depth + 1));
    return;
  }
  for (const [key, item] of Object.entries(value)) {
    const path = `${field}.${key}`;
    // The generated encoder assigns keys to an object, where this one would set its prototype.
    if (key === "__proto__") throw InvalidFieldError.of(path, "is not a possible key");
    text(key, path);
    if (item !== undefined) checkJson(item, path, depth + 1);
  }
}

function isPlainObject(value: unknown): value is JsonObject {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
