// Tells whether two requests ask for the same thing.
import { createHash } from "node:crypto";
import type { CallContext } from "../rpc/call.js";

const NOT_REPEATABLE = Buffer.alloc(0);

/**
 * Hashes what a write asks for, if it carries a request_id: the tenant, the RPC and all fields but
 * those that a repeat may have otherwise: request_id, fencing_token, and view, which says how much of
 * the answer to send. Keys are sorted, because other languages encode the entries of a Struct in a
 * different order each time.
 */
export function fingerprint(
  context: CallContext,
  rpc: string,
  request: { requestId: string; fencingToken?: bigint; view?: unknown },
): Buffer {
  if (request.requestId === "") return NOT_REPEATABLE;
  const asked = { ...request, requestId: "", fencingToken: undefined, view: undefined };
  const text = canonicalJson([context.principal.tenant, rpc, asked]);
  return createHash("sha256").update(text).digest();
}

/** The same text for the same value, whatever the order of its keys. */
export function canonicalJson(value: unknown): string {
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  if (value instanceof Date) return `"${value.getTime()}"`;
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const entries = Object.entries(value as Record<string, unknown>)
    .filter(([, inner]) => inner !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`);
  return `{${entries.join(",")}}`;
}
