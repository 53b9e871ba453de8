// Where a search takes messages from: the index, by time, by its grams or words, or by session; and what
// is not in the index yet.
//
// Each source is a subquery in parentheses. Those of the index have the columns of message_search. The
// others read the messages themselves and have conversation_id, seq, id, role, ts_ms and content.
import { NO_TIME, type Scope, timeConditions } from "./filter.js";
import type { Places } from "./places.js";

/** How far a search has come to know the index before it reads it. */
export interface Lag {
  /** About how many messages of the tenant have changed and are not indexed yet. */
  changed: bigint;
  /** About how many were there before the index and are not in it yet. */
  unfilled: bigint;
  /** The place before which messages are not indexed yet; 0 when there is none. */
  fillId: bigint;
  fillSeq: bigint;
  /** About how many messages are indexed. */
  indexed: number;
}

/** The newest messages of a scope. */
export function newest(
  scope: Scope,
  { most, before }: { most: number; before?: readonly [tsMs: bigint, id: bigint] | undefined },
  place: Places,
): string {
  const conditions = [ofScope(scope, "s", place), ...timeConditions(scope, place)];
  if (before) {
    conditions.push(`(s.ts_ms, s.id) < (${place.of(before[0])}, ${place.of(before[1])})`);
  }
  return `(SELECT * FROM message_search AS s
            WHERE ${conditions.join(" AND ")}
            ORDER BY s.ts_ms DESC, s.id DESC
            LIMIT ${Math.trunc(most)})`;
}

/** The messages of a scope from a time on. */
export function from(
  scope: Scope,
  floor: readonly [tsMs: string, id: string] | undefined,
  place: Places,
): string {
  const conditions = [ofScope(scope, "s", place), ...timeConditions(scope, place)];
  if (floor) {
    conditions.push(
      `(s.ts_ms, s.id) >= (${place.of(floor[0])}::bigint, ${place.of(floor[1])}::bigint)`,
    );
  }
  // Step by step: to look at some thousand messages costs less than to ask an inverted index for a word
  // that is in half of the store.
  return `(SELECT * FROM message_search AS s WHERE ${conditions.join(" AND ")} OFFSET 0)`;
}

/** The messages of a scope that a condition of an inverted index finds. */
export function found(scope: Scope, condition: string, place: Places): string {
  // In two steps, so that no other index is taken instead, which would have to check the condition
  // message by message.
  return `(SELECT s.* FROM (SELECT * FROM message_search AS s WHERE ${condition} OFFSET 0) AS s
            WHERE ${[ofScope(scope, "s", place), ...timeConditions(scope, place)].join(" AND ")})`;
}

/**
 * As found(), newest first, of the columns that searches use. Step by step, so that the texts and words of
 * no more messages are read than are asked for.
 */
export function foundNewest(scope: Scope, condition: string, place: Places): string {
  return `(SELECT k.*, s.body, s.words
             FROM (SELECT s.conversation_id, s.seq, s.id, s.ts_ms, s.revision, s.role
                     FROM ${found(scope, condition, place)} AS s
                    ORDER BY s.ts_ms DESC, s.id DESC
                   OFFSET 0) AS k
            CROSS JOIN LATERAL (
              SELECT body, words
                FROM message_search AS s
               WHERE s.conversation_id = k.conversation_id AND s.seq = k.seq
              OFFSET 0) AS s)`;
}

/** The messages of some sessions. */
export function ofSessions(scope: Scope, ids: readonly bigint[], place: Places): string {
  const conditions = [ofScope(scope, "s", place), ...timeConditions(scope, place)];
  return `(SELECT s.* FROM message_search AS s
            WHERE s.conversation_id = ANY (${place.of(ids)}::bigint[])
              AND ${conditions.join(" AND ")})`;
}

function inSessions(column: string, ids: readonly bigint[] | undefined, place: Places): string {
  return ids ? `AND ${column} = ANY (${place.of(ids)}::bigint[])` : "";
}

/** The messages that have changed and that the indexer has not come to. */
export function changed(scope: Scope, ids: readonly bigint[] | undefined, place: Places): string {
  const conditions = ["true", ...timeConditions(scope, place)];
  // Step by step: of a table that may hold the changes of a whole day, the planner cannot know that it
  // is the last moment's that are asked for.
  return `(SELECT s.*
             FROM (${UNSEEN} AND tenant_id = ${place.of(scope.tenant)} OFFSET 0) AS x
            CROSS JOIN LATERAL (
              SELECT FROM conversations AS s
               WHERE s.id = x.conversation_id AND ${ofScope(scope, "s", place)}
                 ${inSessions("s.id", ids, place)}
              OFFSET 0) AS c
            CROSS JOIN LATERAL (
              SELECT ${MESSAGE}
                FROM conversation_messages AS m
               WHERE m.conversation_id = x.conversation_id
                 AND m.seq BETWEEN x.first_seq AND x.last_seq
                 AND m.revision BETWEEN x.first_revision AND x.last_revision
                 AND m.deleted_at IS NULL
              OFFSET 0) AS s
            WHERE ${conditions.join(" AND ")})`;
}

/** The messages that were there before the index and are not in it yet. */
export function unfilled(
  scope: Scope,
  ids: readonly bigint[] | undefined,
  { fillId, fillSeq }: Lag,
  place: Places,
): string {
  const conditions = ["true", ...timeConditions(scope, place)];
  return `(SELECT s.*
             FROM (SELECT ${MESSAGE}
                     FROM conversation_messages AS m
                     JOIN conversations AS s ON s.id = m.conversation_id
                    WHERE ${ofScope(scope, "s", place)}
                      AND (m.conversation_id, m.seq) < (${place.of(fillId)}, ${place.of(fillSeq)})
                      AND m.deleted_at IS NULL
                      ${inSessions("m.conversation_id", ids, place)}) AS s
            WHERE ${conditions.join(" AND ")})`;
}

/**
 * Joins rows `s` of the index with their message if they still say what it says. Step by step, so that
 * it is looked up for as many as are needed.
 */
export const CURRENT = `CROSS JOIN LATERAL (
  SELECT FROM conversation_messages AS m
   WHERE m.conversation_id = s.conversation_id AND m.seq = s.seq AND m.revision = s.revision
     AND m.deleted_at IS NULL
  OFFSET 0) AS current`;

/** The words of a row `s`, fetched once: what is long is stored apart, and read anew wherever it is named. */
export const WORDS_ONCE = "ts_delete(s.words, '')";

const MESSAGE = `m.conversation_id, m.seq, m.id, m.role, coalesce(m.ts_ms, ${NO_TIME}) AS ts_ms,
                     m.content`;

function ofScope({ tenant, modelId }: Scope, alias: string, place: Places): string {
  const model = modelId ? ` AND ${alias}.model_id = ${place.of(modelId)}` : "";
  return `${alias}.tenant_id = ${place.of(tenant)}${model}`;
}

const POSITION = "(SELECT position FROM change_readers WHERE name = 'search')";
const RANGE = `SELECT conversation_id, tenant_id, first_revision, last_revision, first_seq, last_seq
                 FROM session_changes`;

/** What the indexer has not seen of the change log: two ranges of its key. */
export const UNSEEN = `
  SELECT *
    FROM (${RANGE} WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(${POSITION})))
          UNION ALL
          ${RANGE} WHERE xid >= (SELECT pg_snapshot_xmax(${POSITION}))) AS unseen
   WHERE first_seq IS NOT NULL`;
