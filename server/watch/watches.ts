// All watches of one process: takes the changes from the feed and hands them to those concerned.
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import type { ChangeFeed } from "../changes/feed.js";
import type { ChangesPage } from "../changes/read.js";
import { limits } from "../config.js";
import type { Database } from "../db/database.js";
import { databaseUnavailable } from "../errors/rpc-error.js";
import { present } from "../present.js";
import { readEvents } from "./events.js";
import { Handover } from "./handover.js";
import { RecentChanges } from "./recent-changes.js";
import { KeptEvents, SessionTopic } from "./session-topic.js";

/** How long to wait for what the log tells of and a session does not show yet. */
const RETRY_MS = 20;
const PAUSE_MS = 250;

/** What was appended to sessions in one transaction. */
export interface AppendedGroup {
  /** The sessions. */
  heads: readonly { id: bigint; tenant_id: string }[];
  /** In the order of their revisions. */
  messages: readonly AgentMessage[];
}

/** The watches of one process. Follows the feed while there are some. */
export class Watches {
  readonly #kept = new KeptEvents(limits.watchKeptBytes);
  #following: Promise<Following> | undefined;
  // The same, once it follows.
  #current: Following | undefined;
  #watches = 0;

  /** @param db for reading what several watches wait for */
  constructor(
    readonly db: Database,
    readonly feed: ChangeFeed,
    readonly logger: Logger,
  ) {}

  /**
   * Begins a watch; whoever begins one ends it by leave().
   *
   * @returns what all watches share
   * @throws DATABASE_UNAVAILABLE; then it has not begun
   */
  async enter(): Promise<Following> {
    this.#watches++;
    try {
      return await (this.#following ??= this.#follow());
    } catch (error) {
      this.leave();
      throw error;
    }
  }

  leave(): void {
    this.#watches--;
    if (this.#watches === 0) this.#rest();
  }

  /**
   * Hears what this process has appended to sessions, and committed, so that those who watch them are
   * told at once and nothing has to be read for them.
   */
  appended(group: AppendedGroup): void {
    this.#current?.onAppended(group);
  }

  async #follow(): Promise<Following> {
    const { db, feed, logger } = this;
    const following = new Following(db, logger, this.#kept, () => {
      feed.unsubscribe(following);
      this.#following = undefined;
      this.#current = undefined;
    });
    try {
      following.begin(await feed.subscribe(following));
      this.#current = following;
    } catch (error) {
      this.#following = undefined;
      throw error;
    }
    return following;
  }

  #rest(): void {
    this.#following?.then(
      (following) => {
        if (this.#watches === 0) following.end();
      },
      () => {},
    );
  }
}

/** What the watches share from the first one to the end of the last one. */
export class Following {
  // By session and tenant: whoever asks for another tenant's session is not to be in its way.
  readonly #topics = new Map<string, SessionTopic>();
  readonly #behind = new Set<SessionTopic>();
  readonly #handover = new Handover();
  readonly #ended = new AbortController();
  readonly #onEnd: () => void;
  #recent: RecentChanges | undefined;
  #reading = false;

  constructor(
    readonly db: Database,
    readonly logger: Logger,
    readonly kept: KeptEvents,
    onEnd: () => void,
  ) {
    this.#onEnd = onEnd;
    // One for each query that is under way.
    setMaxListeners(0, this.#ended.signal);
  }

  /** @param position where the feed begins */
  begin(position: string): void {
    this.#recent = new RecentChanges(position);
  }

  /** Ends with the last watch. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** The changes that came last, for those who watch many sessions. */
  get recent(): RecentChanges {
    return present(this.#recent);
  }

  /** Opens the topic of a session; whoever opens it closes it. */
  open(conversationId: bigint, tenant: string): SessionTopic {
    const key = keyOf(conversationId, tenant);
    const topic = this.#topics.get(key) ?? new SessionTopic(conversationId, tenant, this.kept);
    this.#topics.set(key, topic);
    // The feed may have been lost since the watch asked for it.
    topic.failure = this.recent.failure;
    topic.watchers++;
    return topic;
  }

  close(topic: SessionTopic): void {
    topic.watchers--;
    if (topic.watchers > 0) return;
    topic.close();
    this.#behind.delete(topic);
    this.#topics.delete(keyOf(topic.conversationId, topic.tenant));
  }

  /** Has a topic read what it is behind. */
  catchUp(topic: SessionTopic): void {
    if (!topic.isBehind) return;
    this.#behind.add(topic);
    if (!this.#reading) void this.#read();
  }

  onAppended({ heads, messages }: AppendedGroup): void {
    const topics = new Map<bigint, SessionTopic>();
    for (const { id, tenant_id } of heads) {
      const topic = this.#topics.get(keyOf(id, tenant_id));
      if (topic) topics.set(id, topic);
    }
    if (topics.size === 0) return;
    for (const message of messages) {
      const topic = topics.get(message.conversationId);
      if (topic) this.#handover.add(topic, message);
    }
  }

  onChanges(page: ChangesPage): void {
    for (const change of page.changes) {
      const topic = this.#topics.get(keyOf(change.conversation_id, change.tenant_id));
      if (!topic) continue;
      if (change.removed) topic.remove(change.last_revision);
      else if (change.last_revision > topic.told) topic.told = change.last_revision;
      this.catchUp(topic);
    }
    this.recent.add(page);
  }

  onLost(): void {
    const failure = databaseUnavailable();
    this.recent.fail(failure);
    for (const topic of this.#topics.values()) topic.fail(failure);
    this.end();
  }

  end(): void {
    this.#ended.abort();
    this.#onEnd();
  }

  // Reads for all topics that are behind at once, again and again until none is.
  async #read(): Promise<void> {
    const { signal } = this.#ended;
    this.#reading = true;
    while (this.#behind.size > 0 && !signal.aborted) {
      const topics = [...this.#behind].slice(0, limits.watchReadSessions);
      for (const topic of topics) this.#behind.delete(topic);
      try {
        if (!(await this.#readFor(topics, signal))) await sleep(RETRY_MS);
      } catch (error) {
        if (signal.aborted) break;
        this.logger.warn({ err: error }, "what watches wait for cannot be read");
        for (const topic of topics) if (topic.watchers > 0) this.#behind.add(topic);
        await sleep(PAUSE_MS);
      }
    }
    this.#reading = false;
  }

  // Returns false when some topic has not come further, though the log says that it could.
  async #readFor(topics: SessionTopic[], signal: AbortSignal): Promise<boolean> {
    const wanted = topics.map(({ conversationId, tenant, place }) => ({
      conversationId,
      tenant,
      after: present(place),
    }));
    const pages = await readEvents(this.db, wanted, signal);
    let moved = true;
    for (const [index, topic] of topics.entries()) {
      const page = pages.get(topic.conversationId);
      // A session that is gone has its removal told by the log.
      if (!page || topic.watchers === 0) continue;
      const { after } = present(wanted[index]);
      if (page.place.revision === after.revision) moved = false;
      // What was handed over meanwhile is among what was read, in part at least.
      if (topic.place === after) topic.push(page);
      if (topic.isBehind) this.#behind.add(topic);
    }
    return moved;
  }
}

function keyOf(conversationId: bigint, tenant: string): string {
  return `${conversationId}/${tenant}`;
}
