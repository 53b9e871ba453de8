// How far the index of search is behind what was written.
import { type Database, statement } from "../db/database.js";
import { UNSEEN } from "./sources.js";

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

interface LagRow {
  changed: bigint;
  unfilled?: bigint;
  fill_id: bigint;
  fill_seq: bigint;
  indexed: number;
}

const CHANGED = `(
  SELECT coalesce(sum(least(x.last_seq - x.first_seq, x.last_revision - x.first_revision) + 1), 0)
    FROM (${UNSEEN}) AS x
   WHERE x.tenant_id = $1)::bigint AS changed`;
const INDEXED = `(
  SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'message_search'::regclass) AS indexed`;
const FILL = "b.conversation_id AS fill_id, b.seq AS fill_seq";

// What is before the place $id, $seq of the sessions of the tenant $1 and the model $2 or ''.
const unfilled = (id: string, seq: string) => `
  SELECT coalesce(sum(CASE WHEN id = ${id} THEN ${seq} - 1 ELSE message_count END), 0)::bigint AS unfilled
    FROM conversations
   WHERE tenant_id = $1 AND ($2 = '' OR model_id = $2) AND id <= ${id}`;

const getLag = statement<LagRow>(
  "get_search_lag",
  `SELECT ${CHANGED},
          CASE WHEN b.conversation_id > 0 THEN (${unfilled("b.conversation_id", "b.seq")})
               ELSE 0 END AS unfilled,
          ${FILL}, ${INDEXED}
     FROM search_backfill AS b`,
);

// On Citus, which asks all shards, whether it needs their answer or not: the two by themselves.
const getLagOfIndex = statement<LagRow>(
  "get_search_lag_of_index",
  `SELECT ${CHANGED}, ${FILL}, ${INDEXED} FROM search_backfill AS b`,
);

const countUnfilled = statement<{ unfilled: bigint }>(
  "count_unfilled",
  unfilled("$3::bigint", "$4::bigint"),
);

/**
 * Reads how far the index is behind.
 *
 * @param modelId empty: all models
 */
export async function readLag(
  db: Database,
  { tenant, modelId }: { tenant: string; modelId: string },
  signal: AbortSignal,
): Promise<Lag> {
  const [row] = db.shards
    ? await db.query(getLagOfIndex, [tenant], signal)
    : await db.query(getLag, [tenant, modelId], signal);
  if (!row) throw new Error("the table search_backfill has lost its row");
  const { changed, fill_id: fillId, fill_seq: fillSeq, indexed } = row;
  const lag = { changed, fillId, fillSeq, indexed };
  if (row.unfilled !== undefined) return { ...lag, unfilled: row.unfilled };
  if (fillId === 0n) return { ...lag, unfilled: 0n };
  const [count] = await db.query(countUnfilled, [tenant, modelId, fillId, fillSeq], signal);
  return { ...lag, unfilled: count?.unfilled ?? 0n };
}
