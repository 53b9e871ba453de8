// The calls in flight of one server, over all transports: when they have to end.
import { shuttingDown } from "../errors/rpc-error.js";
import type { Method } from "./methods.js";
import type { ServedCall } from "./served-call.js";

// A timer for each call costs more than all its other bookkeeping: setting and clearing it wakes the
// event loop's own timer.
const CHECK_EVERY_MS = 1_000;

/** Runs calls, and ends those that take too long or that outlast the server. */
export class CallsInFlight {
  readonly #all = new Set<ServedCall>();
  readonly #clock: NodeJS.Timeout;
  #draining = false;

  constructor() {
    this.#clock = setInterval(() => {
      const now = performance.now();
      for (const call of this.#all) call.abortIfDue(now);
    }, CHECK_EVERY_MS);
    this.#clock.unref();
  }

  /** Takes a call through its method's chain and tells the caller how it ended. */
  run(method: Method, call: ServedCall): void {
    this.#all.add(call);
    if (this.#draining) call.abort(shuttingDown());
    void method.run(call).then((failure) => {
      this.#all.delete(call);
      if (failure) call.fail(failure);
      else call.succeed();
    });
  }

  /** Ends all streams with SHUTTING_DOWN, and refuses calls that come from now on. */
  drain(): void {
    this.#draining = true;
    for (const call of this.#all) if (call.isStream) call.abort(shuttingDown());
  }

  /** Ends the unary calls too. */
  abort(): void {
    for (const call of this.#all) call.abort(shuttingDown());
  }

  /** When all have ended. */
  close(): void {
    clearInterval(this.#clock);
  }
}
