// Where sessions stood after this server's last append to them: a guess that the next append may
// begin from, which is checked in Postgres before anything is written.
import { limits } from "../config.js";
import type { LockedSessionRow } from "./sql.js";

/** The longest run of groups that do not guess, after guesses that were wrong one after another. */
const MOST_PATIENCE = 64;

/** What is remembered of sessions. */
export class SessionHeads {
  // In the order in which they were last written.
  readonly #heads = new Map<bigint, LockedSessionRow>();
  #patience = 0;
  #wait = 0;

  /**
   * Guesses where sessions stand.
   *
   * @returns undefined when not all of them are remembered, or guessing has not paid off lately
   */
  guess(ids: readonly bigint[]): LockedSessionRow[] | undefined {
    if (this.#wait > 0) {
      this.#wait--;
      return undefined;
    }
    const heads: LockedSessionRow[] = [];
    for (const id of ids) {
      const head = this.#heads.get(id);
      if (!head) return undefined;
      heads.push(head);
    }
    return heads;
  }

  /** Remembers where sessions stand now. */
  learn(heads: readonly LockedSessionRow[]): void {
    for (const head of heads) {
      this.#heads.delete(head.id);
      this.#heads.set(head.id, head);
    }
    for (const id of this.#heads.keys()) {
      if (this.#heads.size <= limits.rememberedSessions) break;
      this.#heads.delete(id);
    }
  }

  /** Hears that a guess was right. */
  confirm(): void {
    this.#patience = 0;
  }

  /** Hears that a guess was wrong, for some of these sessions. */
  forget(ids: readonly bigint[]): void {
    for (const id of ids) this.#heads.delete(id);
    this.#patience = Math.min(MOST_PATIENCE, this.#patience * 2 || 1);
    this.#wait = this.#patience;
  }
}
