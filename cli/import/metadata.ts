// Builds the session metadata that keeps what a line says beside its messages.
import type { JsonObject } from "../../client/index.js";
import { limits } from "../../server/config.js";
import { compact, type Member } from "../json-slices.js";
import { metadataKeys, type SourceForm } from "../source-forms.js";
import { isObject } from "./json.js";

/** What quotes, braces and the names of the metadata's own keys may take. */
const OVERHEAD_BYTES = 1024;

/**
 * Keeps a line's members: parsed, so that they can be queried, and as JSON text too where the
 * parsed form would lose something (large numbers, duplicate keys, the order of keys, U+0000).
 * What is beyond the store's limits is left out, the largest member first.
 * @param form how the line holds its messages
 * @param others all members of the line but its messages
 * @param warn takes what had to be left out
 */
export function sourceMetadata(
  form: SourceForm,
  others: readonly Member[],
  warn: (warning: string) => void,
): JsonObject {
  const metadata: JsonObject = { [metadataKeys.form]: form };
  let kept = [...others];
  while (kept.length > 0 && textBytes(rawObject(kept)) > room()) {
    const largest = kept.reduce((a, b) => (textBytes(b.raw) > textBytes(a.raw) ? b : a));
    kept = kept.filter((one) => one !== largest);
    warn(`"${largest.key}" is larger than a session's metadata may be and was left out`);
  }
  if (kept.length === 0) return metadata;

  const raw = rawObject(kept);
  const parsed: unknown = JSON.parse(raw);
  const exact = isStorable(parsed, limits.metadataDepth - 2);
  const complete = exact && compact(raw) === JSON.stringify(parsed);
  const bytes = exact ? textBytes(JSON.stringify(parsed)) : 0;
  if (exact && (complete || bytes + textBytes(raw) <= room())) {
    metadata[metadataKeys.source] = parsed;
  }
  if (!complete) metadata[metadataKeys.sourceJson] = raw;
  return metadata;
}

function room(): number {
  return limits.metadataBytes - OVERHEAD_BYTES;
}

function rawObject(parts: readonly Member[]): string {
  return `{${parts.map(({ key, raw }) => `${JSON.stringify(key)}:${raw}`).join(",")}}`;
}

/** What a text takes as a JSON string. */
function textBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text));
}

/** Whether a Struct in Postgres can hold a value: no U+0000, finite numbers, not too deep. */
function isStorable(value: unknown, depthLeft: number): boolean {
  if (typeof value === "string") return value.isWellFormed() && !value.includes("\0");
  if (typeof value === "number") return Number.isFinite(value);
  if (Array.isArray(value)) {
    return depthLeft > 0 && value.every((item) => isStorable(item, depthLeft - 1));
  }
  if (!isObject(value)) return true;
  return (
    depthLeft > 0 &&
    Object.entries(value).every(
      ([key, item]) => key !== "__proto__" && isStorable(key, 1) && isStorable(item, depthLeft - 1),
    )
  );
}
