// Why a call has ended before its answer, for those who ask and for those who wait to hear.
import type { RpcError } from "../errors/rpc-error.js";

/**
 * What an AbortSignal does, at a tenth of the price: the signal itself is made only for those who
 * need one. An append needs none.
 */
export class Cancellation {
  /** What the call ended with; undefined while it goes on. */
  reason: RpcError | undefined;
  #listeners: (() => void)[] = [];
  #controller: AbortController | undefined;

  /** The same as an AbortSignal, whose reason is an RpcError. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.reason) this.#controller.abort(this.reason);
    }
    return this.#controller.signal;
  }

  /** Calls back when the call is cancelled; not if it is already. */
  onCancel(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Ends the call; only the first reason counts. */
  cancel(reason: RpcError): void {
    if (this.reason) return;
    this.reason = reason;
    this.#controller?.abort(reason);
    for (const listener of this.#listeners) listener();
    this.#listeners = [];
  }
}
