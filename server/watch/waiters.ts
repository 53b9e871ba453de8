// Those who wait for one thing to happen.

/** Any number of waiters, woken all at once. */
export class Waiters {
  readonly #waiting = new Set<() => void>();

  /**
   * Waits until wake() is called.
   *
   * @param ms the longest time, in milliseconds
   * @returns false when that time is over
   * @throws the signal's reason when it is aborted
   */
  wait(ms: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        this.#waiting.delete(onWake);
      };
      const onWake = () => {
        end();
        resolve(true);
      };
      const onAbort = () => {
        end();
        reject(signal.reason as Error);
      };
      const timer = setTimeout(() => {
        end();
        resolve(false);
      }, ms);
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(onWake);
      if (signal.aborted) onAbort();
    });
  }

  wake(): void {
    for (const onWake of this.#waiting) onWake();
  }
}
