// A grpc-js call, unary or with a stream in one direction, as the chain's Call.
import type { EventEmitter } from "node:events";
import {
  Metadata,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { RpcError, tooLong } from "../errors/rpc-error.js";
import { toServiceError } from "../errors/status.js";
import { type CallEnvironment, ServedCall } from "./served-call.js";

/** A unary call of grpc-js whose request is still bytes. */
export type RawUnaryCall = ServerUnaryCall<Buffer, unknown>;

/** A server-streaming call of grpc-js whose request is still bytes. */
export type RawStreamCall = ServerWritableStream<Buffer, unknown>;

/** A client-streaming call of grpc-js whose requests are still bytes. */
export type RawClientStreamCall = ServerReadableStream<Buffer, unknown>;

/** A call of grpc-js, of any of these kinds. */
export type RawCall = RawUnaryCall | RawStreamCall | RawClientStreamCall;

// A caller gives up at its deadline, which by the clock here is the time later that its request took
// to arrive.
const DEADLINE_SLACK_MS = 10;

/** A call that came over gRPC. */
export class GrpcCall extends ServedCall {
  readonly #respond: sendUnaryData<unknown> | undefined;
  #response: unknown;
  #ended = false;
  // Of the page that was sent last, which may have been taken already.
  #rejectSend: ((reason: RpcError | undefined) => void) | undefined;

  /**
   * @param raw the call
   * @param respond grpc-js' callback of a call that is answered once; absent for a server stream
   */
  constructor(
    method: string,
    readonly raw: RawCall,
    environment: CallEnvironment,
    respond?: sendUnaryData<unknown>,
  ) {
    // The peer is not known any more when the caller has gone.
    super(method, raw.getPeer(), environment);
    this.#respond = respond;
    this.requestBytes = "request" in raw ? raw.request.length : 0;
    (raw as EventEmitter).on("cancelled", () => {
      // grpc-js says so of calls that have ended, too.
      if (!this.#ended) this.abort(this.#cancellation());
    });
    // grpc-js gives a deadline that has passed already one more turn.
    if (this.#isLate()) this.abort(tooLong());
  }

  get isStream(): boolean {
    return this.#respond === undefined || !("request" in this.raw);
  }

  get rawRequests(): AsyncIterable<Buffer> | [Buffer] {
    return "request" in this.raw ? [this.raw.request] : this.#received(this.raw);
  }

  header(name: string): string | undefined {
    const [value] = this.raw.metadata.get(name);
    return typeof value === "string" ? value : undefined;
  }

  // grpc-js says that a stream is past its deadline when its caller has read all that was sent.
  override abortIfDue(nowMs: number): void {
    if (this.#isLate()) this.abort(tooLong());
    else super.abortIfDue(nowMs);
  }

  succeed(): void {
    this.#ended = true;
    this.#sendCallId();
    if (this.#respond) this.#respond(null, this.#response);
    else (this.raw as RawStreamCall).end();
  }

  fail(failure: RpcError): void {
    this.#ended = true;
    const serviceError = toServiceError(failure);
    this.#sendCallId();
    if (this.#respond) this.#respond(serviceError);
    // destroy() would leave the caller without a status.
    else this.raw.emit("error", serviceError);
  }

  protected keep(response: unknown): void {
    this.#response = response;
  }

  // Resolves when the page is on its way. grpc-js counts objects, not bytes, in
  // its write buffer, so only one page is given to it at a time.
  protected send(page: unknown): Promise<void> {
    const { cancellation } = this;
    if (!this.#rejectSend) {
      this.#sendCallId();
      cancellation.onCancel(() => this.#rejectSend?.(cancellation.reason));
    }
    return new Promise((resolve, reject) => {
      if (cancellation.reason) throw cancellation.reason;
      this.#rejectSend = reject;
      (this.raw as RawStreamCall).write(page, () => resolve());
    });
  }

  // The requests of a client's stream; the time that a call may take begins anew with each of them.
  async *#received(raw: RawClientStreamCall): AsyncGenerator<Buffer, void, undefined> {
    const requests = raw[Symbol.asyncIterator]() as AsyncIterator<Buffer, void>;
    for (;;) {
      const { done, value } = await this.unlessAborted(requests.next());
      if (done) return;
      this.requestBytes += value.length;
      this.beginAnew();
      yield value;
    }
  }

  #sendCallId(): void {
    this.raw.sendMetadata(new CallIdMetadata(this.callId));
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
