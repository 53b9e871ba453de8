// The stream of a watch, which has no end of its own: it is opened again whenever it breaks.

import type { SessionEvent } from "../gen/agentstore/v1/watch.js";
import { readAttempt } from "./attempt.js";
import type { CallScope } from "./call-scope.js";
import type { Connection, LogicalCall, Method } from "./connection.js";
import { timeout } from "./connection-string.js";
import { type AgentStoreError, DeadlineExceededError, UnavailableError } from "./errors.js";
import type { WatchOptions } from "./watch-types.js";

/** Three heartbeats of the server. */
const IDLE_MS = 45_000;

/** What the stream brings: responses, and what becomes of its connection between them. */
export type Received<Response> =
  | { kind: "response"; response: Response }
  | { kind: "interrupted"; error: AgentStoreError }
  | { kind: "reconnected" };

/** The stream of one watch, to be made in the stack of whoever asks for it, and read once. */
export class WatchStream<Request, Response extends { events: SessionEvent[] }> {
  readonly #connection: Connection;
  readonly #method: Method<Request, Response>;
  readonly #request: Request;
  readonly #idleMs: number;
  readonly #signal: AbortSignal | undefined;
  #call: LogicalCall<Response>;

  /** @param request what to ask for; the reader keeps it at what is to be asked for next */
  constructor(
    connection: Connection,
    method: Method<Request, Response>,
    request: Request,
    { idleTimeoutMs, signal }: WatchOptions,
  ) {
    this.#connection = connection;
    this.#method = method;
    this.#request = request;
    this.#idleMs = timeout(idleTimeoutMs, "idleTimeoutMs") ?? IDLE_MS;
    this.#signal = signal;
    this.#call = connection.begin(method);
  }

  /** Opens the bounds of the stream; its reader closes them. */
  open(): CallScope {
    return this.#connection.open(this.#call, Number.POSITIVE_INFINITY, this.#signal);
  }

  /** Throws a CancelledError when the watch is to end. */
  throwIfAborted(scope: CallScope): void {
    if (scope.signal.aborted) throw this.#connection.failed(undefined, this.#call, 0, scope);
  }

  /**
   * Reads the stream for as long as its breaks may pass.
   *
   * @throws AgentStoreError when a break will not pass or the client's `maxAttempts` are used up;
   *   also when the server has not answered once within the client's `timeoutMs`
   */
  async *read(scope: CallScope): AsyncGenerator<Received<Response>, void, undefined> {
    const connection = this.#connection;
    let until = Date.now() + connection.timeoutMs;
    let failures = 0;
    let isInterrupted = false;
    for (;;) {
      let isOpen = false;
      try {
        for await (const response of readAttempt(connection, {
          method: this.#method,
          call: this.#call,
          request: this.#request,
          idleMs: this.#idleMs,
          scope,
        })) {
          if (isInterrupted) yield { kind: "reconnected" };
          isInterrupted = false;
          isOpen = true;
          if (isProgress(response)) failures = 0;
          yield { kind: "response", response };
        }
        throw new UnavailableError({ code: "UNAVAILABLE", message: "the server ended the watch" });
      } catch (failure) {
        if (isOpen) {
          until = Number.POSITIVE_INFINITY;
          this.#call = { ...this.#call, startedAt: Date.now() };
        }
        const error = passing(connection.failed(failure, this.#call, failures + 1, scope));
        await connection.pause(error, this.#call, ++failures, scope, until);
        if (isOpen) {
          isInterrupted = true;
          yield { kind: "interrupted", error };
        }
      }
    }
  }
}

/** A server that ends each watch right after its beginning is asked again more and more seldom. */
function isProgress({ events }: { events: readonly SessionEvent[] }): boolean {
  return events.length === 0 || events.some(({ event }) => event?.$case !== "caughtUp");
}

/** A watch has no deadline: one that has passed is the server's for a page, or a proxy's. */
function passing(error: AgentStoreError): AgentStoreError {
  if (!(error instanceof DeadlineExceededError)) return error;
  const { message, callId, attempts } = error;
  return new UnavailableError({ code: "UNAVAILABLE", message, callId, attempts, cause: error });
}
