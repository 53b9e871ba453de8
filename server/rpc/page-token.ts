// Page tokens: opaque to callers, bound to their query, proof against slips.
import { createHash } from "node:crypto";
import { fieldError } from "../errors/rpc-error.js";

const CHECKSUM_BYTES = 12;
const POSITION = /^-?\d{1,19},-?\d{1,19}$/;

/**
 * Makes a token.
 *
 * @param query what the token belongs to: the RPC's name and all request fields
 *   but page_size and page_token
 * @param position where the next page starts, two numbers
 */
export function encodePageToken(query: unknown[], position: [bigint, bigint]): string {
  return encodeTextPageToken(query, position.join(","));
}

/** As encodePageToken, for a position that is a text without U+0000. */
export function encodeTextPageToken(query: unknown[], position: string): string {
  return Buffer.concat([checksum(query, position), Buffer.from(position)]).toString("base64url");
}

/**
 * Reads a token.
 *
 * @param query as given to encodePageToken
 * @param field what it is called in the request
 * @returns the position; null for an empty token: the first page
 * @throws INVALID_PAGE_TOKEN when the token was altered or is another query's
 */
export function decodePageToken(
  token: string,
  query: unknown[],
  field = "page_token",
): [bigint, bigint] | null {
  const text = decodeTextPageToken(token, query, field);
  if (text === null) return null;
  if (!POSITION.test(text)) throw invalidPageToken(field);
  const [first = "", second = ""] = text.split(",");
  return [BigInt.asIntN(64, BigInt(first)), BigInt.asIntN(64, BigInt(second))];
}

/** As decodePageToken, for a token of encodeTextPageToken. */
export function decodeTextPageToken(
  token: string,
  query: unknown[],
  field = "page_token",
): string | null {
  if (token === "") return null;
  const bytes = Buffer.from(token, "base64url");
  const text = bytes.subarray(CHECKSUM_BYTES).toString();
  const intact =
    bytes.toString("base64url") === token &&
    checksum(query, text).equals(bytes.subarray(0, CHECKSUM_BYTES)) &&
    !text.includes("\0");
  if (!intact) throw invalidPageToken(field);
  return text;
}

/** Says that a token is none of this query. */
export function invalidPageToken(field = "page_token"): Error {
  return fieldError(
    "INVALID_PAGE_TOKEN",
    field,
    "was altered or belongs to another query; start again from the beginning",
  );
}

// A checksum, not a signature: a forged token reaches nothing that the caller
// could not ask for with the request's own fields, as the tenant never comes
// from the token. So servers need no secret in common.
function checksum(query: unknown[], text: string): Buffer {
  const parts = JSON.stringify([...query.map(String), text]);
  return createHash("sha256").update(parts).digest().subarray(0, CHECKSUM_BYTES);
}
