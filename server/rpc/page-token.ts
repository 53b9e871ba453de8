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
  const text = position.join(",");
  return Buffer.concat([checksum(query, text), Buffer.from(text)]).toString("base64url");
}

/**
 * Reads a token.
 *
 * @param query as given to encodePageToken
 * @returns the position; null for an empty token: the first page
 * @throws INVALID_PAGE_TOKEN when the token was altered or is another query's
 */
export function decodePageToken(token: string, query: unknown[]): [bigint, bigint] | null {
  if (token === "") return null;
  const bytes = Buffer.from(token, "base64url");
  const text = bytes.subarray(CHECKSUM_BYTES).toString("latin1");
  const intact =
    bytes.toString("base64url") === token &&
    POSITION.test(text) &&
    checksum(query, text).equals(bytes.subarray(0, CHECKSUM_BYTES));
  if (!intact) {
    throw fieldError(
      "INVALID_PAGE_TOKEN",
      "page_token",
      "was altered or belongs to another query; start again from the first page",
    );
  }
  const [first = "", second = ""] = text.split(",");
  return [BigInt.asIntN(64, BigInt(first)), BigInt.asIntN(64, BigInt(second))];
}

// A checksum, not a signature: a forged token reaches nothing that the caller
// could not ask for with the request's own fields, as the tenant never comes
// from the token. So servers need no secret in common.
function checksum(query: unknown[], text: string): Buffer {
  const parts = JSON.stringify([...query.map(String), text]);
  return createHash("sha256").update(parts).digest().subarray(0, CHECKSUM_BYTES);
}
