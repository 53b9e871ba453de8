// The calls about leases: who may run a session.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import type * as wire from "../gen/agentstore/v1/leases.js";
import { answered, write } from "./calls.js";
import type { Connection } from "./connection.js";
import { int64, int64OrZero, text } from "./fields.js";
import type { AcquireLeaseOptions, CallOptions, RenewLeaseOptions } from "./options.js";
import type { Lease } from "./types.js";

export async function acquireLease(
  connection: Connection,
  id: bigint | number,
  holder: string,
  options: AcquireLeaseOptions,
): Promise<Lease> {
  const response = await write(
    connection,
    AgentStoreService.acquireLease,
    {
      conversationId: int64(id, "conversation_id"),
      holder: text(holder, "holder"),
      ttlMs: int64OrZero(options.ttlMs, "ttl_ms"),
    },
    options,
  );
  return fromWire(response.lease);
}

export async function renewLease(
  connection: Connection,
  id: bigint | number,
  fencingToken: bigint | number,
  options: RenewLeaseOptions,
): Promise<Lease> {
  const { response } = await connection.unary(
    AgentStoreService.renewLease,
    {
      conversationId: int64(id, "conversation_id"),
      fencingToken: int64(fencingToken, "fencing_token"),
      ttlMs: int64OrZero(options.ttlMs, "ttl_ms"),
    },
    options,
  );
  return fromWire(response.lease);
}

export async function releaseLease(
  connection: Connection,
  id: bigint | number,
  fencingToken: bigint | number,
  options: CallOptions,
): Promise<boolean> {
  const { response } = await connection.unary(
    AgentStoreService.releaseLease,
    {
      conversationId: int64(id, "conversation_id"),
      fencingToken: int64(fencingToken, "fencing_token"),
    },
    options,
  );
  return response.released;
}

function fromWire(lease: wire.Lease | undefined): Lease {
  const known = answered(lease);
  return { ...known, expiresAt: answered(known.expiresAt) };
}
