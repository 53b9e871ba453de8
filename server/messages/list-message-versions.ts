// ListMessageVersions: the history of one message, newest version first.
import {
  type ListMessageVersionsRequest,
  type ListMessageVersionsResponse,
  MessageChange,
  type MessageVersion,
} from "../../gen/agentstore/v1/versions.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { messageNotFound } from "./errors.js";
import { toAgentMessage } from "./message.js";
import { standingOf } from "./range.js";
import type { ChangeName, VersionRow } from "./versions/sql.js";
import * as sql from "./versions/sql.js";

const VERSION_MOST = 2n ** 63n - 1n;

/** What made a version, in the contract. */
export const CHANGES: Record<ChangeName, MessageChange> = {
  appended: MessageChange.APPENDED,
  updated: MessageChange.UPDATED,
  deleted: MessageChange.DELETED,
  undeleted: MessageChange.UNDELETED,
  reverted: MessageChange.REVERTED,
  forked: MessageChange.FORKED,
};

export const listMessageVersions: UnaryRpc<
  ListMessageVersionsRequest,
  ListMessageVersionsResponse
> = {
  validate({ conversationId, seq, pageSize }, check, limits) {
    check.positive("conversation_id", conversationId);
    check.positive("seq", seq);
    check.within("page_size", pageSize, 0, limits.pageSizeMost);
  },

  async handle(request, context) {
    const { conversationId, seq, pageSize, pageToken } = request;
    const { db, signal, limits } = context;
    context.note({ conversation_id: conversationId, seq });
    const query = ["ListMessageVersions", conversationId, seq];
    const [below] = decodePageToken(pageToken, query) ?? [VERSION_MOST];
    const { lastSeq } = await standingOf(context, conversationId);
    if (seq > lastSeq) throw messageNotFound(request, lastSeq);
    const size = pageSize || limits.pageSizeDefault;
    const values = [conversationId, seq, below, size + 1, limits.pageBytes];
    const rows = await db.query(sql.listVersions, values, signal);
    const page = rows.slice(0, size);
    const last = page.at(-1);
    const more = last !== undefined && last.found > BigInt(page.length);
    context.note({ versions: page.length });
    return {
      versions: page.map(toMessageVersion),
      nextPageToken: more ? encodePageToken(query, [last.version, 0n]) : "",
    };
  },
};

/** Makes the MessageVersion of a row. */
export function toMessageVersion(row: VersionRow): MessageVersion {
  return {
    message: toAgentMessage(row),
    change: CHANGES[row.change],
    changedBy: row.changed_by,
    changedAt: row.changed_at ?? undefined,
  };
}
