// Reads what an error tells its caller, and says what it should have told.
import { type ServiceError, status } from "@grpc/grpc-js";
import { expect } from "vitest";
import { BadRequest, ErrorInfo, RetryInfo } from "../../gen/google/rpc/error_details.js";
import { Status } from "../../gen/google/rpc/status.js";

/** An error as it went over the wire. */
export interface Fault {
  /** For example `NOT_FOUND`. */
  code: string;
  /** The text of the status. */
  text: string;
  /** ErrorInfo. */
  reason: string | undefined;
  domain: string | undefined;
  metadata: Record<string, string>;
  /** The fields that BadRequest names. */
  fields: string[];
  /** All texts that it holds, to look for what must not be there. */
  everything: string;
  /** RetryInfo's delay, in milliseconds. */
  retryAfterMs: number | undefined;
}

/** Unpacks an error that grpc-js gave. */
export function faultOf(error: unknown): Fault {
  const { code, details, metadata } = error as ServiceError;
  if (code === undefined) throw error;
  const packed = metadata?.get("grpc-status-details-bin")[0];
  return unpack(code, details, Buffer.isBuffer(packed) ? packed : Buffer.alloc(0));
}

/** Unpacks a status: its code, its text and the bytes of its details. */
export function unpack(code: number | undefined, text: string, packed: Buffer): Fault {
  const rich = Status.decode(packed);
  const find = (type: string) =>
    rich.details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${type}`)?.value;
  const infoBytes = find("ErrorInfo");
  const info = infoBytes && ErrorInfo.decode(infoBytes);
  const badBytes = find("BadRequest");
  const bad = badBytes ? BadRequest.decode(badBytes).fieldViolations : [];
  const retryBytes = find("RetryInfo");
  const delay = retryBytes && RetryInfo.decode(retryBytes).retryDelay;
  if (packed.length > 0) {
    expect([rich.code, rich.message], "the details repeat the status").toEqual([code, text]);
  }
  return {
    code: code === undefined ? "none" : (status[code] ?? String(code)),
    text,
    reason: info?.reason,
    domain: info?.domain,
    metadata: info?.metadata ?? {},
    fields: bad.map(({ field }) => field),
    everything: JSON.stringify([text, info, bad]),
    retryAfterMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
  };
}

const CODES: Record<string, string> = {
  SESSION_NOT_FOUND: "NOT_FOUND",
  MESSAGE_NOT_FOUND: "NOT_FOUND",
  LAST_SEQ_MISMATCH: "ABORTED",
  LEASE_HELD: "FAILED_PRECONDITION",
  LEASE_LOST: "FAILED_PRECONDITION",
  ETAG_MISMATCH: "ABORTED",
  REVISION_MISMATCH: "ABORTED",
  REVISION_AHEAD: "OUT_OF_RANGE",
  VERSION_NOT_FOUND: "NOT_FOUND",
  MESSAGE_DELETED: "NOT_FOUND",
  MESSAGE_NOT_DELETED: "FAILED_PRECONDITION",
  SNAPSHOT_NOT_FOUND: "NOT_FOUND",
  TOO_MANY_SNAPSHOTS: "FAILED_PRECONDITION",
  DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
  CANCELLED: "CANCELLED",
};

/** What an error should tell. */
export interface ExpectedFault {
  /** ErrorInfo's reason; it decides the code. */
  reason: string;
  /** All fields that BadRequest names, in order; none when absent. */
  fields?: string[];
  /** Entries of ErrorInfo's metadata. */
  metadata?: Record<string, string>;
}

/** Asserts that a fault is this one, in code, reason, domain, fields and metadata. */
export function expectFault(fault: Fault, expected: ExpectedFault): void {
  const { code, reason, domain, fields } = fault;
  expect({ code, reason, domain, fields }, fault.text).toEqual({
    code: CODES[expected.reason] ?? "INVALID_ARGUMENT",
    reason: expected.reason,
    domain: "agentstore",
    fields: expected.fields ?? [],
  });
  const [field] = expected.fields ?? [];
  expect(fault.metadata).toMatchObject({ ...(field && { field }), ...expected.metadata });
  expect(fault.text).not.toBe("");
}

/** Awaits the failure of a call and returns what it told. */
export async function failure(call: Promise<unknown>): Promise<Fault> {
  const outcome = await call.then(
    (answer) => ({ answer }),
    (error: unknown) => ({ error }),
  );
  if ("error" in outcome) return faultOf(outcome.error);
  throw new Error(`the call succeeded: ${String(outcome.answer)}`);
}
