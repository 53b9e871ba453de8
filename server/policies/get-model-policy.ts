// GetModelPolicy: what holds for all sessions of a model.
import type {
  GetModelPolicyRequest,
  GetModelPolicyResponse,
} from "../../gen/agentstore/v1/policies.js";
import type { UnaryRpc } from "../rpc/method.js";
import { toModelPolicy } from "./policy.js";
import * as sql from "./sql.js";

export const getModelPolicy: UnaryRpc<GetModelPolicyRequest, GetModelPolicyResponse> = {
  validate({ modelId }, check, limits) {
    check.requiredText("model_id", modelId, limits.idCharacters);
  },

  async handle({ modelId }, context) {
    const { db, principal, signal } = context;
    context.note({ model_id: modelId });
    const [row] = await db.query(sql.getPolicy, [principal.tenant, modelId], signal);
    return { policy: toModelPolicy(modelId, row) };
  },
};
