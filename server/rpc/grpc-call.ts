// A grpc-js call, unary or server stream, as the chain's Call.
import {
  Metadata,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { everyone } from "../auth/tokens.js";
import type { Database } from "../db/database.js";
import { RpcError, tooLong } from "../errors/rpc-error.js";
import { toServiceError } from "../errors/status.js";
import type { AppendQueue } from "../messages/append-queue.js";
import type { Call, Limits, LogFields, LoggedFields, Principal } from "./call.js";
import { Cancellation } from "./cancellation.js";
import type { StreamRpc, UnaryRpc } from "./method.js";

/** A unary call of grpc-js whose request is still bytes. */
export type RawUnaryCall = ServerUnaryCall<Buffer, unknown>;

/** A server-streaming call of grpc-js whose request is still bytes. */
export type RawStreamCall = ServerWritableStream<Buffer, unknown>;

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
  readonly #respond: sendUnaryData<unknown> | undefined;
  #due: number;
  #response: unknown;
  #ended = false;

  /**
   * @param raw the call
   * @param respond grpc-js' callback of a unary call; absent for a stream
   */
  constructor(
    readonly method: string,
    readonly raw: RawUnaryCall | RawStreamCall,
    readonly db: Database,
    readonly appends: AppendQueue,
    readonly limits: Limits,
    respond?: sendUnaryData<unknown>,
  ) {
    this.#respond = respond;
    this.peer = raw.getPeer();
    raw.on("cancelled", () => {
      // grpc-js says so of calls that have ended, too.
      if (!this.#ended) this.abort(this.#cancellation());
    });
    // grpc-js gives a deadline that has passed already one more turn.
    if (this.#isLate()) this.abort(tooLong());
    this.#due = this.startedMs + limits.callMs;
  }

  get isStream(): boolean {
    return this.#respond === undefined;
  }

  get signal(): AbortSignal {
    return this.cancellation.signal;
  }

  get requestBytes(): Buffer {
    return this.raw.request;
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
  async answer(rpc: UnaryRpc<unknown, unknown> | StreamRpc<unknown, unknown>): Promise<void> {
    if (this.cancellation.reason) throw this.cancellation.reason;
    const answer = rpc.handle(this.request, this);
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
