// What the watches of one session in this process share: each event is read and encoded once, and
// kept for a while for those that have not sent it yet.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import type { RpcError } from "../errors/rpc-error.js";
import { present } from "../present.js";
import { encodeAppended } from "./appended-event.js";
import type { EncodedEvent, EventsPage, Place } from "./events.js";
import { type Waiter, Waiters } from "./waiters.js";

/** The events of all topics of a process: when there are too many, the oldest go first. */
export class KeptEvents {
  // In the order in which they came.
  readonly #all = new Map<EncodedEvent, SessionTopic>();
  #bytes = 0;

  /** @param most how many bytes are kept */
  constructor(readonly most: number) {}

  add(event: EncodedEvent, topic: SessionTopic): void {
    this.#all.set(event, topic);
    this.#bytes += event.bytes.length;
    for (const [oldest, owner] of this.#all) {
      if (this.#bytes <= this.most) break;
      owner.forgetOldest();
      this.remove(oldest);
    }
  }

  remove(event: EncodedEvent): void {
    if (this.#all.delete(event)) this.#bytes -= event.bytes.length;
  }
}

/** A session that is watched. */
export class SessionTopic {
  /** How many watch it. */
  watchers = 0;
  /** The highest revision that the change log has told of. */
  told = 0n;
  /** Set when the session is removed: the revision that its removal took. */
  removedAt: bigint | undefined;
  /** Set when nothing more will be heard. */
  failure: RpcError | undefined;
  readonly #kept: KeptEvents;
  readonly #waiters = new Waiters();
  readonly #events: EncodedEvent[] = [];
  // All events behind this revision are kept.
  #floor = 0n;
  #place: Place | undefined;

  constructor(
    readonly conversationId: bigint,
    readonly tenant: string,
    kept: KeptEvents,
  ) {
    this.#kept = kept;
  }

  /** How far the session has been read; undefined before begin(). */
  get place(): Place | undefined {
    return this.#place;
  }

  /** Whether the log tells of more than has been read. */
  get isBehind(): boolean {
    return this.#place !== undefined && this.told > this.#place.revision;
  }

  /** Reads from here on, unless it does already. */
  begin(head: Place): void {
    if (this.#place) return;
    this.#place = head;
    this.#floor = head.revision;
  }

  /** Takes what has been read behind the topic's place. */
  push(page: EventsPage): void {
    this.#place = page.place;
    for (const event of page.events) {
      this.#events.push(event);
      this.#kept.add(event, this);
    }
    this.#waiters.wake();
  }

  /**
   * Takes messages that were appended, those of them that are right behind the topic's place. What is
   * further ahead is read, with what is before it.
   */
  append(messages: AgentMessage[]): void {
    let place = this.#place;
    if (!place) return;
    const events: EncodedEvent[] = [];
    for (const message of messages) {
      const { revision, seq } = message;
      if (revision !== place.revision + 1n) continue;
      place = { revision, seq };
      events.push(encodeAppended(message));
    }
    if (events.length > 0) this.push({ events, place, more: false });
  }

  /** Hears that the session is gone. */
  remove(revision: bigint): void {
    this.removedAt = revision;
    this.#waiters.wake();
  }

  /** The events behind a revision; undefined where some of them are not kept any more. */
  behind(revision: bigint): EncodedEvent[] | undefined {
    if (revision < this.#floor) return undefined;
    // Those who watch are near the end, nearly always.
    let first = this.#events.length;
    while (first > 0 && present(this.#events[first - 1]).revision > revision) first--;
    return this.#events.slice(first);
  }

  forgetOldest(): void {
    const oldest = this.#events.shift();
    if (oldest) this.#floor = oldest.revision;
  }

  /** Lets go of all events; nobody watches any more. */
  close(): void {
    for (const event of this.#events) this.#kept.remove(event);
  }

  /** As Waiters.join(): for events, or for the session's end. */
  join(ms: number, signal: AbortSignal): Waiter {
    return this.#waiters.join(ms, signal);
  }

  fail(failure: RpcError): void {
    this.failure = failure;
    this.#waiters.wake();
  }
}
