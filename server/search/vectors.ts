// Finds the vectors that are nearest to a query's: by pgvector's index, or by looking at each.
import { BinaryRow } from "../db/binary-row.js";
import { plannedEachTime } from "../db/database.js";
import type { QueryVector } from "../embeddings/query-vector.js";
import { codeProduct, product } from "../embeddings/vector.js";
import type { CallContext } from "../rpc/call.js";
import { NO_TIME, otherConditions, type Scope, timeConditions } from "./filter.js";
import { Places } from "./places.js";
import { compareRanked, type Ranked } from "./ranking.js";

/** What is looked for. */
export interface VectorSearch {
  scope: Scope;
  /** The sessions that all results belong to, where they are few. */
  sessions: readonly bigint[] | undefined;
  vector: QueryVector;
  /** How many at the most. */
  depth: number;
}

/** Of those that look best by their codes, how many more than are asked for are looked at closely. */
const CLOSE_LOOKS = 100;

/** Whether there are no more vectors to compare than so many. */
export async function hasAtMost(
  { db, signal }: CallContext,
  search: VectorSearch,
  most: number,
): Promise<boolean> {
  const place = new Places();
  const text = `SELECT count(*) AS found
                  FROM (SELECT 1 FROM ${sourceOf(search, place)} LIMIT ${place.of(most + 1)}) AS some_of`;
  const statement = plannedEachTime<{ found: bigint }>(text);
  const [row] = await db.query(statement, place.values, signal);
  return (row?.found ?? 0n) <= BigInt(most);
}

/** Compares the query with each vector: by their codes first, then those that are near closely. */
export async function rankOneByOne(context: CallContext, search: VectorSearch): Promise<Ranked[]> {
  const { db, signal } = context;
  const { vector, depth } = search;
  const best = new Best(depth + CLOSE_LOOKS);
  const place = new Places();
  const statement = plannedEachTime<never>(
    `SELECT s.conversation_id, s.seq, s.scale, s.code FROM ${sourceOf(search, place)}`,
  );
  const onRow = (bytes: Buffer, start: number) => {
    const row = new BinaryRow(bytes, start);
    const conversation_id = row.int8();
    const seq = row.int8();
    const scale = row.float4();
    const { buffer, byteOffset, length } = row.bytea();
    const likeness = scale * codeProduct(vector.values, new Int8Array(buffer, byteOffset, length));
    best.offer({ conversation_id, seq, likeness });
  };
  await db.queryRows(statement, place.values, onRow, signal);
  const ranked = await lookClosely(context, vector, best.take());
  return ranked.sort(compareRanked).slice(0, depth);
}

async function lookClosely(
  { db, signal }: CallContext,
  { model, values }: QueryVector,
  near: Near[],
): Promise<Ranked[]> {
  const rows = await db.query(
    plannedEachTime<{ conversation_id: bigint; seq: bigint; embedding: number[] }>(
      `SELECT conversation_id, seq, embedding
         FROM message_embeddings
         JOIN unnest($1::bigint[], $2::bigint[]) AS k (conversation_id, seq)
        USING (conversation_id, seq)
        WHERE model = $3 AND dimensions = $4`,
    ),
    [near.map((key) => key.conversation_id), near.map(({ seq }) => seq), model, values.length],
    signal,
  );
  return rows.map(({ conversation_id, seq, embedding }) => ({
    conversation_id,
    seq,
    score: BigInt(Math.round(1e6 * product(values, embedding))),
  }));
}

/**
 * Asks the index. It looks on while filters leave too few, at 20,000 vectors or few more, so it may
 * find fewer than there are.
 */
export async function rankByIndex(
  { db, signal }: CallContext,
  search: VectorSearch,
): Promise<Ranked[]> {
  const { vector, depth } = search;
  const place = new Places();
  const type = `halfvec(${vector.values.length})`;
  const asked = `${place.of(Array.from(vector.values))}::real[]::${type}`;
  const statement = plannedEachTime<Ranked>(
    `SELECT conversation_id, seq, round(1e6 * (1 - distance))::bigint AS score
       FROM (SELECT s.conversation_id, s.seq, s.embedding::${type} <=> ${asked} AS distance
               FROM ${sourceOf(search, place)}
              ORDER BY s.embedding::${type} <=> ${asked}
              LIMIT ${place.of(depth)}) AS nearest`,
  );
  const ranked = await db.transaction(async (queries) => {
    const [, rows] = await Promise.all([
      queries.query(setSearch, [String(Math.min(1_000, Math.max(100, depth)))]),
      queries.query(statement, place.values),
    ]);
    return rows;
  }, signal);
  return ranked.sort(compareRanked);
}

const setSearch = plannedEachTime<never>(
  `SELECT set_config('hnsw.ef_search', $1, true),
          set_config('hnsw.iterative_scan', 'relaxed_order', true)`,
);

/** The vectors `s` that a search compares. */
function sourceOf({ scope, sessions, vector }: VectorSearch, place: Places): string {
  const times = timeConditions(scope, place);
  const ofMessages = times.length > 0 || scope.filter.roles.length > 0;
  // The index is of one model's vectors of one length.
  const conditions = [
    `e.tenant_id = ${place.of(scope.tenant)}`,
    `e.model = ${place.of(vector.model)}`,
    `e.dimensions = ${vector.values.length}`,
  ];
  if (sessions) conditions.push(`e.conversation_id = ANY (${place.of(sessions)}::bigint[])`);
  const joins = [
    ofMessages
      ? `JOIN conversation_messages AS m
           ON m.conversation_id = e.conversation_id AND m.seq = e.seq`
      : "",
    scope.modelId
      ? `JOIN conversations AS c
           ON c.id = e.conversation_id AND c.model_id = ${place.of(scope.modelId)}`
      : "",
  ];
  const columns = ofMessages ? `, m.role, coalesce(m.ts_ms, ${NO_TIME}) AS ts_ms` : "";
  const others = ["true", ...times, ...otherConditions(scope, place)].join(" AND ");
  return `(SELECT e.conversation_id, e.seq, e.embedding, e.code, e.scale${columns}
             FROM message_embeddings AS e ${joins.join(" ")}
            WHERE ${conditions.join(" AND ")}) AS s
          WHERE ${others}`;
}

interface Near {
  conversation_id: bigint;
  seq: bigint;
  likeness: number;
}

// Keeps the best of however many.
class Best {
  #kept: Near[] = [];
  #least = Number.NEGATIVE_INFINITY;

  constructor(readonly most: number) {}

  offer(near: Near): void {
    if (near.likeness <= this.#least) return;
    this.#kept.push(near);
    if (this.#kept.length >= 4 * this.most) this.#least = this.#cut();
  }

  take(): Near[] {
    this.#cut();
    return this.#kept;
  }

  #cut(): number {
    this.#kept = this.#kept.sort((a, b) => b.likeness - a.likeness).slice(0, this.most);
    return this.#kept.at(-1)?.likeness ?? Number.NEGATIVE_INFINITY;
  }
}
