// Fencing: what carries the token of a lease that is lost is refused.
import { RpcError } from "../errors/rpc-error.js";

/**
 * Checks a fencing token against the session's.
 *
 * @param given 0 for none, which is not checked
 * @param current 0 when nobody holds the session's lease
 * @throws LEASE_LOST
 */
export function assertCurrent(conversationId: bigint, given: bigint, current: bigint): void {
  if (given === 0n || given === current) return;
  const why =
    current === 0n
      ? `nobody holds the lease of session ${conversationId}`
      : `the lease of session ${conversationId} has the fencing token ${current}`;
  throw new RpcError("LEASE_LOST", `${why}, not ${given}; stop, or acquire it anew`, {
    metadata: {
      conversation_id: String(conversationId),
      fencing_token: String(given),
      current_fencing_token: String(current),
    },
  });
}
