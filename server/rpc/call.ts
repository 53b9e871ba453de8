// One call as the interceptor chain and the handlers see it.
import type { AuditSealer } from "../audit/sealer.js";
import type { limits } from "../config.js";
import type { Database } from "../db/database.js";
import type { EmbeddingsEndpoint } from "../embeddings/endpoint.js";
import type { RpcError } from "../errors/rpc-error.js";
import type { AppendQueue } from "../messages/append-queue.js";
import type { PolicySnapshots } from "../snapshots/policy-snapshots.js";
import type { Watches } from "../watch/watches.js";
import type { Cancellation } from "./cancellation.js";

/** On whose behalf a call is made; from the credentials alone. */
export interface Principal {
  /** Whose data the call can see. */
  tenant: string;
  /** Who calls, for logs and the audit log. */
  name: string;
  /** May the caller use AgentStoreAdmin? */
  admin: boolean;
}

/** What handlers work with besides the request. */
export interface CallContext {
  /** On whose behalf. */
  readonly principal: Principal;
  /** The caller's address. */
  readonly peer: string;
  /** Tells when the caller goes away, the deadline passes or the server stops. */
  readonly cancellation: Cancellation;
  /** The cancellation's signal. */
  readonly signal: AbortSignal;
  /** The store. */
  readonly db: Database;
  /** Where appends are grouped. */
  readonly appends: AppendQueue;
  /** What gives the audit log's events their places. */
  readonly audit: AuditSealer;
  /** What takes snapshots by policy. */
  readonly snapshots: PolicySnapshots;
  /** What tells watches of changes. */
  readonly watches: Watches;
  /** What embeds queries; absent where none is configured. */
  readonly embeddings: EmbeddingsEndpoint | undefined;
  /** The limits in force. */
  readonly limits: Limits;
  /** Adds ids, sizes and counts to the call's log line. Never content. */
  note(fields: LogFields): void;
}

/** The fixed limits and the one that the operator sets. */
export type Limits = typeof limits & { readonly messageBytes: number };

/** What a log line may hold. */
export type LogFields = Record<string, string | number | bigint | boolean>;

/** Noted fields as they are written. */
export type LoggedFields = Record<string, string | number | boolean>;

/** A call on its way through the chain. */
export interface Call extends CallContext {
  /** The RPC's name, for example `AddMessage`. */
  readonly method: string;
  /** How many bytes of requests have come off the wire. */
  readonly requestBytes: number;
  /**
   * The requests as they came off the wire: one, or those of a client's stream, which is asked for
   * the next one when the one before has been dealt with.
   */
  readonly rawRequests: AsyncIterable<Buffer> | [Buffer];
  /** What the caller sent beside the request under a name in lower case: metadata, or a header. */
  header(name: string): string | undefined;
  /** The caller's x-request-id, or one made here; tells calls apart in logs. */
  callId: string;
  principal: Principal;
  /** The decoded and validated request, or the stream of them. */
  request: unknown;
  /** When the call began, by performance.now(). */
  readonly startedMs: number;
  /** What was noted for the log. */
  readonly noted: LoggedFields;
  /** Ends the call with this error, as soon as its handler notices. */
  abort(reason: RpcError): void;
}
