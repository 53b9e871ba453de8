// One attempt of a server stream, which ends when it breaks, stands still or is cancelled.

import type { CallScope } from "./call-scope.js";
import type { Connection, LogicalCall, Method } from "./connection.js";
import { UnavailableError } from "./errors.js";

/** What an attempt reads, and within which bounds. */
export interface Attempt<Request, Response> {
  method: Method<Request, Response>;
  call: LogicalCall<Response>;
  request: Request;
  /** How long it may stand still, in milliseconds. The time that the consumer takes does not count. */
  idleMs: number;
  scope: CallScope;
}

/**
 * Reads one attempt of a stream. Ends the call when its consumer leaves.
 *
 * @throws UnavailableError when it stands still; otherwise what gRPC reports
 */
export async function* readAttempt<Request, Response>(
  connection: Connection,
  { method, call, request, idleMs, scope }: Attempt<Request, Response>,
): AsyncGenerator<Response, void, undefined> {
  const stream = connection.stream(call, method.requestSerialize(request), scope);
  const cancel = (): void => stream.cancel();
  scope.signal.addEventListener("abort", cancel);
  let idle: UnavailableError | undefined;
  const onIdle = (): void => {
    const message = `the stream stood still for ${idleMs} ms`;
    idle = new UnavailableError({ code: "UNAVAILABLE", message, callId: call.callId });
    cancel();
  };
  const responses: AsyncIterator<Response> = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      const timer = setTimeout(onIdle, idleMs);
      const response = await responses.next().finally(() => clearTimeout(timer));
      if (response.done) return;
      yield response.value;
    }
  } catch (failure) {
    throw idle ?? failure;
  } finally {
    scope.signal.removeEventListener("abort", cancel);
    cancel();
  }
}
