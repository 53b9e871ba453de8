// What the calls about the audit log take and return.
import type { CallOptions } from "./options.js";

/** One change, as the audit log has it. Holds no content. */
export interface AuditEvent {
  /** The event's place in its tenant's log: 1, 2, 3 … without gaps. */
  position: bigint;
  /** When the change was made, by the server's clock. */
  time: Date;
  /** Who made it: `anonymous` without authentication, `system` for the server itself. */
  principal: string;
  /** From where: the caller's address; empty for the server itself. */
  peer: string;
  /** The RPC's name, for example `UpdateSession`. */
  rpc: string;
  /** The session that was changed; 0 for what concerns no session. */
  conversationId: bigint;
  /** The message that was changed, or the last one that was appended; 0 where it was none. */
  seq: bigint;
  /** The fields that were changed, by their names in the contract. */
  fields: string[];
  /** The call's request_id; empty when it had none. */
  requestId: string;
  /** When the event got its position. */
  sealedTime: Date;
  /** The SHA-256 of the event itself. */
  hash: Uint8Array;
  /** The SHA-256 of the event and of all events before it. */
  chain: Uint8Array;
}

/** Which audit events to list. All that is given has to match. */
export interface ListAuditEventsOptions extends CallOptions {
  /** How many events a page has at the most: 1 to 1,000. Default: 100. */
  pageSize?: number | undefined;
  /** The `nextPageToken` of the page before; left out for the first page. */
  pageToken?: string | undefined;
  /** Only changes to this session. */
  conversationId?: bigint | number | undefined;
  /** Only changes by this principal. */
  principal?: string | undefined;
  /** Only changes by this RPC, for example `DeleteSession`. */
  rpc?: string | undefined;
  /** Only changes made at this time or later. */
  startTime?: Date | undefined;
  /** Only changes made before this time. */
  endTime?: Date | undefined;
  /** Only changes with this request_id. */
  requestId?: string | undefined;
  /** Only events with a higher position. */
  afterPosition?: bigint | number | undefined;
  /** The newest events first. */
  newestFirst?: boolean | undefined;
}

/** A page of audit events. */
export interface AuditEventPage {
  /** By position. */
  events: AuditEvent[];
  /** Asks for the page after this one; empty when this is the last. */
  nextPageToken: string;
}

/** A position of an audit log with the chain that it had there. */
export interface AuditAnchor {
  position: bigint;
  /** 32 bytes. */
  chain: Uint8Array;
}

/** What is wrong with an audit log, at the first place where something is. */
export interface AuditFault {
  position: bigint;
  /**
   * `changed`: the event is not what its own hash says. `chain_broken`: it does not follow from those
   * before it: it was put there, replaced or moved. `removed`: there is none at this position.
   * `behind_end`: there is one behind the recorded end. `rewritten`: the log up to the anchor is
   * another one than it was.
   */
  kind: "changed" | "chain_broken" | "removed" | "behind_end" | "rewritten" | "unknown";
  /** The same for people. */
  description: string;
}

/** How to verify an audit log. It takes a call, with its own `timeoutMs`, for each 100,000 events. */
export interface VerifyAuditOptions extends CallOptions {
  /** Begins behind this position; by default at the first event. */
  after?: AuditAnchor | undefined;
  /** Hears now and then how many events have been checked. */
  onProgress?: ((checked: bigint) => void) | undefined;
}

/** What came of verifying an audit log. */
export interface AuditVerification {
  /** How many events were found right. */
  checked: bigint;
  /** Absent when nothing is wrong. */
  fault?: AuditFault | undefined;
  /** The end of what was found right: keep it outside of the database. */
  end: AuditAnchor;
}
