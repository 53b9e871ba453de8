// What bounds one logical call over all its attempts: its deadline, its signal, the client's end.
import { setMaxListeners } from "node:events";
import { type AgentStoreError, CancelledError } from "./errors.js";

/** Holds a call's bounds and tells whoever waits for something when the call is to stop. */
export class CallScope {
  /** When the call must be done, in milliseconds since 1970; Infinity for no deadline. */
  readonly deadline: number;
  readonly #controller = new AbortController();
  readonly #userSignal: AbortSignal | undefined;
  readonly #open: Set<CallScope>;

  /**
   * @param open the scopes of the client's calls under way, which this one joins until it closes
   * @param timeoutMs how long the call may take, in milliseconds; Infinity for no limit
   */
  constructor(open: Set<CallScope>, timeoutMs: number, userSignal: AbortSignal | undefined) {
    this.deadline = Date.now() + timeoutMs;
    this.#open = open;
    this.#userSignal = userSignal;
    if (userSignal?.aborted) this.#onUserAbort();
    if (userSignal !== undefined) {
      // One signal may well bound more than ten calls at once, which Node takes for a leak.
      setMaxListeners(0, userSignal);
      userSignal.addEventListener("abort", this.#onUserAbort);
    }
    open.add(this);
  }

  readonly #onUserAbort = (): void => {
    this.abort("the call was cancelled by its signal", this.#userSignal?.reason);
  };

  /** Aborts when the call is to stop before its deadline. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Stops the call; what waits for it throws a CancelledError with this message and cause. */
  abort(message: string, cause?: unknown): void {
    this.#controller.abort({ message, cause });
  }

  /** The error of a call that was stopped. */
  cancelled(call: Pick<AgentStoreError, "callId" | "requestId" | "attempts">): CancelledError {
    const { message, cause } = this.#controller.signal.reason as {
      message: string;
      cause: unknown;
    };
    return new CancelledError({ code: "CANCELLED", reason: "CANCELLED", message, cause, ...call });
  }

  /** Waits; ends early, without an error, when the call is to stop. */
  async sleep(ms: number): Promise<void> {
    if (this.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.signal.addEventListener("abort", done);
    });
  }

  /** Lets go of the signal and of the client. */
  close(): void {
    this.#userSignal?.removeEventListener("abort", this.#onUserAbort);
    this.#open.delete(this);
  }
}
