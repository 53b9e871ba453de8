// AcquireLease: the right to run a session, unless someone else has it.
import {
  type AcquireLeaseRequest,
  type AcquireLeaseResponse,
  Lease,
} from "../../gen/agentstore/v1/leases.js";
import { RpcError, sessionNotFound } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { checkTtl, leaseEnd, lockLease } from "./lease.js";
import type { LeaseRow } from "./sql.js";
import * as sql from "./sql.js";

export const acquireLease: UnaryRpc<AcquireLeaseRequest, AcquireLeaseResponse> = {
  validate({ conversationId, holder, ttlMs, requestId }, check, limits) {
    check.positive("conversation_id", conversationId);
    check.requiredText("holder", holder, limits.idCharacters);
    checkTtl(ttlMs, check, limits);
    checkRequestId(check, requestId);
  },

  async handle(request, context) {
    const { conversationId, holder, ttlMs, requestId } = request;
    const write = {
      conversationId,
      tenant: context.principal.tenant,
      requestId,
      fingerprint: fingerprint(context, "AcquireLease", request),
    };
    context.note({ conversation_id: conversationId });
    return await repeatable(context, async (queries) => {
      const [row, kept] = await Promise.all([
        lockLease(queries, context, conversationId),
        // In a statement after the lock's, so that it sees what the lock waited for.
        findAnswer(queries, write),
      ]);
      if (kept) return { lease: Lease.decode(present(kept.answer)), replayed: true };
      if (!row) throw sessionNotFound(conversationId);
      assertFree(conversationId, row);
      const lease: Lease = {
        conversationId,
        holder,
        fencingToken: row.lease_token + 1n,
        expiresAt: leaseEnd(row, ttlMs, context.limits),
      };
      context.note({ fencing_token: lease.fencingToken });
      const values = [conversationId, lease.fencingToken, holder, lease.expiresAt];
      await queries.query(sql.setLease, values);
      await keepAnswer(queries, write, { answer: Lease.encode(lease).finish() }, row.now);
      return { lease, replayed: false };
    });
  },
};

function assertFree(conversationId: bigint, row: LeaseRow): void {
  const { lease_holder: holder, lease_expires_at: expiresAt, now } = row;
  if (holder === null || expiresAt === null || expiresAt <= now) return;
  throw new RpcError(
    "LEASE_HELD",
    `${JSON.stringify(holder)} holds the lease of session ${conversationId} until ${expiresAt.toISOString()}`,
    {
      metadata: {
        conversation_id: String(conversationId),
        holder,
        expires_at: expiresAt.toISOString(),
      },
      retryAfterMs: expiresAt.getTime() - now.getTime(),
    },
  );
}
