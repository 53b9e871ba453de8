// Audit events between their row and the contract.
import type { AuditEvent } from "../../gen/agentstore/v1/audit.js";
import type { AuditFacts } from "./hash.js";
import type { EventRow } from "./sql.js";

/** Makes the AuditEvent of a row. */
export function toAuditEvent(row: EventRow): AuditEvent {
  return {
    position: row.position,
    time: toDate(row.at_us),
    principal: row.principal,
    peer: row.peer,
    rpc: row.rpc,
    conversationId: row.conversation_id ?? 0n,
    seq: row.seq ?? 0n,
    fields: row.fields,
    requestId: row.request_id,
    sealedTime: toDate(row.sealed_at_us),
    hash: row.hash,
    chain: row.chain,
  };
}

/** What the event's hash is made of. */
export function factsOf(row: EventRow): AuditFacts {
  return {
    tenant: row.tenant_id,
    atUs: row.at_us,
    principal: row.principal,
    peer: row.peer,
    rpc: row.rpc,
    conversationId: row.conversation_id,
    seq: row.seq,
    fields: row.fields,
    requestId: row.request_id,
  };
}

function toDate(us: bigint): Date {
  return new Date(Number(us / 1000n));
}
