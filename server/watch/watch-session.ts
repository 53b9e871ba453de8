// WatchSession: what happens to a session, first from storage, then as it happens.
import type { WatchSessionRequest, WatchSessionResponse } from "../../gen/agentstore/v1/watch.js";
import { RpcError, sessionNotFound } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import { Encoded, type StreamRpc } from "../rpc/method.js";
import {
  type EncodedEvent,
  type EventKind,
  type EventsPage,
  encodeEvent,
  findPlace,
  firstOf,
  type Place,
  readEvents,
} from "./events.js";
import type { SessionTopic } from "./session-topic.js";

export const watchSession: StreamRpc<WatchSessionRequest, WatchSessionResponse> = {
  validate({ conversationId, afterRevision }, check) {
    check.positive("conversation_id", conversationId);
    check.notNegative("after_revision", afterRevision ?? 0n);
  },

  // One generator, as each one around it would cost every event.
  async *handle(request, context) {
    const { limits, principal, signal, watches } = context;
    const { conversationId } = request;
    context.note({ conversation_id: conversationId, events: 0 });
    let count = 0;
    const shared = await watches.enter();
    const topic = shared.open(conversationId, principal.tenant);
    const waiter = topic.join(limits.watchHeartbeatMs, signal);
    try {
      // After the topic, so that what happens meanwhile is told to it.
      let place: Place | undefined = await findStart(request, context, topic);
      shared.catchUp(topic);
      // From here on, place is where the watch stands in storage, as of the last page from there.
      let { revision } = place;
      let isCaughtUp = false;
      const say = (kind: EventKind) => encoded([encodeEvent(conversationId, revision, kind)]);
      for (;;) {
        if (topic.failure) throw topic.failure;
        const isGone = topic.removedAt !== undefined;
        let events = topic.behind(revision);
        if (events === undefined && !isGone) {
          if (isCaughtUp) yield say({ $case: "fellBehind", value: {} });
          isCaughtUp = false;
          if (place?.revision !== revision) {
            place = await placeAt(context, conversationId, revision);
          }
          const page = place && (await readPage(context, conversationId, place));
          if (!page) {
            // It is gone, which the log will say, if it has not meanwhile.
            if (topic.removedAt === undefined && !topic.failure) await waiter.wait();
            continue;
          }
          ({ place, events } = page);
          ({ revision } = place);
        } else {
          events = firstOf(events ?? [], limits.pageBytes);
          revision = events.at(-1)?.revision ?? revision;
        }
        if (events.length > 0) {
          count += events.length;
          yield encoded(events);
        } else if (isGone) {
          revision = topic.removedAt ?? revision;
          yield say({ $case: "sessionDeleted", value: {} });
          return;
        } else if (!isCaughtUp && topic.behind(revision)) {
          isCaughtUp = true;
          yield say({ $case: "caughtUp", value: {} });
        } else if (!(await waiter.wait())) {
          yield say({ $case: "heartbeat", value: {} });
        }
      }
    } finally {
      context.note({ events: count });
      waiter.leave();
      shared.close(topic);
      watches.leave();
    }
  },
};

// Where the watch begins.
async function findStart(
  { conversationId, afterRevision }: WatchSessionRequest,
  { db, principal, signal }: CallContext,
  topic: SessionTopic,
): Promise<Place> {
  const { tenant } = principal;
  const found = await findPlace(db, conversationId, tenant, afterRevision, signal);
  if (!found) throw sessionNotFound(conversationId);
  const { revision } = found.head;
  if (afterRevision !== undefined && afterRevision > revision) {
    throw new RpcError(
      "REVISION_AHEAD",
      `session ${conversationId} has revision ${revision}: it has not come to ${afterRevision}`,
      {
        metadata: {
          conversation_id: String(conversationId),
          after_revision: String(afterRevision),
          revision: String(revision),
        },
      },
    );
  }
  topic.begin(found.head);
  return found.place;
}

async function placeAt(
  { db, principal, signal }: CallContext,
  conversationId: bigint,
  revision: bigint,
): Promise<Place | undefined> {
  const found = await findPlace(db, conversationId, principal.tenant, revision, signal);
  return found?.place;
}

async function readPage(
  { db, principal, signal }: CallContext,
  conversationId: bigint,
  after: Place,
): Promise<EventsPage | undefined> {
  const wanted = [{ conversationId, tenant: principal.tenant, after }];
  return (await readEvents(db, wanted, signal)).get(conversationId);
}

function encoded(events: EncodedEvent[]): Encoded<WatchSessionResponse> {
  const [first] = events;
  const bytes =
    events.length === 1 && first ? first.bytes : Buffer.concat(events.map(({ bytes }) => bytes));
  return new Encoded(bytes, () => {});
}
