// A call on its way through the chain, but for what its transport does in its own way.
import type { AuditSealer } from "../audit/sealer.js";
import { everyone } from "../auth/tokens.js";
import type { Database } from "../db/database.js";
import type { EmbeddingsEndpoint } from "../embeddings/endpoint.js";
import { type RpcError, tooLong } from "../errors/rpc-error.js";
import type { AppendQueue } from "../messages/append-queue.js";
import type { PolicySnapshots } from "../snapshots/policy-snapshots.js";
import type { Watches } from "../watch/watches.js";
import type { Call, Limits, LogFields, LoggedFields, Principal } from "./call.js";
import { Cancellation } from "./cancellation.js";
import type { AnyRpc } from "./method.js";

/** What calls see of their server. */
export interface CallEnvironment {
  db: Database;
  appends: AppendQueue;
  audit: AuditSealer;
  snapshots: PolicySnapshots;
  watches: Watches;
  embeddings?: EmbeddingsEndpoint | undefined;
  limits: Limits;
}

/** One call; answer it inside the chain, then succeed or fail it. */
export abstract class ServedCall implements Call {
  readonly noted: LoggedFields = {};
  readonly cancellation = new Cancellation();
  readonly startedMs = performance.now();
  callId = "";
  principal: Principal = everyone;
  request: unknown;
  requestBytes = 0;
  readonly db: Database;
  readonly appends: AppendQueue;
  readonly audit: AuditSealer;
  readonly snapshots: PolicySnapshots;
  readonly watches: Watches;
  readonly embeddings: EmbeddingsEndpoint | undefined;
  readonly limits: Limits;
  #due: number;

  constructor(
    readonly method: string,
    readonly peer: string,
    environment: CallEnvironment,
  ) {
    this.db = environment.db;
    this.appends = environment.appends;
    this.audit = environment.audit;
    this.snapshots = environment.snapshots;
    this.watches = environment.watches;
    this.embeddings = environment.embeddings;
    this.limits = environment.limits;
    this.#due = this.startedMs + this.limits.callMs;
  }

  abstract get rawRequests(): AsyncIterable<Buffer> | [Buffer];

  /** May the call go on for as long as its caller likes? */
  abstract get isStream(): boolean;

  abstract header(name: string): string | undefined;

  get signal(): AbortSignal {
    return this.cancellation.signal;
  }

  note(fields: LogFields): void {
    for (const [name, value] of Object.entries(fields)) {
      this.noted[name] = typeof value === "bigint" ? Number(value) : value;
    }
  }

  /** Ends the call if it, or the page of its stream, has taken too long at this time. */
  abortIfDue(nowMs: number): void {
    if (nowMs >= this.#due) this.abort(tooLong());
  }

  abort(reason: RpcError): void {
    this.cancellation.cancel(reason);
  }

  /** Runs the RPC; a stream is sent page by page, as fast as the caller reads. */
  async answer(rpc: AnyRpc): Promise<void> {
    if (this.cancellation.reason) throw this.cancellation.reason;
    const answer = rpc.handle(this.request as AsyncIterable<unknown>, this);
    if (answer instanceof Promise) {
      this.keep(await answer);
      return;
    }
    for await (const page of answer) {
      this.#due = Number.POSITIVE_INFINITY;
      await this.send(page);
      this.beginAnew();
    }
  }

  /** Tells the caller that all went well. */
  abstract succeed(): void;

  /** Tells the caller what went wrong. */
  abstract fail(failure: RpcError): void;

  /** Keeps the response until the chain lets it go. */
  protected abstract keep(response: unknown): void;

  /** Sends a page of a stream; resolves when the next one may follow, rejects when the call ends. */
  protected abstract send(page: unknown): Promise<void>;

  /** The time that the call may take begins now. */
  protected beginAnew(): void {
    this.#due = performance.now() + this.limits.callMs;
  }

  /** Settles as the work does, or rejects when the call ends before. */
  // No Promise.race: a promise that outlives the call's messages would keep all of them.
  protected unlessAborted<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(this.signal.reason as RpcError);
      if (this.signal.aborted) onAbort();
      this.signal.addEventListener("abort", onAbort, { once: true });
      work.finally(() => this.signal.removeEventListener("abort", onAbort)).then(resolve, reject);
    });
  }
}
