// Watchers that go on after every failure, from where they were, on whichever server there is.
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentStoreError } from "../../client/errors.js";
import type { Stubs } from "./stubs.js";
import { SessionsWatcher, SessionWatcher, type Told, toldOf } from "./watching.js";

/** What followers share. */
export interface Followed {
  servers: Stubs[];
  random: (below: number) => number;
  /** False when they are to end. */
  goOn: () => boolean;
}

/** All that a follower was told, over all its watches. */
export abstract class Follower {
  readonly told: Told[] = [];
  watches = 0;
  /** Failures by their reason. */
  readonly failures = new Map<string, number>();

  #watcher: SessionWatcher | SessionsWatcher | undefined;

  constructor(readonly shared: Followed) {}

  /** All that it was told, with what the watch under way has told. */
  get current(): Told[] {
    return [...this.told, ...(this.#watcher?.told ?? [])];
  }

  /** Follows until it is to end, or there is nothing more to follow. */
  async run(): Promise<void> {
    const { random, servers, goOn } = this.shared;
    while (goOn()) {
      this.watches++;
      const watcher = this.open(servers[random(servers.length)]!);
      this.#watcher = watcher;
      // Some are cut off by themselves, at any moment.
      const patience = random(3) === 0 ? sleep(random(1_500)) : new Promise<never>(() => {});
      const stopped = (async () => {
        while (goOn()) await sleep(100);
      })();
      await Promise.race([watcher.end(), patience, stopped]);
      watcher.cancel();
      await watcher.end();
      this.#watcher = undefined;
      this.take(watcher);
      const failure = watcher.failure as AgentStoreError | undefined;
      if (failure) {
        const name = failure.reason ?? failure.code ?? String(failure);
        this.failures.set(name, (this.failures.get(name) ?? 0) + 1);
        if (this.isOver(failure)) return;
      } else if (watcher.ended) return;
      await sleep(random(50));
    }
  }

  protected abstract open(server: Stubs): SessionWatcher | SessionsWatcher;
  protected abstract take(watcher: SessionWatcher | SessionsWatcher): void;

  protected isOver({ reason }: AgentStoreError): boolean {
    return reason === "SESSION_NOT_FOUND";
  }
}

/** Follows one session. */
export class SessionFollower extends Follower {
  #revision = 0n;

  constructor(
    shared: Followed,
    readonly id: bigint,
  ) {
    super(shared);
  }

  protected open({ channel }: Stubs): SessionWatcher {
    return new SessionWatcher(channel, this.id, this.#revision);
  }

  protected take(watcher: SessionWatcher): void {
    // Anything behind the event that was taken last is dropped, as a crash would.
    const { random, goOn } = this.shared;
    const { events } = watcher;
    const end = goOn() && random(4) === 0 ? random(events.length + 1) : events.length;
    this.told.push(...events.slice(0, end).flatMap(toldOf));
    if (end > 0) this.#revision = events[end - 1]!.revision;
  }
}

/** Follows all sessions, from the beginning. */
export class StoreFollower extends Follower {
  #position = "";

  protected open({ channel }: Stubs): SessionsWatcher {
    return new SessionsWatcher(channel, { afterPosition: this.#position });
  }

  protected take(watcher: SessionWatcher | SessionsWatcher): void {
    const { random, goOn } = this.shared;
    const { positions, events } = watcher as SessionsWatcher;
    const count = goOn() && random(4) === 0 ? random(positions.length + 1) : positions.length;
    const last = positions[count - 1];
    if (!last) return;
    this.told.push(...events.slice(0, last.events).flatMap(toldOf));
    this.#position = last.position;
  }

  protected override isOver(): boolean {
    return false;
  }
}
