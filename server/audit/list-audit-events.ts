// ListAuditEvents: the audit log, filtered, a page at a time.
import type {
  ListAuditEventsRequest,
  ListAuditEventsResponse,
} from "../../gen/agentstore/v1/audit.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import { toAuditEvent } from "./event.js";
import * as sql from "./sql.js";

const BIGINT_MOST = 2n ** 63n - 1n;

export const listAuditEvents: UnaryRpc<ListAuditEventsRequest, ListAuditEventsResponse> = {
  validate(request, check, limits) {
    check.within("page_size", request.pageSize, 0, limits.pageSizeMost);
    check.notNegative("conversation_id", request.conversationId);
    check.text("principal", request.principal, limits.idCharacters);
    check.text("rpc", request.rpc, limits.requestIdCharacters);
    check.time("start_time", request.startTime);
    check.time("end_time", request.endTime);
    check.text("request_id", request.requestId, limits.requestIdCharacters);
    check.notNegative("after_position", request.afterPosition);
  },

  async handle(request, context) {
    const { db, principal, signal, limits } = context;
    const { afterPosition, newestFirst } = request;
    const values: Record<sql.Filter, unknown> = {
      conversation: request.conversationId || undefined,
      principal: request.principal || undefined,
      rpc: request.rpc || undefined,
      request: request.requestId || undefined,
      start: request.startTime,
      end: request.endTime,
    };
    const filters = sql.FILTERS.filter((filter) => values[filter] !== undefined);
    const query = [
      "ListAuditEvents",
      afterPosition,
      newestFirst,
      ...sql.FILTERS.map((filter) => JSON.stringify(values[filter], bigintAsText) ?? ""),
    ];
    const start = newestFirst ? BIGINT_MOST : afterPosition;
    const [from] = decodePageToken(request.pageToken, query) ?? [start];
    await context.audit.sealTenant(db, principal.tenant, signal);
    const size = request.pageSize || limits.pageSizeDefault;
    const rows = await db.query(
      sql.listEvents(filters, newestFirst),
      [principal.tenant, size + 1, from, ...filters.map((filter) => values[filter])],
      signal,
    );
    const inRange = rows.filter(({ position }) => position > afterPosition);
    const page = inRange.slice(0, size);
    const last = page.at(-1);
    return {
      events: page.map(toAuditEvent),
      nextPageToken:
        last && inRange.length > size ? encodePageToken(query, [last.position, 0n]) : "",
    };
  },
};

function bigintAsText(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
