// Models' policies between their row and the contract.
import type { ModelPolicy } from "../../gen/agentstore/v1/policies.js";
import type { Duration } from "../../gen/google/protobuf/duration.js";
import type { PolicyRow } from "./sql.js";

/** Makes the ModelPolicy of a row; one with its model_id alone where there is none. */
export function toModelPolicy(modelId: string, row: PolicyRow | undefined): ModelPolicy {
  const { retention_ms, every_messages, every_minutes, updated_at } = row ?? {};
  const everyMessages = every_messages ?? 0n;
  const everyMinutes = every_minutes ?? 0n;
  const takesSnapshots = everyMessages > 0n || everyMinutes > 0n;
  return {
    modelId,
    retention: retention_ms ? fromMs(retention_ms) : undefined,
    snapshotPolicy: takesSnapshots ? { everyMessages, everyMinutes } : undefined,
    updatedAt: updated_at,
  };
}

/** A duration in whole milliseconds, of which it has no more than that. */
export function toMs({ seconds, nanos }: Duration): bigint {
  return seconds * 1000n + BigInt(Math.trunc(nanos / 1_000_000));
}

function fromMs(ms: bigint): Duration {
  return { seconds: ms / 1000n, nanos: Number(ms % 1000n) * 1_000_000 };
}
