// SearchFilter: its checks, the conditions that it means, and the sessions that it names.
import { Role } from "../../gen/agentstore/v1/messages.js";
import type { SearchFilter } from "../../gen/agentstore/v1/search.js";
import { type Database, plannedEachTime } from "../db/database.js";
import { roleName } from "../messages/message.js";
import type { Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import { checkRange, checkTags } from "../sessions/filter.js";
import type { Places } from "./places.js";

/** What is searched: what it belongs to, and what the caller chooses of that. */
export interface Scope {
  tenant: string;
  /** Empty: all models. */
  modelId: string;
  filter: SearchFilter;
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
export function otherConditions({ tenant, filter }: Scope, place: Places): string[] {
  const conditions: string[] = [];
  if (filter.conversationId > 0n) {
    conditions.push(`s.conversation_id = ${place.of(filter.conversationId)}`);
  }
  if (filter.roles.length > 0) {
    conditions.push(`s.role = ANY (${place.of(filter.roles.map(roleName))}::text[])`);
  }
  if (filter.ownerId !== "") {
    conditions.push(`EXISTS (
      SELECT FROM session_labels AS l
       WHERE l.conversation_id = s.conversation_id AND l.tenant_id = ${place.of(tenant)}
         AND l.owner_id = ${place.of(filter.ownerId)})`);
  }
  for (const tag of new Set(filter.allTags)) {
    conditions.push(`EXISTS (
      SELECT FROM session_tags AS t
       WHERE t.conversation_id = s.conversation_id AND t.tenant_id = ${place.of(tenant)}
         AND t.tag = ${place.of(tag)})`);
  }
  return conditions;
}
