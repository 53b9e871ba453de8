// ListSnapshots: those of one session, newest first.
import type {
  ListSnapshotsRequest,
  ListSnapshotsResponse,
} from "../../gen/agentstore/v1/snapshots.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { toSnapshot } from "./snapshot.js";
import * as sql from "./sql.js";

const ID_MOST = 2n ** 63n - 1n;

export const listSnapshots: UnaryRpc<ListSnapshotsRequest, ListSnapshotsResponse> = {
  validate({ conversationId, pageSize }, check, limits) {
    check.positive("conversation_id", conversationId);
    check.within("page_size", pageSize, 0, limits.pageSizeMost);
  },

  async handle({ conversationId, pageSize, pageToken }, context) {
    const { db, principal, signal, limits } = context;
    context.note({ conversation_id: conversationId });
    const query = ["ListSnapshots", conversationId];
    const [below] = decodePageToken(pageToken, query) ?? [ID_MOST];
    const key = [conversationId, principal.tenant];
    const [session] = await db.query(sql.findSession, key, signal);
    if (!session) throw sessionNotFound(conversationId);
    const size = pageSize || limits.pageSizeDefault;
    const rows = await db.query(sql.listSnapshots, [conversationId, below, size + 1], signal);
    const page = rows.slice(0, size);
    const last = page.at(-1);
    const more = last !== undefined && rows.length > size;
    return {
      snapshots: page.map((row) => toSnapshot(row)),
      nextPageToken: more ? encodePageToken(query, [last.id, 0n]) : "",
    };
  },
};
