// WatchSessions: what happens to the sessions of a tenant, from a position on.
import type { WatchSessionsRequest, WatchSessionsResponse } from "../../gen/agentstore/v1/watch.js";
import { clusterOf } from "../changes/read.js";
import type { StreamRpc } from "../rpc/method.js";
import { checkTags } from "../sessions/filter.js";
import { distinctTags } from "../sessions/session.js";
import { decodeProgress, type Progress } from "./progress.js";
import { positionExpired, SessionsWatch } from "./sessions-watch.js";
import type { Following } from "./watches.js";

export const watchSessions: StreamRpc<WatchSessionsRequest, WatchSessionsResponse> = {
  validate({ modelId, ownerId, tags, afterPosition }, check, limits) {
    check.text("model_id", modelId, limits.idCharacters);
    check.text("owner_id", ownerId, limits.idCharacters);
    check.text("after_position", afterPosition ?? "", limits.watchPositionCharacters);
    checkTags("tags", tags, limits.filterAllTags, check, limits);
  },

  async *handle(request, context) {
    const { modelId, ownerId, tags, afterPosition } = request;
    const { db, principal, signal, watches } = context;
    context.note({ model_id: modelId, events: 0 });
    const shared = await watches.enter();
    try {
      const owner = {
        cluster: await clusterOf(db.queries(signal)),
        query: ["WatchSessions", principal.tenant, modelId, ownerId, ...distinctTags(tags).sort()],
      };
      const start = startOf(afterPosition, shared);
      const progress = start ?? decodeProgress(afterPosition ?? "", owner);
      if (!progress) throw positionExpired();
      const watch = new SessionsWatch(context, shared, request, owner, progress);
      yield* watch.run();
    } finally {
      watches.leave();
    }
  },
};

// Undefined for a position that was received before.
function startOf(afterPosition: string | undefined, { recent }: Following): Progress | undefined {
  const { position } = recent;
  if (afterPosition === undefined) return { position };
  return afterPosition === "" ? { position, walked: 0n } : undefined;
}
