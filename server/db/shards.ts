// On Citus: which node a session is on, as Citus computes it.
import type pg from "pg";

/** A shard of a distributed table: the hashes that fall into it, both bounds included. */
export interface ShardRange {
  /** The node that has it. */
  node: number;
  /** Signed, 32 bits. */
  from: number;
  to: number;
}

const isDistributed = `
  SELECT 1 FROM pg_dist_partition
   WHERE logicalrelid = to_regclass('conversations') AND partmethod = 'h'`;

// What refers to a session is distributed like it and lies beside it.
const shardRanges = `
  SELECT min(groupid) AS "node", shardminvalue::int AS "from", shardmaxvalue::int AS "to"
    FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)
   WHERE logicalrelid = 'conversations'::regclass
   GROUP BY shardid, shardminvalue, shardmaxvalue
   ORDER BY shardminvalue::int`;

/**
 * Finds the shards of the sessions.
 *
 * @returns undefined without Citus, and where it has not distributed `conversations` by hash
 */
export async function findShards(client: pg.Client): Promise<ShardRange[] | undefined> {
  const { rows } = await client.query<{ citus: boolean }>(
    "SELECT to_regclass('pg_dist_partition') IS NOT NULL AS citus",
  );
  if (rows[0]?.citus !== true) return undefined;
  if ((await client.query(isDistributed)).rows.length === 0) return undefined;
  return (await client.query<ShardRange>(shardRanges)).rows;
}

/** Says which sessions share a node. */
export class ShardMap {
  /** @param ranges in the order of their bounds; out of date when shards were moved or split, which costs speed only */
  constructor(readonly ranges: ShardRange[]) {}

  /** The node of a session; undefined when no range has it. */
  nodeOf(conversationId: bigint): number | undefined {
    const hash = hashInt8(conversationId);
    let [low, high] = [0, this.ranges.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      const range = this.ranges[middle];
      if (range === undefined) return undefined;
      if (hash < range.from) high = middle - 1;
      else if (hash > range.to) low = middle + 1;
      else return range.node;
    }
    return undefined;
  }
}

/** Postgres' hash of a bigint (hashint8), by which Citus distributes: signed, 32 bits. */
export function hashInt8(value: bigint): number {
  const low = Number(value & 0xffff_ffffn);
  const high = Number((value >> 32n) & 0xffff_ffffn);
  const folded = low ^ (value >= 0n ? high : ~high);
  // hash_bytes_uint32: Bob Jenkins' final() over three words that begin as this constant.
  let [a, b, c] = [0x9e37_79b9 + 4 + 3_923_095, 0, 0];
  [b, c] = [a | 0, a | 0];
  a = (a + folded) | 0;
  c = ((c ^ b) - rotate(b, 14)) | 0;
  a = ((a ^ c) - rotate(c, 11)) | 0;
  b = ((b ^ a) - rotate(a, 25)) | 0;
  c = ((c ^ b) - rotate(b, 16)) | 0;
  a = ((a ^ c) - rotate(c, 4)) | 0;
  b = ((b ^ a) - rotate(a, 14)) | 0;
  return ((c ^ b) - rotate(b, 24)) | 0;
}

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by));
}
