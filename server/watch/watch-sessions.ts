// WatchSessions: what happens to the sessions of a tenant.
import type { WatchSessionsRequest, WatchSessionsResponse } from "../../gen/agentstore/v1/watch.js";
import { RpcError } from "../errors/rpc-error.js";
import type { StreamRpc } from "../rpc/method.js";
import { checkTags } from "../sessions/filter.js";

export const watchSessions: StreamRpc<WatchSessionsRequest, WatchSessionsResponse> = {
  validate({ modelId, ownerId, tags, afterPosition }, check, limits) {
    check.text("model_id", modelId, limits.idCharacters);
    check.text("owner_id", ownerId, limits.idCharacters);
    check.text("after_position", afterPosition ?? "", limits.watchPositionCharacters);
    checkTags("tags", tags, limits.filterAllTags, check, limits);
  },

  // biome-ignore lint/correctness/useYield: it has nothing to tell yet
  // oxlint-disable-next-line require-yield
  async *handle() {
    throw new RpcError("OVERLOADED", "this server serves no WatchSessions yet");
  },
};
