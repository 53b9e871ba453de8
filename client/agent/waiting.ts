// Waiting that a signal can end.

/** How long something that was told to stop may take for it, in milliseconds. */
const GRACE_MS = 500;

/** What is left of the wait when its signal aborts and nothing more comes. */
export const ABANDONED = Symbol("abandoned");

/**
 * Waits for `work`, which was given the signal too. When the signal aborts, it has a moment to end
 * by itself, with what it has done so far; then it is abandoned.
 *
 * @returns what `work` comes to, or ABANDONED
 * @throws what `work` throws
 */
export async function settledOrAbandoned<T>(
  work: Promise<T>,
  signal: AbortSignal,
): Promise<T | typeof ABANDONED> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort = (): void => {};
  const abandoned = new Promise<typeof ABANDONED>((resolve) => {
    onAbort = () => {
      timer = setTimeout(() => resolve(ABANDONED), GRACE_MS);
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort);
  });
  // Whoever is abandoned may still fail, which nobody waits for any more.
  work.catch(() => {});
  try {
    return await Promise.race([work, abandoned]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Waits, or less when the signal aborts; never throws. */
export async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}

/** A controller that aborts when one of the signals does, until it is let go of. */
export function linked(signals: readonly (AbortSignal | undefined)[]): {
  controller: AbortController;
  release: () => void;
} {
  const controller = new AbortController();
  const releases = signals.map((signal) => {
    if (signal === undefined) return () => {};
    const abort = (): void => controller.abort(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
    return () => signal.removeEventListener("abort", abort);
  });
  return { controller, release: () => releases.forEach((release) => release()) };
}

/**
 * Works on all items, at most `limit` at a time, in their order. After a failure no further item is
 * begun.
 *
 * @throws the first failure, when the items under way have ended
 */
export async function eachLimited<T>(
  items: readonly T[],
  limit: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  const entries = items.entries();
  const failures: unknown[] = [];
  // Lanes that share one iterator take an item each as soon as they are free.
  const lane = async (): Promise<void> => {
    for (const [index, item] of entries) {
      try {
        await work(item, index);
      } catch (error) {
        failures.push(error);
      }
      if (failures.length > 0) return;
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  if (failures.length > 0) throw failures[0];
}
