// ListSessions: by last activity, from the sessions' own rows, those that a filter chooses.
import type {
  ListSessionsRequest,
  ListSessionsResponse,
  SessionSummary,
} from "../../gen/agentstore/v1/sessions.js";
import { canonicalJson } from "../idempotency/fingerprint.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { checkSessionFilter, isFilter, sessionPage } from "./filter.js";
import { toAgentSession, toDate } from "./session.js";
import * as sql from "./sql.js";

const BIGINT_MOST = 2n ** 63n - 1n;

export const listSessions: UnaryRpc<ListSessionsRequest, ListSessionsResponse> = {
  validate({ modelId, pageSize, filter }, check, limits) {
    check.text("model_id", modelId, limits.idCharacters);
    check.within("page_size", pageSize, 0, limits.pageSizeMost);
    if (filter) checkSessionFilter(filter, check, limits);
  },

  async handle({ modelId, pageSize, pageToken, filter }, { db, principal, signal, limits }) {
    const query = ["ListSessions", modelId];
    if (isFilter(filter)) query.push(canonicalJson(filter));
    const after = decodePageToken(pageToken, query) ?? [BIGINT_MOST, BIGINT_MOST];
    const size = pageSize || limits.pageSizeDefault;
    const { tenant } = principal;
    const count = size + 1;
    const bytes = limits.pageBytes;
    const values = [tenant, ...after, count, bytes];
    let rows: sql.SummaryRow[];
    if (isFilter(filter)) {
      const now = new Date();
      const sharded = db.shards !== undefined;
      const page = sessionPage({ tenant, modelId, filter, after, count, bytes, now, sharded });
      rows = await db.query(page.statement, page.values, signal);
    } else if (modelId) {
      rows = await db.query(sql.listSessionsOfModel, [...values, modelId], signal);
    } else {
      const list = db.shards ? sql.listSessionsOfShards : sql.listSessions;
      rows = await db.query(list, values, signal);
    }
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
