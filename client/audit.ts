// The calls about the audit log: what they take, what they return, and how both look on the wire.

import { AgentStoreAdminService } from "../gen/agentstore/v1/agent_store_admin.js";
import * as wire from "../gen/agentstore/v1/audit.js";
import type {
  AuditEventPage,
  AuditFault,
  AuditVerification,
  ListAuditEventsOptions,
  VerifyAuditOptions,
} from "./audit-types.js";
import { paginate } from "./calls.js";
import type { Connection } from "./connection.js";
import { InvalidFieldError } from "./errors.js";
import { date, int32OrZero, int64OrZero, textOrEmpty } from "./fields.js";

const FAULTS = new Map<number, AuditFault["kind"]>([
  [wire.AuditFaultKind.CHANGED, "changed"],
  [wire.AuditFaultKind.CHAIN_BROKEN, "chain_broken"],
  [wire.AuditFaultKind.REMOVED, "removed"],
  [wire.AuditFaultKind.BEHIND_END, "behind_end"],
  [wire.AuditFaultKind.REWRITTEN, "rewritten"],
]);

export async function listAuditEvents(
  connection: Connection,
  options: ListAuditEventsOptions,
): Promise<AuditEventPage> {
  const { startTime, endTime } = options;
  const request: Omit<wire.ListAuditEventsRequest, "requestId"> = {
    pageSize: int32OrZero(options.pageSize, "page_size"),
    pageToken: textOrEmpty(options.pageToken, "page_token"),
    conversationId: int64OrZero(options.conversationId, "conversation_id"),
    principal: textOrEmpty(options.principal, "principal"),
    rpc: textOrEmpty(options.rpc, "rpc"),
    startTime: startTime && date(startTime, "start_time"),
    endTime: endTime && date(endTime, "end_time"),
    afterPosition: int64OrZero(options.afterPosition, "after_position"),
    newestFirst: options.newestFirst ?? false,
  };
  const { response } = await connection.unary(
    AgentStoreAdminService.listAuditEvents,
    { ...request, requestId: textOrEmpty(options.requestId, "request_id") },
    options,
  );
  return {
    events: response.events.map((event) => ({
      ...event,
      time: event.time ?? new Date(Number.NaN),
      sealedTime: event.sealedTime ?? new Date(Number.NaN),
    })),
    nextPageToken: response.nextPageToken,
  };
}

export function iterateAuditEventPages(
  connection: Connection,
  options: ListAuditEventsOptions,
): AsyncGenerator<AuditEventPage, void, undefined> {
  return paginate(options, (page) => listAuditEvents(connection, page));
}

export async function verifyAudit(
  connection: Connection,
  options: VerifyAuditOptions,
): Promise<AuditVerification> {
  let { after } = options;
  if (after !== undefined && after.chain.length !== 32) {
    throw InvalidFieldError.of("after_chain", "must have 32 bytes");
  }
  for (let checked = 0n; ; ) {
    const { response } = await connection.unary(
      AgentStoreAdminService.verifyAudit,
      { afterPosition: after?.position ?? 0n, afterChain: Buffer.from(after?.chain ?? []) },
      options,
    );
    checked += response.checked;
    after = { position: response.position, chain: response.chain };
    if (response.more) {
      options.onProgress?.(checked);
      continue;
    }
    const { fault } = response;
    return {
      checked,
      ...(fault && { fault: { ...fault, kind: FAULTS.get(fault.kind) ?? "unknown" } }),
      end: after,
    };
  }
}
