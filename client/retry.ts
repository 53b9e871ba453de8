// Says whether a failed call is worth repeating, and after how long.
import type { AgentStoreError } from "./errors.js";

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 5_000;

/**
 * Whether repeating a call may help. That it does no harm is given: reads change nothing, and
 * every write carries a request_id.
 *
 * A server that says why it failed decides: UNAVAILABLE, a write that lost against another one, and
 * what it refused for lack of room with a delay to wait. When none says why, the connection was
 * lost, which grpc-js 1.14 reports, depending on what it saw of the end, as UNAVAILABLE (dropped,
 * refused, reset), as CANCELLED (the stream was reset with CANCEL, as a server does that is forced
 * to stop) or as INTERNAL with a text of its own (the stream was reset with another code, or ended
 * without a status).
 */
export function isRetryable(error: AgentStoreError): boolean {
  if (error.code === "UNAVAILABLE" || error.reason === "WRITE_CONFLICT") return true;
  if (error.code === "RESOURCE_EXHAUSTED") return error.retryDelayMs !== undefined;
  if (error.reason !== "") return false;
  return (
    error.code === "CANCELLED" ||
    (error.code === "INTERNAL" && error.message.startsWith("Received RST_STREAM"))
  );
}

/**
 * How long to wait before the next attempt, in milliseconds: exponential back-off with full jitter,
 * after the delay that the server asked for.
 *
 * @param failures how many attempts have failed in a row, 1 or more
 */
export function retryDelayMs(error: AgentStoreError, failures: number): number {
  const ceiling = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
  return (error.retryDelayMs ?? 0) + Math.random() * ceiling;
}
