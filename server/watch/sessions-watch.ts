// One WatchSessions: walks through the sessions where it begins at the beginning, then follows the
// change log.
//
// The walk needs no memory of sessions: those that it has passed are as they were at its position in
// the log, and after each batch it tells what the log has of them since. So no stretch of the log is
// ever longer than what happens during one batch.
import { setTimeout as sleep } from "node:timers/promises";
import {
  type SessionEvent,
  type WatchSessionsRequest,
  WatchSessionsResponse,
} from "../../gen/agentstore/v1/watch.js";
import { hasSeen } from "../changes/position.js";
import { type ChangesPage, findUnseen, readChanges } from "../changes/read.js";
import { RpcError } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import { Encoded } from "../rpc/method.js";
import { type EncodedEvent, encodeEvent, findPlace, type Place, readEvents } from "./events.js";
import { encodeProgress, type Progress, type ProgressOwner } from "./progress.js";
import { SharedReads } from "./shared-reads.js";
import type { LabelsRow } from "./sql.js";
import * as sql from "./sql.js";
import { sessionsOf, type ToldSession } from "./told-sessions.js";
import type { Waiter } from "./waiters.js";
import type { Following } from "./watches.js";

type Response = Encoded<WatchSessionsResponse>;

/** Says that a position is too old, or another database's. */
export function positionExpired(): RpcError {
  return new RpcError(
    "POSITION_EXPIRED",
    "changes since this position are not kept any more: watch from the beginning, with an empty after_position, or from now on",
    { metadata: { kept_hours: "24" } },
  );
}

/** A watch under way. */
export class SessionsWatch {
  #progress: Progress;
  #events: EncodedEvent[] = [];
  #bytes = 0;
  #count = 0;

  constructor(
    readonly context: CallContext,
    readonly shared: Following,
    readonly request: WatchSessionsRequest,
    readonly owner: ProgressOwner,
    progress: Progress,
  ) {
    this.#progress = progress;
  }

  /** @throws POSITION_EXPIRED */
  async *run(): AsyncGenerator<Response> {
    const { context, shared } = this;
    const { until } = this.#progress;
    if (until !== undefined) yield* this.#tell(await this.#read(until, EVERYTHING));
    else await this.#read(undefined, 1);
    if (this.#progress.walked !== undefined) yield* this.#walk();
    const waiter = shared.recent.join(context.limits.watchHeartbeatMs, context.signal);
    try {
      yield* this.#follow(waiter);
    } finally {
      waiter.leave();
    }
  }

  async *#walk(): AsyncGenerator<Response> {
    const { context, request } = this;
    const { db, limits, principal, signal } = context;
    for (;;) {
      const { position, walked = 0n, session: begun } = this.#progress;
      const values = [principal.tenant, walked, limits.watchReadSessions];
      const sessions = await db.query(sql.nextSessions, values, signal);
      const ids = sessions.map(({ id }) => id);
      const unseen = await findUnseen(this.#queries(), ids, position);
      for (const session of sessions.filter((one) => isChosen(one, request))) {
        const { id } = session;
        const upTo = (unseen.get(id) ?? session.revision + 1n) - 1n;
        const told = begun?.id === id ? begun.revision : 0n;
        yield* this.#tellSession({ id, after: { revision: told, seq: 0n }, upTo }, (revision) => ({
          position,
          walked: id - 1n,
          session: { id, revision },
        }));
      }
      const last = ids.at(-1);
      this.#progress = { position, walked: last };
      if (last === undefined) yield* this.#flush();
      let page: ChangesPage;
      do {
        page = await this.#read(undefined, limits.changesPage);
        yield* this.#tell(page);
      } while (page.more);
      if (last === undefined) return;
    }
  }

  async *#follow(waiter: Waiter): AsyncGenerator<Response> {
    const { limits } = this.context;
    const { recent } = this.shared;
    // The number of the page of recent changes that comes next, once it stands there.
    let next: number | undefined;
    let isCaughtUp = false;
    for (;;) {
      if (recent.failure) throw recent.failure;
      if (next === undefined) {
        const { position } = recent;
        const number = recent.next;
        if (!hasSeen(position, this.#progress.position)) {
          // Another server has told the watcher what this one has not heard of yet.
          await waiter.wait();
          continue;
        }
        const page = await this.#read(position, limits.changesPage);
        yield* this.#tell(page);
        if (!page.more) next = number;
        continue;
      }
      if (next < recent.next) {
        const page = recent.at(next);
        if (page) {
          yield* this.#tell(page, page.reads);
          next++;
          continue;
        }
        next = undefined;
        isCaughtUp = false;
        yield* this.#say({ $case: "fellBehind", value: {} });
      } else if (!isCaughtUp) {
        isCaughtUp = true;
        yield* this.#say({ $case: "caughtUp", value: {} });
      } else if (!(await waiter.wait())) {
        yield* this.#say({ $case: "heartbeat", value: {} });
      }
    }
  }

  // The changes behind the watch's position, as far as they go or as another position has seen them.
  async #read(until: string | undefined, most: number): Promise<ChangesPage> {
    const page = await readChanges(this.#queries(), this.#progress.position, most, until);
    if (!page?.complete) throw positionExpired();
    return page;
  }

  #queries() {
    const { db, signal } = this.context;
    return db.queries(signal);
  }

  // Tells a stretch of the log, session by session.
  async *#tell(page: ChangesPage, reads = new SharedReads()): AsyncGenerator<Response> {
    const { context, request, shared } = this;
    const { limits, principal } = context;
    const { position, walked, session: begun } = this.#progress;
    const until = page.position;
    const isLeft = ({ id }: ToldSession) =>
      (walked === undefined || id <= walked) && id >= (begun?.id ?? 0n);
    const sessions = sessionsOf(page.changes, principal.tenant).filter(isLeft);
    if (sessions.length > 0) {
      const ids = sessions.map(({ id }) => id);
      const labels = await reads.labels(shared.db, principal.tenant, ids, shared.signal);
      const chosen = sessions.filter(({ id, removedAt }) => {
        const session = labels.get(id);
        return removedAt !== undefined || (session && isChosen(session, request));
      });
      for (let from = 0; from < chosen.length; from += limits.watchTellSessions) {
        const batch = chosen.slice(from, from + limits.watchTellSessions);
        const first = reads.events(shared.db, principal.tenant, batch, shared.signal);
        for (const [index, one] of batch.entries()) {
          const progressAt = (revision: bigint): Progress => ({
            position,
            walked,
            until,
            session: { id: one.id, revision },
          });
          if (begun?.id === one.id) {
            const after = { revision: begun.revision, seq: 0n };
            yield* this.#tellSession({ id: one.id, after, upTo: one.last }, progressAt);
          } else {
            const page = await first[index];
            for (const event of page?.events ?? []) {
              yield* this.#add(event, progressAt(event.revision));
            }
            const after = page?.place;
            if (after && after.revision < one.last) {
              yield* this.#tellSession({ id: one.id, after, upTo: one.last }, progressAt);
            }
          }
          if (one.removedAt !== undefined && begun?.revision !== one.removedAt) {
            const event = { $case: "sessionDeleted", value: {} } as const;
            yield* this.#add(encodeEvent(one.id, one.removedAt, event), progressAt(one.removedAt));
          }
        }
      }
    }
    this.#progress = { position: until, walked };
    yield* this.#flush();
  }

  // Tells what is stored of a session.
  async *#tellSession(
    { id, after, upTo }: { id: bigint; after: Place; upTo: bigint },
    progressAt: (revision: bigint) => Progress,
  ): AsyncGenerator<Response> {
    const { db, principal, signal } = this.context;
    const { tenant } = principal;
    let place: Place | undefined = after;
    if (after.revision > 0n && after.seq === 0n) {
      place = (await findPlace(db, id, tenant, after.revision, signal))?.place;
    }
    while (place && place.revision < upTo) {
      const wanted = [{ conversationId: id, tenant, after: place, upTo }];
      const page = (await readEvents(db, wanted, signal)).get(id);
      for (const event of page?.events ?? []) yield* this.#add(event, progressAt(event.revision));
      // On Citus, the log may be ahead of what a session shows.
      if (page?.place.revision === place.revision) await sleep(RETRY_MS, undefined, { signal });
      place = page?.place;
    }
  }

  // Puts an event into the next response, and sends that when it is large.
  async *#add(event: EncodedEvent, progress: Progress): AsyncGenerator<Response> {
    this.#events.push(event);
    this.#bytes += event.bytes.length;
    this.#progress = progress;
    if (this.#bytes >= this.context.limits.pageBytes) yield* this.#flush();
  }

  *#flush(): Generator<Response> {
    if (this.#events.length === 0) return;
    const position = encodeProgress(this.#progress, this.owner);
    const rest = WatchSessionsResponse.encode({ events: [], position }).finish();
    const bytes = Buffer.concat([...this.#events.map((event) => event.bytes), rest]);
    this.#count += this.#events.length;
    this.#events = [];
    this.#bytes = 0;
    this.context.note({ events: this.#count });
    yield new Encoded(bytes, () => {});
  }

  *#say(event: NonNullable<SessionEvent["event"]>): Generator<Response> {
    this.#events.push(encodeEvent(0n, 0n, event));
    yield* this.#flush();
  }
}

const RETRY_MS = 20;
// More than the changes of any stretch that was begun.
const EVERYTHING = 1_000_000;

function isChosen(session: LabelsRow, { modelId, ownerId, tags }: WatchSessionsRequest): boolean {
  return (
    (modelId === "" || session.model_id === modelId) &&
    (ownerId === "" || session.owner_id === ownerId) &&
    tags.every((tag) => session.tags.includes(tag))
  );
}
