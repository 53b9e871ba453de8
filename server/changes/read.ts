// Reads the change log from a position on, in pages.
//
// What is new since a position is what is visible now and was not then. So a transaction that commits
// late is never passed over, and never waited for. Changes of one session come in the order of their
// revisions from page to page; within a page, their revisions say the order.
import pg from "pg";
import { BinaryRow } from "../db/binary-row.js";
import type { Queries } from "../db/database.js";
import { advance, firstUnseen, isReached, upTo } from "./position.js";
import type { ChangeRow, LogRow } from "./sql.js";
import * as sql from "./sql.js";

/** What has happened since a position. */
export interface ChangesPage {
  changes: ChangeRow[];
  /** The position of who has seen these; the old one as long as there is nothing new. */
  position: string;
  /** Whether there is more already. */
  more: boolean;
  /**
   * Whether nothing can be missing: false where changes since the position may have been removed.
   * Does not concern registered readers, whose changes are kept.
   */
  complete: boolean;
}

/** Where a reader begins that wants to see what happens from now on. */
export async function endOfChanges(queries: Pick<Queries, "query">): Promise<string> {
  const [log] = await queries.query(sql.findEnd, []);
  if (!log) throw new Error(NO_LOG);
  const behind = (log.last_xid ?? 0n) + 1n;
  return upTo(log.snapshot, behind > log.kept_from ? behind : log.kept_from);
}

/**
 * Reads what has happened since a position, in one statement.
 *
 * @param most about how many changes; those of one transaction are never parted
 * @param until a position of another reader, which this one gets to and not beyond
 * @returns undefined when the position is not one of this database: it has been restored from a dump
 *   or from an earlier point since
 */
export async function readChanges(
  queries: Queries,
  position: string,
  most: number,
  until?: string,
): Promise<ChangesPage | undefined> {
  const changes: ChangeRow[] = [];
  let log = undefined as LogRow | undefined;
  const onRow = (bytes: Buffer, start: number) => {
    const row = new BinaryRow(bytes, start);
    const change = readChange(row);
    if (change) changes.push(change);
    // The same in each row.
    log ??= { snapshot: row.text(), kept_from: row.int8() };
  };
  await (until === undefined
    ? queries.queryRows(sql.readChanges, [position, most], onRow)
    : queries.queryRows(sql.readChangesUntil, [position, most, until], onRow));
  if (!log) throw new Error(NO_LOG);
  if (!isReached(position, log.snapshot)) return undefined;
  const more = changes.length >= most;
  const seen = until ?? log.snapshot;
  if (more) await completeSessions(queries, changes, seen);
  const end = (changes.at(-1)?.xid ?? 0n) + 1n;
  return {
    changes,
    position: until && !more ? until : advance(position, seen, end),
    more,
    complete: firstUnseen(position) >= log.kept_from,
  };
}

// The columns of CHANGE, in their order; undefined where there is none.
function readChange(row: BinaryRow): ChangeRow | undefined {
  const xid = row.int8OrNull();
  if (xid === null) {
    for (let column = 1; column < CHANGE_COLUMNS; column++) row.int8OrNull();
    return undefined;
  }
  return {
    xid,
    conversation_id: row.int8(),
    tenant_id: row.text(),
    first_revision: row.int8(),
    last_revision: row.int8(),
    first_seq: row.int8OrNull(),
    last_seq: row.int8OrNull(),
    removed: row.bool(),
    reached: row.int8(),
  };
}

// A transaction may have a lower number than one that changed a session before it. Where the end of a
// page parts the two, the page goes on to that one.
async function completeSessions(
  queries: Pick<Queries, "query">,
  changes: ChangeRow[],
  seen: string,
): Promise<void> {
  for (;;) {
    const end = changes.at(-1)?.xid ?? 0n;
    const last = new Map<bigint, bigint>();
    let reached = 0n;
    for (const change of changes) {
      const { conversation_id: id, first_revision: revision } = change;
      if (revision > (last.get(id) ?? 0n)) last.set(id, revision);
      if (change.reached > reached) reached = change.reached;
    }
    const behind = await queries.query(sql.readBetween, [end, reached, seen]);
    const before = behind.findLast(
      ({ conversation_id: id, first_revision: revision }) => revision < (last.get(id) ?? 0n),
    );
    if (!before) return;
    changes.push(...behind.filter(({ xid }) => xid <= before.xid));
  }
}

/** What tells this cluster of Postgres from others; empty where the role may not know it. */
export async function clusterOf(queries: Pick<Queries, "query">): Promise<string> {
  try {
    const [cluster] = await queries.query(sql.findCluster, []);
    return cluster?.id ?? "";
  } catch (error) {
    const cause = error instanceof Error && error.cause ? error.cause : error;
    if (cause instanceof pg.DatabaseError && cause.code === INSUFFICIENT_PRIVILEGE) return "";
    throw error;
  }
}

/**
 * Of some sessions, the first revision that a reader at a position has not seen; those of which it has
 * seen all are left out.
 */
export async function findUnseen(
  queries: Pick<Queries, "query">,
  conversationIds: bigint[],
  position: string,
): Promise<Map<bigint, bigint>> {
  const rows = await queries.query(sql.findUnseen, [conversationIds, position]);
  return new Map(rows.map((row) => [row.conversation_id, row.first_revision]));
}

/**
 * Whether the sessions show what the log says of them. On Citus, what a transaction has done on several
 * nodes is there a moment after the log's row; a reader that goes on meanwhile would never look again.
 */
export async function areShown(
  queries: Pick<Queries, "query">,
  changes: readonly ChangeRow[],
): Promise<boolean> {
  const ids = changes.map((change) => change.conversation_id);
  const revisions = changes.map((change) => change.last_revision);
  return (await queries.query(sql.findBehind, [ids, revisions])).length === 0;
}

/** Registers a reader by name, unless it is; from then on it misses nothing. */
export async function registerReader(queries: Queries, name: string, now: Date): Promise<void> {
  await queries.query(sql.insertReader, [name, await endOfChanges(queries), now]);
}

/**
 * Takes a registered reader's turn, until the end of the transaction.
 *
 * @returns its position; undefined when another process has the turn, or it is not registered
 */
export async function lockReader(queries: Queries, name: string): Promise<string | undefined> {
  const [reader] = await queries.query(sql.lockReader, [name]);
  return reader?.position;
}

/** Says how far a reader has come whose turn the transaction has. */
export async function moveReader(
  queries: Queries,
  name: string,
  position: string,
  now: Date,
): Promise<void> {
  await queries.query(sql.moveReader, [name, position, now]);
}

const INSUFFICIENT_PRIVILEGE = "42501";
const CHANGE_COLUMNS = 9;
const NO_LOG = "the table change_log has lost its row";
