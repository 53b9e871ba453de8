// SearchFilter: its checks, the conditions that it means, and the sessions that it names.
import { Role } from "../../gen/agentstore/v1/messages.js";
import type { SearchFilter } from "../../gen/agentstore/v1/search.js";
import { plannedEachTime } from "../db/database.js";
import { roleName } from "../messages/message.js";
import type { CallContext, Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import { checkRange, checkTags } from "../sessions/filter.js";
import { Places } from "./places.js";

/** What is searched: what it belongs to, and what the caller chooses of that. */
export interface Scope {
  tenant: string;
  /** Empty: all models. */
  modelId: string;
  filter: SearchFilter;
  /** Whether Citus has distributed the sessions. */
  sharded: boolean;
}

/** Checks a filter. */
export function checkSearchFilter(filter: SearchFilter, check: FieldChecks, limits: Limits): void {
  check.notNegative("filter.conversation_id", filter.conversationId);
  check.text("filter.owner_id", filter.ownerId, limits.idCharacters);
  if (filter.roles.length > 4) check.fail("filter.roles", "must be at most 4");
  filter.roles.slice(0, 4).forEach((role, index) => {
    check.enumValue(`filter.roles[${index}]`, role, Role, { zero: false });
  });
  checkTags("filter.all_tags", filter.allTags, limits.filterAllTags, check, limits);
  checkRange("filter.timestamp", filter.timestamp, check);
}

/** The ts_ms of messages without a time, in message_search. */
export const NO_TIME = -(2n ** 63n);

/** The conditions on the times of rows `s`, for the range of an index. */
export function timeConditions({ filter }: Scope, place: Places): string[] {
  const { start, end } = filter.timestamp ?? {};
  const conditions: string[] = [];
  if (start) conditions.push(`s.ts_ms >= ${place.of(start.getTime())}`);
  else if (end) conditions.push(`s.ts_ms > ${NO_TIME}`);
  if (end) conditions.push(`s.ts_ms < ${place.of(end.getTime())}`);
  return conditions;
}

/** The other conditions on rows `s`, which know their session and role. */
export function otherConditions(scope: Scope, place: Places): string[] {
  const { tenant, filter } = scope;
  const conditions: string[] = [];
  if (filter.conversationId > 0n) {
    conditions.push(`s.conversation_id = ${place.of(filter.conversationId)}`);
  }
  if (filter.roles.length > 0) {
    conditions.push(`s.role = ANY (${place.of(filter.roles.map(roleName))}::text[])`);
  }
  if (filter.ownerId !== "") {
    conditions.push(
      ofSession(scope, "session_labels", [
        `l.tenant_id = ${place.of(tenant)}`,
        `l.owner_id = ${place.of(filter.ownerId)}`,
      ]),
    );
  }
  for (const tag of new Set(filter.allTags)) {
    conditions.push(
      ofSession(scope, "session_tags", [
        `l.tenant_id = ${place.of(tenant)}`,
        `l.tag = ${place.of(tag)}`,
      ]),
    );
  }
  return conditions;
}

// That the session of a row `s` has a row `l` of its labels. Citus asks the shards for nothing that rows of
// the index name one by one, but for a list of sessions.
function ofSession({ sharded }: Scope, table: string, conditions: readonly string[]): string {
  return sharded
    ? `s.conversation_id IN (
      SELECT l.conversation_id FROM ${table} AS l WHERE ${conditions.join(" AND ")})`
    : `EXISTS (
      SELECT FROM ${table} AS l
       WHERE ${["l.conversation_id = s.conversation_id", ...conditions].join(" AND ")})`;
}

/**
 * The sessions that all results belong to, where the filter names a session, an owner or tags and they
 * are few enough to be looked through one by one.
 *
 * @returns undefined when they are not
 */
export async function findSessions(
  { db, signal, limits }: CallContext,
  { tenant, modelId, filter }: Scope,
): Promise<bigint[] | undefined> {
  const { conversationId, ownerId, allTags } = filter;
  if (conversationId === 0n && ownerId === "" && allTags.length === 0) return undefined;
  const place = new Places();
  const own = place.of(tenant);
  const conditions = [`c.tenant_id = ${own}`];
  if (modelId) conditions.push(`c.model_id = ${place.of(modelId)}`);
  if (conversationId > 0n) conditions.push(`c.id = ${place.of(conversationId)}`);
  if (ownerId !== "") {
    conditions.push(`c.id IN (
      SELECT conversation_id FROM session_labels
       WHERE tenant_id = ${own} AND owner_id = ${place.of(ownerId)} AND owner_id <> '')`);
  }
  for (const tag of new Set(allTags)) {
    conditions.push(`c.id IN (
      SELECT conversation_id FROM session_tags
       WHERE tenant_id = ${own} AND tag = ${place.of(tag)})`);
  }
  const most = limits.searchSessions;
  const sessions = await db.query(
    plannedEachTime<{ id: bigint; message_count: bigint }>(
      `SELECT c.id, c.message_count FROM conversations AS c
        WHERE ${conditions.join(" AND ")} LIMIT ${place.of(most + 1)}`,
    ),
    place.values,
    signal,
  );
  const messages = sessions.reduce((sum, session) => sum + session.message_count, 0n);
  if (sessions.length > most || messages > limits.searchSessionMessages) return undefined;
  return sessions.map(({ id }) => id);
}
