// Stores the vectors of messages that still say what was embedded.
import type { Database, Queries } from "../db/database.js";
import { EndpointError } from "./endpoint-error.js";
import { compareKeys, type Key, keyOf, keysOf } from "./keys.js";
import type { TextRow } from "./sql.js";
import * as sql from "./sql.js";
import { vectorValues } from "./vector.js";

/** A message that was embedded as it was at a revision. */
export interface ReadMessage extends TextRow {
  tenant_id: string;
}

/**
 * Stores vectors and takes their messages off the queue. What has been changed since it was read, or
 * is being changed, stays on it. What changes a message waits for this transaction, and then finds
 * the vector that it has to remove; appends do not wait.
 *
 * @throws EndpointError when the model's vectors have had another length so far
 */
export async function storeVectors(
  db: Database,
  model: string,
  messages: ReadMessage[],
  vectors: Float32Array[],
  signal: AbortSignal,
): Promise<void> {
  const count = vectors[0]?.length ?? 0;
  const embedded = messages
    .map((message, place) => ({ ...message, vector: vectors[place] ?? new Float32Array() }))
    .sort(compareKeys);
  await db.transaction(async (transaction) => {
    const [known] = await transaction.query(sql.learnDimensions, [model, count]);
    if (known?.dimensions !== count) {
      throw new EndpointError(
        "failed",
        `its embeddings have ${count} numbers, and those that are stored ${known?.dimensions}`,
      );
    }
    const revisions = await hold(transaction, messages);
    const isHeld = (message: ReadMessage) => revisions.get(keyOf(message)) === message.revision;
    const held = embedded.filter(isHeld);
    const changed = messages.filter((message) => !isHeld(message));
    await transaction.commitWith(() =>
      Promise.all([
        ...held.map(({ conversation_id, seq, tenant_id, vector }) =>
          transaction.query(sql.putEmbedding, [
            conversation_id,
            seq,
            model,
            tenant_id,
            ...vectorValues(vector),
          ]),
        ),
        transaction.query(sql.dequeue, keysOf(held)),
        transaction.query(sql.putOff, [...keysOf(changed), new Date()]),
      ]),
    );
  }, signal);
}

// The revisions of those that could be held, session by session: a statement of one session reaches
// one shard.
async function hold(queries: Queries, messages: Key[]): Promise<Map<string, bigint>> {
  const sessions = new Map<bigint, bigint[]>();
  for (const { conversation_id, seq } of messages) {
    const seqs = sessions.get(conversation_id);
    if (seqs) seqs.push(seq);
    else sessions.set(conversation_id, [seq]);
  }
  const held = await Promise.all(
    [...sessions].map(async ([conversation_id, seqs]) => {
      const rows = await queries.query(sql.holdMessages, [conversation_id, seqs]);
      return rows.map(({ seq, revision }) => [keyOf({ conversation_id, seq }), revision] as const);
    }),
  );
  return new Map(held.flat());
}
