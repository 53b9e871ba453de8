// Leaves the audit event of a change, in the transaction of the change.
import type { Queries } from "../db/database.js";
import type { Principal } from "../rpc/call.js";
import { hashFacts } from "./hash.js";
import * as sql from "./sql.js";

/** Who makes a change, and from where; a CallContext is one. */
export interface AuditActor {
  readonly principal: Principal;
  /** The caller's address; empty for what the server does by itself. */
  readonly peer: string;
}

/** What the server does by itself in a tenant, such as removing what has expired. */
export function systemActor(tenant: string): AuditActor {
  return { principal: { tenant, name: "system", admin: false }, peer: "" };
}

/** What was changed. Never holds content, nor whom a session belongs to. */
export interface AuditedChange {
  /** The RPC's name, or what the server did by itself, for example `ExpireSession`. */
  rpc: string;
  /** The session that was changed; absent for what concerns no session. */
  conversationId?: bigint | undefined;
  /** The message that was changed, where it was one. */
  seq?: bigint | undefined;
  /** The fields that were changed, by their names in the contract; without their values. */
  fields?: readonly string[] | undefined;
  /** Empty or absent when the caller gave none. */
  requestId?: string | undefined;
}

/**
 * Records a change. To be called once in the transaction of each change that is written, not for
 * one that is replayed or finds nothing to do. Takes no lock: writers never wait for each other
 * here. The statement needs no answer, so it may travel with others: `Promise.all([…])`.
 */
export async function recordAudit(
  queries: Queries,
  actor: AuditActor,
  change: AuditedChange,
): Promise<void> {
  await recordAll(queries, [{ actor, change }]);
}

/** As recordAudit, for several changes of one transaction. */
export async function recordAll(
  queries: Queries,
  changes: { actor: AuditActor; change: AuditedChange }[],
): Promise<void> {
  if (changes.length === 0) return;
  const now = Date.now();
  const rows = changes.map(({ actor: { principal, peer }, change }) => ({
    tenant: principal.tenant,
    atUs: BigInt(now) * 1000n,
    principal: principal.name,
    peer,
    rpc: change.rpc,
    conversationId: change.conversationId ?? null,
    seq: change.seq ?? null,
    fields: [...(change.fields ?? [])],
    requestId: change.requestId ?? "",
  }));
  await queries.query(sql.insertInbox, [
    rows.map(({ tenant }) => tenant),
    new Date(now),
    rows.map(({ principal }) => principal),
    rows.map(({ peer }) => peer),
    rows.map(({ rpc }) => rpc),
    rows.map(({ conversationId }) => conversationId),
    rows.map(({ seq }) => seq),
    // Arrays of arrays must be rectangular in Postgres, so each one travels as JSON.
    rows.map(({ fields }) => JSON.stringify(fields)),
    rows.map(({ requestId }) => requestId),
    rows.map(hashFacts),
  ]);
}
