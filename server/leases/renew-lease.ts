// RenewLease: more time for a lease that is still the caller's.
import type { RenewLeaseRequest, RenewLeaseResponse } from "../../gen/agentstore/v1/leases.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { assertCurrent } from "./fence.js";
import { checkTtl, currentToken, leaseEnd, lockLease } from "./lease.js";
import * as sql from "./sql.js";

export const renewLease: UnaryRpc<RenewLeaseRequest, RenewLeaseResponse> = {
  validate({ conversationId, fencingToken, ttlMs }, check, limits) {
    check.positive("conversation_id", conversationId);
    check.positive("fencing_token", fencingToken);
    checkTtl(ttlMs, check, limits);
  },

  async handle({ conversationId, fencingToken, ttlMs }, context) {
    const { db, limits, signal } = context;
    context.note({ conversation_id: conversationId, fencing_token: fencingToken });
    return await db.transaction(async (queries) => {
      const row = await lockLease(queries, context, conversationId);
      if (!row) throw sessionNotFound(conversationId);
      assertCurrent(conversationId, fencingToken, currentToken(row));
      const holder = present(row.lease_holder);
      const expiresAt = leaseEnd(row, ttlMs, limits);
      await queries.query(sql.setLease, [conversationId, fencingToken, holder, expiresAt]);
      return { lease: { conversationId, holder, fencingToken, expiresAt } };
    }, signal);
  },
};
