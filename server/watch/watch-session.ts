// WatchSession: what happens to a session, first from storage, then as it happens.
import { setTimeout as sleep } from "node:timers/promises";
import type { WatchSessionRequest, WatchSessionResponse } from "../../gen/agentstore/v1/watch.js";
import { RpcError, sessionNotFound } from "../errors/rpc-error.js";
import { Encoded, type StreamRpc } from "../rpc/method.js";
import { encodeEvent, findPlace, readEvents } from "./events.js";

/** How often a session is looked at. */
const POLL_MS = 100;

export const watchSession: StreamRpc<WatchSessionRequest, WatchSessionResponse> = {
  validate({ conversationId, afterRevision }, check) {
    check.positive("conversation_id", conversationId);
    check.notNegative("after_revision", afterRevision ?? 0n);
  },

  async *handle({ conversationId, afterRevision }, context) {
    const { db, limits, principal, signal } = context;
    const { tenant } = principal;
    context.note({ conversation_id: conversationId });
    const found = await findPlace(db, conversationId, tenant, afterRevision, signal);
    if (!found) throw sessionNotFound(conversationId);
    const { head } = found;
    if (afterRevision !== undefined && afterRevision > head.revision) {
      throw new RpcError(
        "REVISION_AHEAD",
        `session ${conversationId} has revision ${head.revision}, not ${afterRevision} yet`,
        {
          metadata: {
            conversation_id: String(conversationId),
            after_revision: String(afterRevision),
            revision: String(head.revision),
          },
        },
      );
    }
    let { place } = found;
    let isLive = false;
    let saidMs = performance.now();
    for (;;) {
      const wanted = [{ conversationId, tenant, after: place }];
      const page = (await readEvents(db, wanted, signal)).get(conversationId);
      const say = (event: Parameters<typeof encodeEvent>[2]) =>
        encodeEvent(conversationId, place.revision, event).bytes;
      if (!page) {
        place = { ...place, revision: place.revision + 1n };
        yield new Encoded(say({ $case: "sessionDeleted", value: {} }), () => {});
        return;
      }
      ({ place } = page);
      const pieces = page.events.map(({ bytes }) => bytes);
      if (!page.more && !isLive) {
        isLive = true;
        pieces.push(say({ $case: "caughtUp", value: {} }));
      }
      if (pieces.length === 0 && performance.now() - saidMs >= limits.watchHeartbeatMs) {
        pieces.push(say({ $case: "heartbeat", value: {} }));
      }
      if (pieces.length > 0) {
        yield new Encoded(Buffer.concat(pieces), () => {});
        saidMs = performance.now();
      }
      if (!page.more) await sleep(POLL_MS, undefined, { signal });
    }
  },
};
