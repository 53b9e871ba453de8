// The changes that came last, in pages, with what those who watch many sessions read because of them.
import type { ChangesPage } from "../changes/read.js";
import { limits } from "../config.js";
import type { RpcError } from "../errors/rpc-error.js";
import { SharedReads } from "./shared-reads.js";
import { type Waiter, Waiters } from "./waiters.js";

/** How many of the last pages keep the events that were read because of them. */
const PAGES_WITH_EVENTS = 4;

/** A page of changes, for several watches. */
export interface RecentPage extends ChangesPage {
  reads: SharedReads;
}

/** A few pages, each with a number. */
export class RecentChanges {
  /** Where those stand who have seen all pages. */
  position: string;
  /** Set when no more pages will come. */
  failure: RpcError | undefined;
  readonly #pages: RecentPage[] = [];
  readonly #waiters = new Waiters();
  #first = 0;

  constructor(position: string) {
    this.position = position;
  }

  /** The number of the page that comes next. */
  get next(): number {
    return this.#first + this.#pages.length;
  }

  /** A page by its number; undefined when it is not there any more. Must be below next. */
  at(number: number): RecentPage | undefined {
    return this.#pages[number - this.#first];
  }

  add(page: ChangesPage): void {
    this.position = page.position;
    this.#pages.push({ ...page, reads: new SharedReads() });
    this.#pages.at(-1 - PAGES_WITH_EVENTS)?.reads.forget();
    if (this.#pages.length > limits.watchKeptPages) {
      this.#pages.shift();
      this.#first++;
    }
    this.#waiters.wake();
  }

  fail(failure: RpcError): void {
    this.failure = failure;
    this.#waiters.wake();
  }

  /** As Waiters.join(): for a page, or for the failure. */
  join(ms: number, signal: AbortSignal): Waiter {
    return this.#waiters.join(ms, signal);
  }
}
