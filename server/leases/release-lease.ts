// ReleaseLease: a lease given back before it expires.
import type { ReleaseLeaseRequest, ReleaseLeaseResponse } from "../../gen/agentstore/v1/leases.js";
import type { UnaryRpc } from "../rpc/method.js";
import { assertLease } from "./lease.js";
import * as sql from "./sql.js";

export const releaseLease: UnaryRpc<ReleaseLeaseRequest, ReleaseLeaseResponse> = {
  validate({ conversationId, fencingToken }, check) {
    check.positive("conversation_id", conversationId);
    check.positive("fencing_token", fencingToken);
  },

  async handle({ conversationId, fencingToken }, context) {
    const { db, principal, signal } = context;
    context.note({ conversation_id: conversationId, fencing_token: fencingToken });
    const values = [conversationId, principal.tenant, fencingToken];
    const [row] = await db.query(sql.releaseLease, values, signal);
    if (!row) await assertLease(context, conversationId, 0n);
    return { released: row !== undefined };
  },
};
