// What the importer asks of JSON values and of texts that the store keeps in short fields.

/** A parsed JSON object. */
export type JsonRecord = Record<string, unknown>;

/** Whether a parsed JSON value is an object: neither an array nor null. */
export function isObject(value: unknown): value is JsonRecord {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value is a text that the store takes as a name or an id: 1 to 1,024 characters. */
export function isShortText(value: unknown): value is string {
  return (
    typeof value === "string" &&
    value !== "" &&
    value.length <= 1024 &&
    value.isWellFormed() &&
    !value.includes("\0")
  );
}

/** Whether a string anywhere in a value has half a surrogate pair, which UTF-8 cannot express. */
export function hasLoneSurrogate(value: unknown): boolean {
  if (typeof value === "string") return !value.isWellFormed();
  if (Array.isArray(value)) return value.some(hasLoneSurrogate);
  return isObject(value) && Object.entries(value).flat().some(hasLoneSurrogate);
}
