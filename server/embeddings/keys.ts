// The keys of messages, as texts and as columns.

/** Tells which message a row is about. */
export interface Key {
  conversation_id: bigint;
  seq: bigint;
}

/** A key as a text, for maps. */
export function keyOf({ conversation_id, seq }: Key): string {
  return `${conversation_id}/${seq}`;
}

/** The columns of keys, for unnest(). */
export function keysOf(rows: readonly Key[]): [bigint[], bigint[]] {
  return [rows.map((row) => row.conversation_id), rows.map((row) => row.seq)];
}

/** Sorts by key, the order in which rows are locked. */
export function compareKeys(a: Key, b: Key): number {
  return Number(a.conversation_id - b.conversation_id || a.seq - b.seq);
}
