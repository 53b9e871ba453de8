// SessionFilter: its checks, and the statement that reads a page of the sessions that it chooses.
import {
  type SessionFilter,
  SessionState,
  type TimeRange,
} from "../../gen/agentstore/v1/sessions.js";
import { plannedEachTime, type Statement } from "../db/database.js";
import type { Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import { ACTIVITY, pageOf, SUMMARY, type SummaryRow } from "./sql.js";

/** Checks a filter; prefix is the path before the names of its fields. */
export function checkSessionFilter(
  filter: SessionFilter,
  check: FieldChecks,
  limits: Limits,
  prefix = "filter.",
): void {
  checkTags(`${prefix}all_tags`, filter.allTags, limits.filterAllTags, check, limits);
  checkTags(`${prefix}any_tags`, filter.anyTags, limits.tags, check, limits);
  check.text(`${prefix}owner_id`, filter.ownerId, limits.idCharacters);
  check.struct(`${prefix}metadata`, filter.metadata, {
    bytes: limits.filterMetadataBytes,
    depth: limits.metadataDepth,
  });
  check.enumValue(`${prefix}state`, filter.state, SessionState, { zero: true });
  checkRange(`${prefix}created`, filter.created, check);
  checkRange(`${prefix}last_message`, filter.lastMessage, check);
}

/** Adds what is wrong with a list of tags to the checks. */
export function checkTags(
  field: string,
  tags: string[],
  most: number,
  check: FieldChecks,
  limits: Limits,
): void {
  if (tags.length > most) {
    check.fail(field, `must be at most ${most}`);
    return;
  }
  tags.forEach((tag, index) => {
    check.requiredText(`${field}[${index}]`, tag, limits.tagCharacters);
  });
}

/** Checks a range of times. */
export function checkRange(field: string, range: TimeRange | undefined, check: FieldChecks): void {
  if (!range) return;
  const { start, end } = range;
  check.time(`${field}.start`, start);
  check.time(`${field}.end`, end);
  if (start && end && start.getTime() >= end.getTime()) {
    check.fail(`${field}.end`, "must be after start");
  }
}

/** Whether a filter leaves any session out. */
export function isFilter(filter: SessionFilter | undefined): filter is SessionFilter {
  if (!filter) return false;
  return (
    filter.allTags.length > 0 ||
    filter.anyTags.length > 0 ||
    filter.ownerId !== "" ||
    hasKeys(filter.metadata) ||
    filter.state !== SessionState.UNSPECIFIED ||
    hasBound(filter.created) ||
    hasBound(filter.lastMessage)
  );
}

/** Which page of sessions to read. */
export interface PageOfSessions {
  tenant: string;
  /** Empty: the sessions of all models. */
  modelId: string;
  filter: SessionFilter;
  /** Where the page before ended: activity and id of its last session. */
  after: [activity: bigint, id: bigint];
  /** How many at the most. */
  count: number;
  /** The page ends after the session that passes so many bytes. */
  bytes: number;
  /** The server's clock, for the filter by state. */
  now: Date;
  /** Whether Citus has distributed the sessions. */
  sharded: boolean;
}

/**
 * Makes the statement that reads a page, newest activity first, and its values. The text is put
 * together from fixed parts; what the caller gave is in the values alone. It is planned anew each
 * time: from an index of labels where the value is rare, along the order of the list where it is
 * common.
 */
export function sessionPage({
  tenant,
  modelId,
  filter,
  after,
  count,
  bytes,
  now,
  sharded,
}: PageOfSessions): { statement: Statement<SummaryRow>; values: unknown[] } {
  const values: unknown[] = [tenant, ...after, count, bytes];
  const place = (value: unknown) => `$${values.push(value)}`;
  // Citus takes no LATERAL with a limit of its own over shards.
  const mergesModels = !modelId && !sharded;
  const { labels, conditions } = conditionsOf(filter, now, place);
  if (modelId) conditions.push(`c.model_id = ${place(modelId)}`);
  if (mergesModels) conditions.push("c.model_id = models.id");
  const sessions = `
    SELECT ${SUMMARY.replaceAll(/\w+/g, "c.$&")}, ${ACTIVITY_OF_C} AS activity
      FROM conversations AS c
      ${labels ? "JOIN session_labels AS l ON l.conversation_id = c.id AND l.tenant_id = $1" : ""}
     WHERE c.tenant_id = $1 AND (${ACTIVITY_OF_C}, c.id) < ($2, $3)
       ${conditions.map((condition) => `AND ${condition}`).join("\n       ")}
     ORDER BY ${ACTIVITY_OF_C} DESC, c.id DESC
     LIMIT $4`;
  const source = mergesModels
    ? `SELECT one.* FROM models CROSS JOIN LATERAL (${sessions}) AS one
        ORDER BY one.activity DESC, one.id DESC
        LIMIT $4`
    : sessions;
  return { statement: plannedEachTime(pageOf(source)), values };
}

/** Which sessions to name. */
export interface SessionsById {
  tenant: string;
  /** Empty: the sessions of all models. */
  modelId: string;
  /** Absent: all. */
  filter: SessionFilter | undefined;
  /** Only those with a higher id. */
  afterId: bigint;
  /** How many at the most. */
  count: number;
  /** The server's clock, for the filter by state. */
  now: Date;
}

/** As sessionPage, for the ids of sessions in the order of their ids. */
export function sessionIds({ tenant, modelId, filter, afterId, count, now }: SessionsById): {
  statement: Statement<{ id: bigint }>;
  values: unknown[];
} {
  const values: unknown[] = [tenant, afterId, count];
  const place = (value: unknown) => `$${values.push(value)}`;
  const { labels, conditions } = filter
    ? conditionsOf(filter, now, place)
    : { labels: false, conditions: [] };
  if (modelId) conditions.push(`c.model_id = ${place(modelId)}`);
  return {
    statement: plannedEachTime(`
      SELECT c.id
        FROM conversations AS c
        ${labels ? "JOIN session_labels AS l ON l.conversation_id = c.id AND l.tenant_id = $1" : ""}
       WHERE c.tenant_id = $1 AND c.id > $2
         ${conditions.map((condition) => `AND ${condition}`).join("\n         ")}
       ORDER BY c.id
       LIMIT $3`),
    values,
  };
}

const ACTIVITY_OF_C = ACTIVITY.replace("last_message_ms", "c.last_message_ms");

function conditionsOf(
  filter: SessionFilter,
  now: Date,
  place: (value: unknown) => string,
): { labels: boolean; conditions: string[] } {
  const conditions: string[] = [];
  let labels = false;
  const onLabels = (condition: string) => {
    labels = true;
    conditions.push(condition);
  };
  for (const tag of new Set(filter.allTags)) conditions.push(tagged(`t.tag = ${place(tag)}`));
  if (filter.anyTags.length > 0) {
    conditions.push(tagged(`t.tag = ANY (${place(filter.anyTags)}::text[])`));
  }
  if (filter.ownerId !== "") onLabels(`l.owner_id = ${place(filter.ownerId)} AND l.owner_id <> ''`);
  if (hasKeys(filter.metadata)) {
    onLabels(`l.metadata @> jsonb_build_object($1::text, ${place(filter.metadata)}::jsonb)`);
  }
  if (filter.state === SessionState.EXPIRED) onLabels(`l.expires_at <= ${place(now)}`);
  if (filter.state === SessionState.ACTIVE) {
    conditions.push(`(c.expires_at IS NULL OR c.expires_at > ${place(now)})`);
  }
  const { created, lastMessage } = filter;
  if (created?.start) onLabels(`l.created_at >= ${place(created.start)}`);
  if (created?.end) onLabels(`l.created_at < ${place(created.end)}`);
  // Sessions without messages have the lowest activity of all, which no time is.
  if (hasBound(lastMessage)) {
    const start = lastMessage?.start?.getTime() ?? YEAR_1_MS;
    conditions.push(`${ACTIVITY_OF_C} >= ${place(start)}`);
  }
  if (lastMessage?.end) conditions.push(`${ACTIVITY_OF_C} < ${place(lastMessage.end.getTime())}`);
  return { labels, conditions };
}

const YEAR_1_MS = -62_135_596_800_000;

function tagged(condition: string): string {
  return `EXISTS (SELECT 1 FROM session_tags AS t
                   WHERE t.conversation_id = c.id AND t.tenant_id = $1 AND ${condition})`;
}

function hasKeys(struct: object | undefined): boolean {
  return struct !== undefined && Object.keys(struct).length > 0;
}

function hasBound(range: TimeRange | undefined): boolean {
  return range?.start !== undefined || range?.end !== undefined;
}
