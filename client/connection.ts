// The connection to one server: its channel, and calls over it that retry what may be retried.

import { randomUUID } from "node:crypto";
import {
  type ChannelOptions,
  Client,
  type ClientReadableStream,
  type ClientWritableStream,
  credentials,
  Metadata,
} from "@grpc/grpc-js";
import { CallScope } from "./call-scope.js";
import { type Settings, timeout } from "./connection-string.js";
import { AgentStoreError, DeadlineExceededError, UnavailableError } from "./errors.js";
import type { CallOptions } from "./options.js";
import { isRetryable, retryDelayMs } from "./retry.js";
import { errorFromStatus, isEndStatus } from "./status.js";

/** One method of the generated service definition. */
export interface Method<Request, Response> {
  path: string;
  requestSerialize: (request: Request) => Buffer;
  responseDeserialize: (bytes: Buffer) => Response;
}

/** One logical call: what stays the same over its attempts. */
export interface LogicalCall<Response> {
  readonly path: string;
  readonly deserialize: (bytes: Buffer) => Response;
  readonly callId: string;
  readonly requestId: string | undefined;
  readonly metadata: Metadata;
  readonly startedAt: number;
  /** The stack of the caller, for the errors of a call that has long returned to the event loop. */
  readonly caller: { stack?: string };
}

/** A client stream that is open. */
export interface Upload<Response> {
  /** Sends a request; returns, when there is room for the next one, whether it still makes sense. */
  send(bytes: Buffer): Promise<boolean>;
  end(): void;
  cancel(): void;
  response: Promise<Response>;
}

const MIB = 1024 * 1024;
const CLOSED = "the AgentStoreClient was closed";
/** A server that was never reached is more likely not there than restarting. */
const ATTEMPTS_TO_REACH = 4;
const READY_WAIT_MS = 200;

const CHANNEL_OPTIONS: ChannelOptions = {
  // A request of AddMessages may have 64 MiB, and its answer repeats it with a little more.
  "grpc.max_receive_message_length": 128 * MIB,
  "grpc.max_send_message_length": 128 * MIB,
  // A page of messages does not wait half way for what says that its first 64 KiB were read.
  "grpc-node.flow_control_window": MIB,
  // Back within a second after the server is.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // A peer that vanished without a word is noticed within 15 seconds of a call, and only then:
  // pings without calls are what servers punish.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.keepalive_permit_without_calls": 0,
  // A client shares neither connections nor their back-off with another client of the process.
  "grpc.use_local_subchannel_pool": 1,
};

/** A channel to one server and what its calls share. */
export class Connection {
  /** The server, as `HOST:PORT`. */
  readonly address: string;
  readonly #settings: Settings;
  readonly #client: Client;
  readonly #calls = new Set<CallScope>();
  #closed = false;
  #reached = false;

  constructor(settings: Settings) {
    const host = settings.host.includes(":") ? `[${settings.host}]` : settings.host;
    this.address = `${host}:${settings.port}`;
    this.#settings = settings;
    this.#client = new Client(
      `dns:${this.address}`,
      settings.tls === false
        ? credentials.createInsecure()
        : credentials.createSsl(settings.tls === true ? null : settings.tls),
      CHANNEL_OPTIONS,
    );
  }

  /** How long a stream may stand still, in milliseconds, unless its caller says otherwise. */
  get timeoutMs(): number {
    return this.#settings.timeoutMs;
  }

  /** Begins a logical call; to be called in the caller's own stack. */
  begin<Request, Response>(
    method: Method<Request, Response>,
    requestId?: string,
  ): LogicalCall<Response> {
    const caller = {};
    // oxlint-disable-next-line typescript/unbound-method -- It is not called, it names a frame.
    Error.captureStackTrace(caller, this.begin);
    const callId = randomUUID();
    const metadata = new Metadata();
    metadata.set("x-request-id", callId);
    if (this.#settings.token !== "") {
      metadata.set("authorization", `Bearer ${this.#settings.token}`);
    }
    return {
      path: method.path,
      deserialize: method.responseDeserialize,
      callId,
      requestId,
      metadata,
      startedAt: Date.now(),
      caller,
    };
  }

  /**
   * Opens the bounds of a call.
   *
   * @param timeoutMs how long it may take, in milliseconds; Infinity for no limit
   * @throws CancelledError when the client is closed, or the signal has aborted already
   */
  open(call: LogicalCall<unknown>, timeoutMs: number, signal: AbortSignal | undefined): CallScope {
    const scope = new CallScope(this.#calls, timeoutMs, signal);
    if (this.#closed) scope.abort(CLOSED);
    if (scope.signal.aborted) {
      scope.close();
      throw this.failed(undefined, call, 0, scope);
    }
    return scope;
  }

  /**
   * Makes a unary call and repeats it while that may help and the deadline allows.
   *
   * @param request the request, with its request_id when it writes
   * @returns the response, and how many attempts it took
   * @throws AgentStoreError
   */
  async unary<Request, Response>(
    method: Method<Request, Response>,
    request: Request & { requestId?: string },
    options: CallOptions,
  ): Promise<{ response: Response; attempts: number }> {
    const call = this.begin(method, request.requestId);
    const bytes = method.requestSerialize(request);
    const timeoutMs = timeout(options.timeoutMs, "timeoutMs") ?? this.timeoutMs;
    const scope = this.open(call, timeoutMs, options.signal);
    let previous: AgentStoreError | undefined;
    try {
      for (let attempts = 1; ; attempts++) {
        try {
          const response = await this.#attempt(call, bytes, scope);
          this.#reached = true;
          return { response, attempts };
        } catch (failure) {
          const error = this.failed(failure, call, attempts, scope);
          if (error instanceof DeadlineExceededError && previous) error.cause = previous;
          previous = error;
          await this.pause(error, call, attempts, scope);
        }
      }
    } finally {
      scope.close();
    }
  }

  #attempt<Response>(
    call: LogicalCall<Response>,
    bytes: Buffer,
    scope: CallScope,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => attempt.cancel();
      const attempt = this.#client.makeUnaryRequest<Buffer, Response>(
        call.path,
        asIs,
        call.deserialize,
        bytes,
        call.metadata,
        { deadline: scope.deadline },
        (failure, response) => {
          scope.signal.removeEventListener("abort", onAbort);
          if (failure !== null) reject(failure);
          else resolve(response as Response);
        },
      );
      scope.signal.addEventListener("abort", onAbort);
    });
  }

  /** Opens one attempt of a server stream. Whoever reads it cancels it when done. */
  stream<Response>(
    call: LogicalCall<Response>,
    bytes: Buffer,
    scope: CallScope,
  ): ClientReadableStream<Response> {
    const stream = this.#client.makeServerStreamRequest<Buffer, Response>(
      call.path,
      asIs,
      call.deserialize,
      bytes,
      call.metadata,
      { deadline: scope.deadline },
    );
    // Its end after a cancel is reported to nobody in particular, which Node takes for a crash.
    stream.on("error", () => {});
    stream.on("metadata", () => {
      this.#reached = true;
    });
    return stream;
  }

  /** Opens a client stream. Whoever sends it ends or cancels it. */
  upload<Response>(call: LogicalCall<Response>, scope: CallScope): Upload<Response> {
    let ended = false;
    let wake = (): void => {};
    let stream: ClientWritableStream<Buffer> | undefined;
    const cancel = (): void => stream?.cancel();
    const response = new Promise<Response>((resolve, reject) => {
      stream = this.#client.makeClientStreamRequest<Buffer, Response>(
        call.path,
        asIs,
        call.deserialize,
        call.metadata,
        { deadline: scope.deadline },
        (failure, answer) => {
          ended = true;
          wake();
          scope.signal.removeEventListener("abort", cancel);
          if (failure !== null) reject(failure);
          else resolve(answer as Response);
        },
      );
      scope.signal.addEventListener("abort", cancel);
    });
    // Whoever sends may not have come to listen yet.
    response.catch(() => {});
    stream?.on("error", () => {});
    return {
      response,
      async send(bytes) {
        const open = stream;
        if (ended || open === undefined) return false;
        await new Promise<void>((resolve) => {
          wake = resolve;
          open.write(bytes, () => resolve());
        });
        return !ended;
      },
      end: () => stream?.end(),
      cancel,
    };
  }

  /** Turns what an attempt failed with into the error that the caller is to see. */
  failed(
    failure: unknown,
    call: LogicalCall<unknown>,
    attempts: number,
    scope: CallScope,
  ): AgentStoreError {
    const facts = { callId: call.callId, requestId: call.requestId, attempts };
    if (scope.signal.aborted) return atCaller(scope.cancelled(facts), call);
    if (failure instanceof AgentStoreError) return atCaller(failure, call);
    if (!isEndStatus(failure)) throw failure;
    const error = errorFromStatus(failure, facts);
    if (error.reason !== "") this.#reached = true;
    return atCaller(this.#explained(error, call), call);
  }

  /**
   * Waits until the next attempt.
   *
   * @param failures how many attempts have failed in a row, 1 or more
   * @throws AgentStoreError the error itself, when another attempt would not help or comes too late
   */
  async pause(
    error: AgentStoreError,
    call: LogicalCall<unknown>,
    failures: number,
    scope: CallScope,
    until = scope.deadline,
  ): Promise<void> {
    const most =
      this.#settings.maxAttempts ?? (this.#reached ? Number.POSITIVE_INFINITY : ATTEMPTS_TO_REACH);
    const delay = retryDelayMs(error, failures);
    if (!isRetryable(error) || failures >= most || Date.now() + delay >= until) throw error;
    await scope.sleep(delay);
    if (scope.signal.aborted) throw this.failed(undefined, call, error.attempts, scope);
  }

  /** Says what to do where neither the server nor gRPC has said it. */
  #explained(error: AgentStoreError, call: LogicalCall<unknown>): AgentStoreError {
    if (error.reason !== "") return error;
    // grpc-js ends some of its texts with a heading that nothing follows.
    const said = error.message.replace(/\.? Resolution note: $/, "");
    const seconds = ((Date.now() - call.startedAt) / 1000).toFixed(1);
    const tried = `${error.attempts} ${error.attempts === 1 ? "attempt" : "attempts"} in ${seconds} s`;
    if (error.code === "UNAVAILABLE") {
      error.message =
        `no AgentStore server could be reached at ${this.address} (${tried}; ${said}). ` +
        "Start one with `agentstore serve`, or set the url or AGENTSTORE_URL to where one runs";
    } else if (error instanceof DeadlineExceededError) {
      error.message = `no answer from ${this.address} in time (${tried}; ${said})`;
    } else {
      error.message = `${said} (${this.address}, ${tried})`;
    }
    return error;
  }

  /**
   * Waits until the server is reached.
   *
   * @throws UnavailableError when it is not within the time given
   */
  async waitForReady(options: CallOptions): Promise<void> {
    const call = this.begin({ path: "", requestSerialize: asIs, responseDeserialize: asIs });
    const timeoutMs = timeout(options.timeoutMs, "timeoutMs") ?? this.timeoutMs;
    const scope = this.open(call, timeoutMs, options.signal);
    try {
      while (!(await this.#readyWithin(scope))) {
        if (scope.signal.aborted) throw this.failed(undefined, call, 0, scope);
        if (Date.now() >= scope.deadline) {
          const message = `no AgentStore server could be reached at ${this.address} within ${timeoutMs} ms`;
          throw atCaller(new UnavailableError({ code: "UNAVAILABLE", message }), call);
        }
      }
      this.#reached = true;
    } finally {
      scope.close();
    }
  }

  /** Whether the server is reached within a moment, a signal or the deadline, whichever is first. */
  #readyWithin(scope: CallScope): Promise<boolean> {
    return new Promise((resolve) => {
      const onAbort = (): void => resolve(false);
      scope.signal.addEventListener("abort", onAbort);
      // In short waits, because a wait cannot be ended and its timer would keep the process alive.
      const deadline = Math.min(scope.deadline, Date.now() + READY_WAIT_MS);
      this.#client.waitForReady(deadline, (error) => {
        scope.signal.removeEventListener("abort", onAbort);
        resolve(error === undefined);
      });
    });
  }

  /** Ends the connection; calls under way throw a CancelledError. */
  close(): void {
    this.#closed = true;
    for (const scope of this.#calls) scope.abort(CLOSED);
    this.#client.close();
  }
}

function asIs(bytes: Buffer): Buffer {
  return bytes;
}

/** Gives an error the stack of the call that it belongs to. */
function atCaller<E extends AgentStoreError>(error: E, call: LogicalCall<unknown>): E {
  const frames = call.caller.stack ?? "";
  error.stack = `${error.name}: ${error.message}\n${frames.slice(frames.indexOf("\n") + 1)}`;
  return error;
}
