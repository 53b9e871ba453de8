// UpdateModelPolicy: the fields of a model's policy that a mask names.
import {
  ModelPolicy,
  type UpdateModelPolicyRequest,
  type UpdateModelPolicyResponse,
} from "../../gen/agentstore/v1/policies.js";
import type { Duration } from "../../gen/google/protobuf/duration.js";
import { recordAudit } from "../audit/record.js";
import type { Queries } from "../db/database.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, keepTenantAnswer, repeatableInTenant } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { CallContext, Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import type { UnaryRpc } from "../rpc/method.js";
import { checkSnapshotPolicy } from "../sessions/session.js";
import { toModelPolicy, toMs } from "./policy.js";
import * as sql from "./sql.js";

const MASKABLE = ["retention", "snapshot_policy"];

export const updateModelPolicy: UnaryRpc<UpdateModelPolicyRequest, UpdateModelPolicyResponse> = {
  validate({ policy, updateMask, requestId }, check, limits) {
    if (policy) {
      check.requiredText("policy.model_id", policy.modelId, limits.idCharacters);
      checkRetention("policy.retention", policy.retention, check, limits);
      checkSnapshotPolicy("policy.snapshot_policy", policy.snapshotPolicy, check, limits);
    } else {
      check.fail("policy", "is required");
    }
    const paths = updateMask ?? [];
    if (paths.length === 0 || paths.some((path) => !MASKABLE.includes(path))) {
      check.fail(
        "update_mask",
        `must name at least one of ${MASKABLE.join(", ")}, and nothing else`,
      );
    }
    checkRequestId(check, requestId);
  },

  async handle(request, context) {
    const { requestId } = request;
    context.note({ model_id: present(request.policy).modelId });
    const print = fingerprint(context, "UpdateModelPolicy", request);
    const done = await repeatableInTenant(context, requestId, print, (queries) =>
      update(queries, request, context, print),
    );
    context.snapshots.policySet();
    if ("answer" in done) return { policy: ModelPolicy.decode(done.answer), replayed: true };
    return { policy: done.written, replayed: false };
  },
};

async function update(
  queries: Queries,
  request: UpdateModelPolicyRequest,
  context: CallContext,
  print: Buffer,
): Promise<ModelPolicy> {
  const { requestId, updateMask } = request;
  const { tenant } = context.principal;
  const { modelId, retention, snapshotPolicy } = present(request.policy);
  const now = new Date();
  const [row] = await queries.query(sql.updatePolicy, [
    tenant,
    modelId,
    updateMask,
    retention && toMs(retention),
    snapshotPolicy?.everyMessages || null,
    snapshotPolicy?.everyMinutes || null,
    now,
  ]);
  const policy = toModelPolicy(modelId, row);
  const answer = ModelPolicy.encode(policy).finish();
  const fields = [...new Set(updateMask)];
  await Promise.all([
    keepTenantAnswer(queries, { tenant, requestId, fingerprint: print }, answer, now),
    recordAudit(queries, context, { rpc: "UpdateModelPolicy", fields, requestId }),
  ]);
  return policy;
}

function checkRetention(
  field: string,
  retention: Duration | undefined,
  check: FieldChecks,
  limits: Limits,
): void {
  if (!retention) return;
  const ms = toMs(retention);
  if (ms < limits.retentionLeastMs || ms > limits.retentionMostMs) {
    check.fail(field, "must be from 1 minute to 36,500 days");
  }
}
