// Filters of sessions as they go on the wire.

import * as wire from "../gen/agentstore/v1/sessions.js";
import { InvalidFieldError } from "./errors.js";
import { date, jsonObject, list, text, textOrEmpty } from "./fields.js";
import type { SessionFilter, TimeRange } from "./options.js";

const WIRE_STATES = new Map<string | undefined, wire.SessionState>([
  [undefined, wire.SessionState.UNSPECIFIED],
  ["active", wire.SessionState.ACTIVE],
  ["expired", wire.SessionState.EXPIRED],
]);

/** Makes the wire's form of a filter; undefined for none. */
export function filterToWire(filter: SessionFilter | undefined): wire.SessionFilter | undefined {
  if (filter === undefined) return undefined;
  const state = WIRE_STATES.get(filter.state);
  if (state === undefined) {
    throw InvalidFieldError.of("filter.state", "must be active or expired");
  }
  return {
    allTags: tagsToWire(filter.allTags, "filter.all_tags"),
    anyTags: tagsToWire(filter.anyTags, "filter.any_tags"),
    ownerId: textOrEmpty(filter.ownerId, "filter.owner_id"),
    metadata: jsonObject(filter.metadata, "filter.metadata"),
    state,
    created: rangeToWire(filter.created, "filter.created"),
    lastMessage: rangeToWire(filter.lastMessage, "filter.last_message"),
  };
}

/** Makes the wire's form of tags. */
export function tagsToWire(given: readonly string[] | undefined, field: string): string[] {
  return list(given ?? [], field).map((tag, index) => text(tag, `${field}[${index}]`));
}

/** Makes the wire's form of a range of times. */
export function rangeToWire(
  given: TimeRange | undefined,
  field: string,
): wire.TimeRange | undefined {
  if (given === undefined) return undefined;
  const { start, end } = given;
  return {
    start: start === undefined ? undefined : date(start, `${field}.start`),
    end: end === undefined ? undefined : date(end, `${field}.end`),
  };
}
