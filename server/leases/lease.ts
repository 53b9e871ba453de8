// What the lease RPCs have in common: the lock, the lease's length, and whose it is.
import type { Queries } from "../db/database.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { CallContext, Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import { assertCurrent } from "./fence.js";
import type { LeaseRow } from "./sql.js";
import * as sql from "./sql.js";

/** Checks how long a lease is to last; 0 is the default. */
export function checkTtl(ttlMs: bigint, check: FieldChecks, limits: Limits): void {
  if (ttlMs !== 0n) check.within("ttl_ms", ttlMs, limits.leaseMsLeast, limits.leaseMsMost);
}

/** When a lease ends that is given now, for so many milliseconds or, with 0, the default. */
export function leaseEnd({ now }: LeaseRow, ttlMs: bigint, limits: Limits): Date {
  return new Date(now.getTime() + Number(ttlMs || limits.leaseMsDefault));
}

/** Locks a session until the transaction ends and returns its lease; undefined without a session. */
export async function lockLease(
  queries: Queries,
  { principal }: CallContext,
  conversationId: bigint,
): Promise<LeaseRow | undefined> {
  const values = [conversationId, principal.tenant];
  // Both in one round trip; the second one begins when the lock is there.
  const [, [row]] = await Promise.all([
    queries.query(sql.lockLease, values),
    queries.query(sql.getLease, values),
  ]);
  return row;
}

/**
 * The token that appends must carry, if they carry one: that of the lease, expired
 * or not, until it is released or someone else acquires it. 0 when nobody holds it.
 */
export function currentToken({ lease_token, lease_holder }: LeaseRow): bigint {
  return lease_holder === null ? 0n : lease_token;
}

/**
 * Checks that a lease is still the session's, for a call that writes nothing.
 *
 * @param fencingToken the lease's; 0 checks only that the session is there
 * @throws SESSION_NOT_FOUND, LEASE_LOST
 */
export async function assertLease(
  { db, principal, signal }: CallContext,
  conversationId: bigint,
  fencingToken: bigint,
): Promise<void> {
  const [row] = await db.query(sql.getLease, [conversationId, principal.tenant], signal);
  if (!row) throw sessionNotFound(conversationId);
  assertCurrent(conversationId, fencingToken, currentToken(row));
}
