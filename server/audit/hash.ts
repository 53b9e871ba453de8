// What the hashes of the audit log are made of, as the decision record of the chain says.
import { createHash } from "node:crypto";

/** What one change left in the audit log. */
export interface AuditFacts {
  tenant: string;
  /** When, in microseconds since 1970. */
  atUs: bigint;
  principal: string;
  peer: string;
  rpc: string;
  conversationId: bigint | null;
  seq: bigint | null;
  fields: string[];
  requestId: string;
}

/** The chain before a tenant's first event. */
export const EMPTY_CHAIN: Buffer = Buffer.alloc(32);

/** The SHA-256 of an event's facts: of the JSON text of an array that anyone can write. */
export function hashFacts(facts: AuditFacts): Buffer {
  const { tenant, atUs, principal, peer, rpc, conversationId, seq, fields, requestId } = facts;
  return sha256(
    JSON.stringify([
      tenant,
      String(atUs),
      principal,
      peer,
      rpc,
      conversationId === null ? null : String(conversationId),
      seq === null ? null : String(seq),
      fields,
      requestId,
    ]),
  );
}

/**
 * The SHA-256 that ties an event to all before it.
 *
 * @param before the chain at the position before; EMPTY_CHAIN before the first one
 * @param sealedAtUs when the event got its position, in microseconds since 1970
 * @param hash from hashFacts()
 */
export function chainHash(
  before: Buffer,
  position: bigint,
  sealedAtUs: bigint,
  hash: Buffer,
): Buffer {
  return sha256(
    JSON.stringify([
      before.toString("hex"),
      String(position),
      String(sealedAtUs),
      hash.toString("hex"),
    ]),
  );
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
