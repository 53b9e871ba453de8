// Etags: each stands for one write of one session's state.
import { createHash } from "node:crypto";
import { RpcError } from "../errors/rpc-error.js";

/**
 * Makes the etag of a state.
 *
 * @param revision the session's revision at which it was written; 0 for no state, whose etag is empty
 */
export function etagOf(conversationId: bigint, revision: bigint): string {
  if (revision === 0n) return "";
  return createHash("sha256")
    .update(`${conversationId}/${revision}`)
    .digest("base64url")
    .slice(0, 16);
}

/**
 * Holds a write's expectation against the state that there is.
 *
 * @param revision as in etagOf
 * @throws ETAG_MISMATCH
 */
export function assertEtag(
  conversationId: bigint,
  revision: bigint,
  expected: string | undefined,
): void {
  const etag = etagOf(conversationId, revision);
  if (expected === undefined || expected === etag) return;
  const current = etag === "" ? "has no state yet" : `has a state with the etag ${etag}`;
  throw new RpcError(
    "ETAG_MISMATCH",
    `session ${conversationId} ${current}, not the expected one`,
    {
      metadata: { conversation_id: String(conversationId), etag },
    },
  );
}
