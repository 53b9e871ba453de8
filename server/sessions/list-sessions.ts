// ListSessions: by last activity, from the sessions' own rows.
import type {
  ListSessionsRequest,
  ListSessionsResponse,
  SessionSummary,
} from "../../gen/agentstore/v1/sessions.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { toAgentSession, toDate } from "./session.js";
import * as sql from "./sql.js";

const BIGINT_MOST = 2n ** 63n - 1n;

export const listSessions: UnaryRpc<ListSessionsRequest, ListSessionsResponse> = {
  validate({ modelId, pageSize }, check, limits) {
    check.text("model_id", modelId, limits.idCharacters);
    check.within("page_size", pageSize, 0, limits.pageSizeMost);
  },

  async handle({ modelId, pageSize, pageToken }, { db, principal, signal, limits }) {
    const query = ["ListSessions", modelId];
    const [activity, id] = decodePageToken(pageToken, query) ?? [BIGINT_MOST, BIGINT_MOST];
    const size = pageSize || limits.pageSizeDefault;
    const values = [principal.tenant, activity, id, size + 1, limits.pageBytes];
    const rows = modelId
      ? await db.query(sql.listSessionsOfModel, [...values, modelId], signal)
      : await db.query(sql.listSessions, values, signal);
    const page = rows.slice(0, size);
    const last = page.at(-1);
    const more = last !== undefined && last.found > BigInt(page.length);
    return {
      sessions: page.map(toSummary),
      nextPageToken: more ? encodePageToken(query, [last.activity, last.id]) : "",
    };
  },
};

function toSummary(row: sql.SummaryRow): SessionSummary {
  return {
    session: toAgentSession(row),
    messageCount: row.message_count,
    lastMessageTime: toDate(row.last_message_ms),
    firstMessage: row.first_message ?? undefined,
  };
}
