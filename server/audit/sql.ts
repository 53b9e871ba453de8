// The statements on the audit log.
import { statement } from "../db/database.js";

export const insertInbox = statement<never>(
  "insert_audit_inbox",
  `INSERT INTO audit_inbox
     (tenant_id, at, principal, peer, rpc, conversation_id, seq, fields, request_id, hash)
   SELECT tenant_id, $2::timestamptz, principal, peer, rpc, conversation_id, seq,
          ARRAY(SELECT json_array_elements_text(fields)), request_id, hash
     FROM unnest(
       $1::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::json[],
       $9::text[], $10::bytea[]
     ) AS e (tenant_id, principal, peer, rpc, conversation_id, seq, fields, request_id, hash)`,
);

/** The tenants that have events to seal, or as many as so many events show. */
export const tenantsToSeal = statement<{ tenant_id: string }>(
  "tenants_to_seal",
  `SELECT DISTINCT tenant_id FROM (SELECT tenant_id FROM audit_inbox LIMIT $1) AS sample`,
);

/** Where a tenant's chain ends. */
export interface HeadRow {
  position: bigint;
  sealed_at_us: bigint;
  chain: Buffer;
}

// Times are compared and hashed to the microsecond, which a Date does not hold.
const us = (column: string): string => `(extract(epoch FROM ${column}) * 1000000)::bigint`;
const fromUs = (parameter: string): string =>
  `(timestamptz 'epoch' + ${parameter}::bigint * interval '1 microsecond')`;

const HEAD = `SELECT position, ${us("sealed_at")} AS sealed_at_us, chain
  FROM audit_heads
 WHERE tenant_id = $1`;

/** Takes the sealer's turn, unless another sealer has it. */
export const tryHead = statement<HeadRow>("try_audit_head", `${HEAD} FOR UPDATE SKIP LOCKED`);

/** Takes the sealer's turn. */
export const lockHead = statement<HeadRow>("lock_audit_head", `${HEAD} FOR UPDATE`);

// A head that is missing is made anew where the log ends.
export const insertHead = statement<never>(
  "insert_audit_head",
  `INSERT INTO audit_heads (tenant_id, position, sealed_at, chain)
   SELECT $1, coalesce(position, 0), coalesce(sealed_at, 'epoch'), coalesce(chain, $2)
     FROM (SELECT 1) AS one
     LEFT JOIN (
       SELECT position, sealed_at, chain FROM audit_events
        WHERE tenant_id = $1
        ORDER BY position DESC
        LIMIT 1) AS last ON true
   ON CONFLICT DO NOTHING`,
);

export const readInbox = statement<{ id: bigint; at_us: bigint; hash: Buffer }>(
  "read_audit_inbox",
  `SELECT id, ${us("at")} AS at_us, hash FROM audit_inbox WHERE tenant_id = $1 ORDER BY id LIMIT $2`,
);

/** $1 tenant, $2 ids in the inbox, $3 their positions, $4 their chains, $5 when. */
export const moveEvents = statement<never>(
  "move_audit_events",
  `WITH moved AS (DELETE FROM audit_inbox WHERE tenant_id = $1 AND id = ANY ($2::bigint[])
                  RETURNING *)
   INSERT INTO audit_events
     (tenant_id, position, at, principal, peer, rpc, conversation_id, seq, fields, request_id, hash,
      sealed_at, chain)
   SELECT moved.tenant_id, sealed.position, at, principal, peer, rpc, conversation_id, seq, fields,
          request_id, hash, ${fromUs("$5")}, sealed.chain
     FROM moved
     JOIN unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS sealed (id, position, chain) USING (id)`,
);

export const advanceHead = statement<never>(
  "advance_audit_head",
  `UPDATE audit_heads SET position = $2, sealed_at = ${fromUs("$3")}, chain = $4 WHERE tenant_id = $1`,
);

/** An event as it is stored. */
export interface EventRow {
  tenant_id: string;
  position: bigint;
  at_us: bigint;
  principal: string;
  peer: string;
  rpc: string;
  conversation_id: bigint | null;
  seq: bigint | null;
  fields: string[];
  request_id: string;
  hash: Buffer;
  sealed_at_us: bigint;
  chain: Buffer;
}

const EVENT = `tenant_id, position, ${us("at")} AS at_us, principal, peer, rpc, conversation_id, seq,
  fields, request_id, hash, ${us("sealed_at")} AS sealed_at_us, chain`;

export const readEvents = statement<EventRow>(
  "read_audit_events",
  `SELECT ${EVENT}
     FROM audit_events
    WHERE tenant_id = $1 AND position > $2
    ORDER BY position
    LIMIT $3`,
);

/** Where the log ends by its record, and by the events themselves. */
export const getEnds = statement<{
  recorded: bigint | null;
  chain: Buffer | null;
  last: bigint | null;
}>(
  "get_audit_ends",
  `SELECT head.position AS recorded, head.chain,
          (SELECT max(position) FROM audit_events WHERE tenant_id = $1) AS last
     FROM (SELECT 1) AS one
     LEFT JOIN audit_heads AS head ON head.tenant_id = $1`,
);

/** What a list of events may be narrowed to; the values stand in this order, from $4 on. */
export const FILTERS = ["conversation", "principal", "rpc", "request", "start", "end"] as const;

/** One of them. */
export type Filter = (typeof FILTERS)[number];

// An event is sealed after it was made, so the first one that was sealed at a time is not behind the
// first one that was made then: an index says where to begin.
const CONDITIONS: Record<Filter, (parameter: string) => string> = {
  conversation: (p) => `conversation_id = ${p}`,
  principal: (p) => `principal = ${p}`,
  rpc: (p) => `rpc = ${p}`,
  request: (p) => `request_id = ${p} AND request_id <> ''`,
  start: (p) => `at >= ${p}::timestamptz AND position >= (
      SELECT position FROM audit_events
       WHERE tenant_id = $1 AND sealed_at >= ${p}::timestamptz
       ORDER BY sealed_at, position
       LIMIT 1)`,
  end: (p) => `at < ${p}::timestamptz`,
};

/**
 * The statement that lists the events which some filters leave. $1 tenant, $2 how many, $3 the
 * position that the page begins behind, then the filters' values.
 */
export function listEvents(filters: readonly Filter[], newestFirst: boolean) {
  const conditions = filters.map((filter, index) => CONDITIONS[filter](`$${index + 4}`));
  return statement<EventRow>(
    ["list_audit_events", newestFirst ? "newest" : "oldest", ...filters].join("_"),
    `SELECT ${EVENT}
       FROM audit_events
      WHERE ${["tenant_id = $1", `position ${newestFirst ? "<" : ">"} $3`, ...conditions].join(" AND ")}
      ORDER BY position ${newestFirst ? "DESC" : "ASC"}
      LIMIT $2`,
  );
}
