// Those who wait for one thing to happen, again and again.

/** Any number of waiters, woken all at once. */
export class Waiters {
  readonly #all = new Set<Waiter>();

  /**
   * Joins them, until the waiter leaves.
   *
   * @param ms the longest time of a wait, in milliseconds
   * @param signal whose reason ends a wait
   */
  join(ms: number, signal: AbortSignal): Waiter {
    const waiter = new Waiter(ms, signal, () => this.#all.delete(waiter));
    this.#all.add(waiter);
    return waiter;
  }

  wake(): void {
    for (const waiter of this.#all) waiter.wake();
  }
}

/**
 * One of those who wait. Its timer and its listener are made once: a watch that is told much waits
 * thousands of times a second.
 */
export class Waiter {
  #resolve: ((isWoken: boolean) => void) | undefined;
  #reject: ((reason: Error) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #ms: number;
  readonly #signal: AbortSignal;
  readonly #onLeave: () => void;

  constructor(ms: number, signal: AbortSignal, onLeave: () => void) {
    this.#ms = ms;
    this.#signal = signal;
    this.#onLeave = onLeave;
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  readonly #onAbort = () => this.#reject?.(this.#signal.reason as Error);

  /**
   * Waits until all are woken.
   *
   * @returns false when the longest time of a wait is over
   * @throws the signal's reason when it is aborted
   */
  wait(): Promise<boolean> {
    this.#signal.throwIfAborted();
    this.#timer = this.#timer?.refresh() ?? setTimeout(() => this.#end(false), this.#ms);
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  wake(): void {
    this.#end(true);
  }

  /** Waits no more. */
  leave(): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#onLeave();
  }

  // Whoever does not wait at the moment is not woken either.
  #end(isWoken: boolean): void {
    this.#resolve?.(isWoken);
    this.#resolve = undefined;
    this.#reject = undefined;
  }
}
