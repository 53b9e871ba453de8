// A grpc-js call, unary or with a stream in one direction, as the chain's Call.
import type { EventEmitter } from "node:events";
import {
  Metadata,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from "@grpc/grpc-js";
import type { AuditSealer } from "../audit/sealer.js";
import { everyone } from "../auth/tokens.js";
import type { Database } from "../db/database.js";
import type { EmbeddingsEndpoint } from "../embeddings/endpoint.js";
import { RpcError, tooLong } from "../errors/rpc-error.js";
import { toServiceError } from "../errors/status.js";
import type { AppendQueue } from "../messages/append-queue.js";
import type { PolicySnapshots } from "../snapshots/policy-snapshots.js";
import type { Call, Limits, LogFields, LoggedFields, Principal } from "./call.js";
import { Cancellation } from "./cancellation.js";
import type { AnyRpc } from "./method.js";

/** A unary call of grpc-js whose request is still bytes. */
export type RawUnaryCall = ServerUnaryCall<Buffer, unknown>;

/** A server-streaming call of grpc-js whose request is still bytes. */
export type RawStreamCall = ServerWritableStream<Buffer, unknown>;

/** A client-streaming call of grpc-js whose requests are still bytes. */
export type RawClientStreamCall = ServerReadableStream<Buffer, unknown>;

/** A call of grpc-js, of any of these kinds. */
export type RawCall = RawUnaryCall | RawStreamCall | RawClientStreamCall;

/** What calls see of their server. */
export interface CallEnvironment {
  db: Database;
  appends: AppendQueue;
  audit: AuditSealer;
  snapshots: PolicySnapshots;
  embeddings?: EmbeddingsEndpoint | undefined;
  limits: Limits;
}

// A caller gives up at its deadline, which by the clock here is the time later that its request took
// to arrive.
const DEADLINE_SLACK_MS = 10;

/** One call; answer it inside the chain, then succeed or fail it. */
export class GrpcCall implements Call {
  readonly noted: LoggedFields = {};
  readonly cancellation = new Cancellation();
  readonly startedMs = performance.now();
  // Not known any more when the caller has gone.
  readonly peer: string;
  callId = "";
  principal: Principal = everyone;
  request: unknown;
  readonly db: Database;
  readonly appends: AppendQueue;
  readonly audit: AuditSealer;
  readonly snapshots: PolicySnapshots;
  readonly embeddings: EmbeddingsEndpoint | undefined;
  readonly limits: Limits;
  requestBytes: number;
  readonly #respond: sendUnaryData<unknown> | undefined;
  #due: number;
  #response: unknown;
  #ended = false;

  /**
   * @param raw the call
   * @param respond grpc-js' callback of a call that is answered once; absent for a server stream
   */
  constructor(
    readonly method: string,
    readonly raw: RawCall,
    environment: CallEnvironment,
    respond?: sendUnaryData<unknown>,
  ) {
    this.#respond = respond;
    this.peer = raw.getPeer();
    this.db = environment.db;
    this.appends = environment.appends;
    this.audit = environment.audit;
    this.snapshots = environment.snapshots;
    this.embeddings = environment.embeddings;
    this.limits = environment.limits;
    this.requestBytes = "request" in raw ? raw.request.length : 0;
    (raw as EventEmitter).on("cancelled", () => {
      // grpc-js says so of calls that have ended, too.
      if (!this.#ended) this.abort(this.#cancellation());
    });
    // grpc-js gives a deadline that has passed already one more turn.
    if (this.#isLate()) this.abort(tooLong());
    this.#due = this.startedMs + this.limits.callMs;
  }

  /** May the call go on for as long as its caller likes? */
  get isStream(): boolean {
    return this.#respond === undefined || !("request" in this.raw);
  }

  get signal(): AbortSignal {
    return this.cancellation.signal;
  }

  get rawRequests(): AsyncIterable<Buffer> | [Buffer] {
    return "request" in this.raw ? [this.raw.request] : this.#received(this.raw);
  }

  get metadata(): Metadata {
    return this.raw.metadata;
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
      this.#response = await answer;
      return;
    }
    for await (const page of answer) {
      this.#due = Number.POSITIVE_INFINITY;
      await this.#send(page);
      this.#due = performance.now() + this.limits.callMs;
    }
  }

  /** Tells the caller that all went well. */
  succeed(): void {
    this.#end();
    this.#sendCallId();
    if (this.#respond) this.#respond(null, this.#response);
    else (this.raw as RawStreamCall).end();
  }

  /** Tells the caller what went wrong. */
  fail(failure: RpcError): void {
    this.#end();
    const serviceError = toServiceError(failure);
    this.#sendCallId();
    if (this.#respond) this.#respond(serviceError);
    // destroy() would leave the caller without a status.
    else this.raw.emit("error", serviceError);
  }

  // The requests of a client's stream; the time that a call may take begins anew with each of them.
  async *#received(raw: RawClientStreamCall): AsyncGenerator<Buffer, void, undefined> {
    const requests = raw[Symbol.asyncIterator]() as AsyncIterator<Buffer, void>;
    for (;;) {
      const { done, value } = await this.#unlessAborted(requests.next());
      if (done) return;
      this.requestBytes += value.length;
      this.#due = performance.now() + this.limits.callMs;
      yield value;
    }
  }

  // No Promise.race: a promise that outlives the call's messages would keep all of them.
  #unlessAborted<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(this.signal.reason as RpcError);
      if (this.signal.aborted) onAbort();
      this.signal.addEventListener("abort", onAbort, { once: true });
      work.finally(() => this.signal.removeEventListener("abort", onAbort)).then(resolve, reject);
    });
  }

  // Resolves when the page is on its way. grpc-js counts objects, not bytes, in
  // its write buffer, so only one page is given to it at a time.
  #send(page: unknown): Promise<void> {
    this.#sendCallId();
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(this.signal.reason as RpcError);
      this.signal.throwIfAborted();
      this.signal.addEventListener("abort", onAbort, { once: true });
      (this.raw as RawStreamCall).write(page, () => {
        this.signal.removeEventListener("abort", onAbort);
        resolve();
      });
    });
  }

  #sendCallId(): void {
    this.raw.sendMetadata(new CallIdMetadata(this.callId));
  }

  #end(): void {
    this.#ended = true;
  }

  #cancellation(): RpcError {
    return this.#isLate(DEADLINE_SLACK_MS)
      ? tooLong()
      : new RpcError("CANCELLED", "the caller cancelled the call");
  }

  #isLate(slackMs = 0): boolean {
    return Date.now() + slackMs >= Number(this.raw.getDeadline());
  }
}

// The initial metadata of every call. What is in it needs no checks and no second form.
class CallIdMetadata extends Metadata {
  constructor(readonly callId: string) {
    super();
  }

  override toHttp2Headers(): Record<string, string> {
    return { "x-request-id": this.callId };
  }
}
