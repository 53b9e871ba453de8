// The calls about models' policies and about erasure, which only operators make.

import { AgentStoreAdminService } from "../gen/agentstore/v1/agent_store_admin.js";
import type * as wire from "../gen/agentstore/v1/policies.js";
import { answered, write } from "./calls.js";
import type { Connection } from "./connection.js";
import { InvalidFieldError } from "./errors.js";
import { int64, int64OrZero, text } from "./fields.js";
import type { ErasureReceipt, ModelPolicy, ModelPolicyChanges } from "./operator-types.js";
import type { CallOptions, WriteOptions } from "./options.js";

const MASK_PATHS = new Map<string, string>([
  ["retentionMs", "retention"],
  ["snapshotPolicy", "snapshot_policy"],
]);

export async function getModelPolicy(
  connection: Connection,
  modelId: string,
  options: CallOptions,
): Promise<ModelPolicy> {
  const { response } = await connection.unary(
    AgentStoreAdminService.getModelPolicy,
    { modelId: text(modelId, "model_id") },
    options,
  );
  return fromWire(answered(response.policy));
}

export async function updateModelPolicy(
  connection: Connection,
  modelId: string,
  changes: ModelPolicyChanges,
  options: WriteOptions,
): Promise<ModelPolicy> {
  const updateMask: string[] = [];
  for (const [key, value] of Object.entries(changes)) {
    const path = MASK_PATHS.get(key);
    if (path === undefined) throw InvalidFieldError.of(key, "is nothing that can be changed");
    if (value !== undefined) updateMask.push(path);
  }
  const response = await write(
    connection,
    AgentStoreAdminService.updateModelPolicy,
    { policy: toWire(modelId, changes), updateMask },
    options,
  );
  return fromWire(answered(response.policy));
}

export async function eraseOwner(
  connection: Connection,
  ownerId: string,
  options: CallOptions,
): Promise<ErasureReceipt> {
  const { response } = await connection.unary(
    AgentStoreAdminService.eraseOwner,
    { ownerId: text(ownerId, "owner_id") },
    options,
  );
  return response;
}

function toWire(modelId: string, changes: ModelPolicyChanges): wire.ModelPolicy {
  const { retentionMs, snapshotPolicy } = changes;
  const policy: wire.ModelPolicy = { modelId: text(modelId, "policy.model_id") };
  if (retentionMs !== null && retentionMs !== undefined) {
    const ms = int64(retentionMs, "policy.retention");
    policy.retention = { seconds: ms / 1000n, nanos: Number(ms % 1000n) * 1_000_000 };
  }
  if (snapshotPolicy) {
    const field = "policy.snapshot_policy";
    policy.snapshotPolicy = {
      everyMessages: int64OrZero(snapshotPolicy.everyMessages, `${field}.every_messages`),
      everyMinutes: int64OrZero(snapshotPolicy.everyMinutes, `${field}.every_minutes`),
    };
  }
  return policy;
}

function fromWire({ retention, ...policy }: wire.ModelPolicy): ModelPolicy {
  if (!retention) return policy;
  const retentionMs = retention.seconds * 1000n + BigInt(Math.trunc(retention.nanos / 1_000_000));
  return { ...policy, retentionMs };
}
