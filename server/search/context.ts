// The messages around those that a search has found.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { statement } from "../db/database.js";
import { toAgentMessage } from "../messages/message.js";
import { MESSAGE_BYTES, MESSAGE_COLUMNS, type MessageRow } from "../messages/sql.js";
import type { CallContext } from "../rpc/call.js";

/** What stands around a message, in order. */
export interface Surroundings {
  before: AgentMessage[];
  after: AgentMessage[];
}

const COLUMNS = MESSAGE_COLUMNS.join(", ");

const side = (comparison: "<" | ">", direction: "ASC" | "DESC", most: string) => `
  SELECT h.place, m.*, row_number() OVER (PARTITION BY h.place ORDER BY m.seq ${direction}) AS distance
    FROM hits AS h
   CROSS JOIN LATERAL (
     SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes
       FROM conversation_messages
      WHERE conversation_id = h.hit_id AND seq ${comparison} h.hit_seq AND deleted_at IS NULL
      ORDER BY seq ${direction}
      LIMIT ${most}) AS m`;

// Around the messages $1, $2: $3 before and $4 behind each, none that begins after $5 bytes, counted
// from the first result on and from each result outwards.
const readAround = statement<MessageRow & { place: bigint }>(
  "read_around",
  `WITH hits AS (
     SELECT hit_id, hit_seq, place
       FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS h (hit_id, hit_seq, place)
   )
   SELECT place, ${COLUMNS}
     FROM (SELECT *, sum(bytes) OVER (ORDER BY place, distance, seq) - bytes AS bytes_before
             FROM (${side("<", "DESC", "$3")} UNION ALL ${side(">", "ASC", "$4")}) AS around) AS sized
    WHERE bytes_before < $5
    ORDER BY place, seq`,
);

// On Citus, which takes no LATERAL with a limit of its own over shards: around one message.
const sideOfOne = (comparison: "<" | ">", direction: "ASC" | "DESC", most: string) => `
  (SELECT ${COLUMNS}, ${MESSAGE_BYTES} AS bytes,
          row_number() OVER (ORDER BY seq ${direction}) AS distance
     FROM conversation_messages
    WHERE conversation_id = $1 AND seq ${comparison} $2 AND deleted_at IS NULL
    ORDER BY seq ${direction}
    LIMIT ${most})`;

const readAroundOne = statement<MessageRow & { bytes: bigint }>(
  "read_around_one",
  `SELECT ${COLUMNS}, bytes
     FROM (SELECT *, sum(bytes) OVER (ORDER BY distance, seq) - bytes AS bytes_before
             FROM (${sideOfOne("<", "DESC", "$3")} UNION ALL ${sideOfOne(">", "ASC", "$4")}) AS around
          ) AS sized
    WHERE bytes_before < $5
    ORDER BY seq`,
);

/** Reads what stands around messages; for each of them, in their order. */
export async function readSurroundings(
  { db, signal, limits }: CallContext,
  messages: readonly MessageRow[],
  { before, after }: { before: number; after: number },
): Promise<Surroundings[]> {
  const around = messages.map((): Surroundings => ({ before: [], after: [] }));
  if (before + after === 0 || messages.length === 0) return around;
  const ids = messages.map((row) => row.conversation_id);
  const seqs = messages.map(({ seq }) => seq);
  const put = (row: MessageRow, place: number) => {
    const sides = around[place];
    const isBefore = row.seq < (seqs[place] ?? 0n);
    (isBefore ? sides?.before : sides?.after)?.push(toAgentMessage(row));
  };
  let bytes = limits.searchContextBytes;
  if (db.shards) {
    for (const [place, id] of ids.entries()) {
      if (bytes <= 0) break;
      const values = [id, seqs[place], before, after, bytes];
      for (const row of await db.query(readAroundOne, values, signal)) {
        put(row, place);
        bytes -= Number(row.bytes);
      }
    }
    return around;
  }
  const values = [ids, seqs, before, after, bytes];
  for (const row of await db.query(readAround, values, signal)) put(row, Number(row.place) - 1);
  return around;
}
