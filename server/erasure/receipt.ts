// Receipts of erasures: what was removed, added up.
import { EraseOwnerResponse } from "../../gen/agentstore/v1/erasure.js";

/** What one step removed. */
export type Removed = Partial<EraseOwnerResponse>;

/** A receipt of nothing yet. */
export function emptyReceipt(): EraseOwnerResponse {
  return EraseOwnerResponse.fromPartial({});
}

/** Adds what a step removed to a receipt. */
export function addTo(receipt: Removed, removed: Removed): void {
  for (const [key, count] of Object.entries(removed) as [keyof EraseOwnerResponse, bigint][]) {
    receipt[key] = (receipt[key] ?? 0n) + count;
  }
}
