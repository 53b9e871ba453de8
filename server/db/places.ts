// Bounds how many do something at a time: the rest waits in line, for a bounded time.
import { overloaded } from "../errors/postgres.js";

/** How a line is bounded. */
export interface PlacesOptions {
  /** Places there are. */
  count: number;
  /** Callers that may wait. */
  waiting: number;
  /** How long each may wait, in milliseconds. */
  patienceMs: number;
}

/**
 * Places that are taken and given back, first come first served. Who gives up leaves the line at
 * once, so that those who are gone keep nobody out.
 */
export class Places {
  #free: number;
  readonly #line = new Set<() => void>();

  constructor(readonly options: PlacesOptions) {
    this.#free = options.count;
  }

  /**
   * Takes a place.
   *
   * @throws OVERLOADED when too many wait or the wait was too long, and the signal's reason
   */
  take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve();
    }
    const { waiting, patienceMs } = this.options;
    if (this.#line.size >= waiting) {
      throw overloaded("too many calls wait for the database", undefined, waiting);
    }
    return new Promise((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", giveUp);
        this.#line.delete(enter);
      };
      const enter = () => {
        leave();
        resolve();
      };
      const giveUp = () => {
        leave();
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        leave();
        reject(overloaded("no database connection became free"));
      }, patienceMs);
      signal.addEventListener("abort", giveUp, { once: true });
      this.#line.add(enter);
    });
  }

  /** Gives a place back, to the next in line. */
  giveBack(): void {
    const [next] = this.#line;
    if (next) next();
    else this.#free++;
  }
}
