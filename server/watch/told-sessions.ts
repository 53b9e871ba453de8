// What a page of changes says of each session.
import type { ChangeRow } from "../changes/sql.js";

/** What a page of changes says of a session. */
export interface ToldSession {
  id: bigint;
  /** The revisions that the changes gave it; none where it was only removed. */
  first: bigint;
  last: bigint;
  /** In how many changes. */
  changes: number;
  /** The first message that was changed; absent when none was. */
  firstSeq: bigint | undefined;
  /** The revision that its removal took. */
  removedAt: bigint | undefined;
}

/** Joins the changes of each of a tenant's sessions, by their ids. */
export function sessionsOf(changes: ChangeRow[], tenant: string): ToldSession[] {
  const sessions = new Map<bigint, ToldSession>();
  for (const change of changes) {
    if (change.tenant_id !== tenant) continue;
    const { conversation_id: id, first_revision: first, last_revision: last, removed } = change;
    const firstSeq = change.first_seq ?? undefined;
    const known = sessions.get(id);
    const told = known ?? { id, first, last, changes: 0, firstSeq, removedAt: undefined };
    sessions.set(id, told);
    told.changes++;
    if (removed) {
      told.removedAt = last;
      continue;
    }
    if (first < told.first) told.first = first;
    if (last > told.last) told.last = last;
    if (firstSeq !== undefined && (told.firstSeq === undefined || firstSeq < told.firstSeq)) {
      told.firstSeq = firstSeq;
    }
  }
  return [...sessions.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}
