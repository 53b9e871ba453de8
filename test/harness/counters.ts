// Recomputes from the messages all that the sessions' rows say about them.
import { expect } from "vitest";
import { withClient } from "./postgres.js";

// One row a session: what its row says and what its messages say, under the same names.
const COMPARE = `
  SELECT c.id::text,
         jsonb_build_object(
           'last_seq', c.last_seq, 'message_count', c.message_count,
           'user', c.user_messages, 'assistant', c.assistant_messages,
           'system', c.system_messages, 'tool', c.tool_messages,
           'characters', c.total_characters,
           'input_tokens', c.input_tokens, 'output_tokens', c.output_tokens,
           'cached_tokens', c.cached_tokens, 'reasoning_tokens', c.reasoning_tokens,
           'cost_micros', c.cost_micros,
           'first_ms', c.first_message_ms, 'last_ms', c.last_message_ms,
           'preview', c.first_message) AS kept,
         jsonb_build_object(
           'last_seq', m.last_seq, 'message_count', m.messages,
           'user', m.users, 'assistant', m.assistants, 'system', m.systems, 'tool', m.tools,
           'characters', m.characters,
           'input_tokens', m.input_tokens, 'output_tokens', m.output_tokens,
           'cached_tokens', m.cached_tokens, 'reasoning_tokens', m.reasoning_tokens,
           'cost_micros', m.cost_micros,
           'first_ms', m.first_ms, 'last_ms', m.last_ms,
           'preview', m.preview) AS recomputed,
         m.last_seq = m.given AND m.seqs = m.given AND m.first_seq IN (0, 1) AS gapless,
         h.distinct_revisions AND h.rise AND c.revision > c.last_seq
           AND c.revision >= h.last_revision AS revisions_fit,
         h.gapless AS versions_gapless,
         c.updated_at >= c.created_at AND c.updated_at < now() + interval '1 minute' AS times_fit
    FROM conversations AS c
   CROSS JOIN LATERAL (
     SELECT count(*) AS given,
            count(DISTINCT seq) AS seqs,
            coalesce(min(seq), 0) AS first_seq,
            coalesce(max(seq), 0) AS last_seq,
            count(*) FILTER (WHERE shown) AS messages,
            count(*) FILTER (WHERE shown AND role = 'user') AS users,
            count(*) FILTER (WHERE shown AND role = 'assistant') AS assistants,
            count(*) FILTER (WHERE shown AND role = 'system') AS systems,
            count(*) FILTER (WHERE shown AND role = 'tool') AS tools,
            coalesce(sum(char_length(content)) FILTER (WHERE shown), 0) AS characters,
            coalesce(sum(input_tokens) FILTER (WHERE shown), 0) AS input_tokens,
            coalesce(sum(output_tokens) FILTER (WHERE shown), 0) AS output_tokens,
            coalesce(sum(cached_tokens) FILTER (WHERE shown), 0) AS cached_tokens,
            coalesce(sum(reasoning_tokens) FILTER (WHERE shown), 0) AS reasoning_tokens,
            coalesce(sum(cost_micros) FILTER (WHERE shown), 0) AS cost_micros,
            min(ts_ms) FILTER (WHERE shown) AS first_ms,
            max(ts_ms) FILTER (WHERE shown) AS last_ms,
            (array_agg(left(content, 200) ORDER BY seq) FILTER (WHERE shown))[1] AS preview
       FROM (
         SELECT *, deleted_at IS NULL AS shown
           FROM conversation_messages
          WHERE conversation_id = c.id
       ) AS told
   ) AS m
   CROSS JOIN LATERAL (
     SELECT count(*) = count(DISTINCT revision) AS distinct_revisions,
            coalesce(max(revision), 0) AS last_revision,
            coalesce(bool_and(revision > revision_before), true) AS rise,
            coalesce(bool_and(version = version_before + 1), true) AS gapless
       FROM (
         SELECT *, lag(revision, 1, 1::bigint) OVER versions AS revision_before,
                lag(version, 1, 0::bigint) OVER versions AS version_before
           FROM (
             SELECT seq, version, revision FROM conversation_messages WHERE conversation_id = c.id
              UNION ALL
             SELECT seq, version, revision FROM message_versions WHERE conversation_id = c.id
           ) AS told
         WINDOW versions AS (PARTITION BY seq ORDER BY version)
       ) AS ordered
   ) AS h
   ORDER BY c.id`;

// Answers that are kept for appends that are not there, or that claim each other's messages.
const STRAY_ANSWERS = `
  SELECT r.conversation_id::text, r.request_id
    FROM conversation_requests AS r
   WHERE r.first_seq IS NOT NULL
     AND (r.last_seq - r.first_seq + 1 <> (
            SELECT count(*) FROM conversation_messages AS m
             WHERE m.conversation_id = r.conversation_id
               AND m.seq BETWEEN r.first_seq AND r.last_seq)
          OR EXISTS (
            SELECT 1 FROM conversation_requests AS other
             WHERE other.conversation_id = r.conversation_id
               AND other.request_id <> r.request_id
               AND other.first_seq <= r.last_seq AND other.last_seq >= r.first_seq))`;

const ORPHANS = `
  SELECT count(*)::int AS orphans
    FROM (SELECT conversation_id FROM conversation_messages
           UNION ALL SELECT conversation_id FROM message_versions
           UNION ALL SELECT conversation_id FROM session_snapshots) AS m
   WHERE NOT EXISTS (SELECT 1 FROM conversations AS c WHERE c.id = m.conversation_id)`;

/**
 * Asserts for every session of a database: seqs run 1..last_seq without a gap, so do the versions
 * of each message, whose revisions rise, and every counter, sum, time and preview of its row is what
 * its messages give that are not deleted; and that every kept answer of an append belongs to
 * messages that are there.
 *
 * @returns how many sessions were compared
 */
export async function assertCountersAgree(databaseUrl: string): Promise<number> {
  return await withClient(databaseUrl, async (client) => {
    // One snapshot: sessions may be written meanwhile.
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const { rows: sessions } = await client.query(COMPARE);
    for (const { id, kept, recomputed, ...fits } of sessions) {
      expect(kept, `the counters of session ${id}`).toEqual(recomputed);
      expect({ id, ...fits }).toEqual({
        id,
        gapless: true,
        revisions_fit: true,
        versions_gapless: true,
        times_fit: true,
      });
    }
    expect((await client.query(STRAY_ANSWERS)).rows, "answers without their messages").toEqual([]);
    expect((await client.query(ORPHANS)).rows, "messages without a session").toEqual([
      { orphans: 0 },
    ]);
    await client.query("COMMIT");
    return sessions.length;
  });
}
