// Reads what has happened to sessions, as encoded events.

import type { SessionEvent } from "../../gen/agentstore/v1/watch.js";
import { WatchSessionResponse } from "../../gen/agentstore/v1/watch.js";
import { limits } from "../config.js";
import type { Database } from "../db/database.js";
import { toAgentMessage } from "../messages/message.js";
import type { MessageRow } from "../messages/sql.js";
import { present } from "../present.js";
import { toAgentSession } from "../sessions/session.js";
import { getSession } from "../sessions/sql.js";
import * as sql from "./sql.js";

/** How much of a session has been told. */
export interface Place {
  revision: bigint;
  /** The last message whose first version is among it. */
  seq: bigint;
}

/** The beginning of every session. */
export const BEGINNING: Place = { revision: 0n, seq: 0n };

/** What is to be read of a session. */
export interface Wanted {
  conversationId: bigint;
  tenant: string;
  after: Place;
  /** The last revision to be read; absent: the session's. */
  upTo?: bigint;
}

/** An event as it stands in a response. */
export interface EncodedEvent {
  revision: bigint;
  /** The field `events` of a WatchSessionResponse or WatchSessionsResponse, key included. */
  bytes: Buffer;
}

/** What has happened to a session, up to a place. */
export interface EventsPage {
  events: EncodedEvent[];
  place: Place;
  /** Whether that is not all of what was wanted. */
  more: boolean;
}

/** What an event tells. */
export type EventKind = NonNullable<SessionEvent["event"]>;

/** Encodes an event. */
export function encodeEvent(
  conversationId: bigint,
  revision: bigint,
  event: EventKind,
): EncodedEvent {
  const response = WatchSessionResponse.encode({ events: [{ conversationId, revision, event }] });
  return { revision, bytes: Buffer.from(response.finish()) };
}

/** The first of some events, up to the one that passes so many bytes. */
export function firstOf(events: EncodedEvent[], bytes: number): EncodedEvent[] {
  let sum = 0;
  const end = events.findIndex((event) => {
    sum += event.bytes.length;
    return sum >= bytes;
  });
  return end < 0 ? events : events.slice(0, end + 1);
}

/**
 * Reads a page of events of each of some sessions, in one statement, and one more for each of them
 * that has changed itself.
 *
 * @returns the pages by session; those that are gone, or not the tenant's, are left out
 */
export async function readEvents(
  db: Database,
  wanted: readonly Wanted[],
  signal: AbortSignal,
): Promise<Map<bigint, EventsPage>> {
  // Together they weigh no more than one page may.
  const bytes = Math.ceil(limits.pageBytes / wanted.length);
  const rows = await readRows(db, wanted, bytes, signal);
  const found = new Map<bigint, sql.EventRow[]>();
  for (const row of rows) {
    const others = found.get(row.watched);
    if (others) others.push(row);
    else found.set(row.watched, [row]);
  }
  const pages = new Map<bigint, EventsPage>();
  await Promise.all(
    wanted.map(async (one) => {
      const rows = found.get(one.conversationId);
      const page = rows && (await pageOf(db, one, rows, bytes, signal));
      if (page) pages.set(one.conversationId, page);
    }),
  );
  return pages;
}

const MOST = 2n ** 63n - 1n;

async function readRows(
  db: Database,
  wanted: readonly Wanted[],
  bytes: number,
  signal: AbortSignal,
): Promise<sql.EventRow[]> {
  const most = [limits.watchPageEvents, bytes];
  const rows = wanted.map(({ conversationId, tenant, after, upTo = MOST }) => [
    conversationId,
    tenant,
    after.revision,
    after.seq,
    upTo,
  ]);
  if (db.shards) {
    const each = rows.map((row) => db.query(sql.readEventsOfOne, [...row, ...most], signal));
    return (await Promise.all(each)).flat();
  }
  const columns = [0, 1, 2, 3, 4].map((column) => rows.map((row) => row[column]));
  return await db.query(sql.readEvents, [...columns, ...most], signal);
}

async function pageOf(
  db: Database,
  { conversationId, tenant, after, upTo = MOST }: Wanted,
  rows: sql.EventRow[],
  mostBytes: number,
  signal: AbortSignal,
): Promise<EventsPage | undefined> {
  const { session_revision: current, bytes_so_far: bytes } = present(rows.at(-1));
  const versions = rows.filter((row) => row.seq !== null);
  const last = versions.at(-1);
  const more =
    last !== undefined && (versions.length >= limits.watchPageEvents || Number(bytes) >= mostBytes);
  const end = more ? last.revision : current < upTo ? current : upTo;
  const events: EncodedEvent[] = [];
  let { revision, seq } = after;
  let told = false;
  // Revisions that no message has are changes of the session. It is told as it is now, which tells of
  // all of them, but before what comes after the first one: a watcher may be cut off there.
  const tellSession = async (upToRevision: bigint) => {
    if (told || upToRevision <= revision) return true;
    const [row] = await db.query(getSession, [conversationId, tenant], signal);
    if (!row) return false;
    const event = { $case: "sessionChanged", value: toAgentSession(row) } as const;
    events.push(encodeEvent(conversationId, upToRevision, event));
    told = true;
    return true;
  };
  for (const version of versions) {
    if (!(await tellSession(version.revision - 1n))) return undefined;
    events.push(encodeEvent(conversationId, version.revision, eventOf(version)));
    ({ revision } = version);
    if (version.version === 1n) ({ seq } = version);
  }
  if (!(await tellSession(end))) return undefined;
  return { events, place: { revision: end > after.revision ? end : after.revision, seq }, more };
}

function eventOf(version: MessageRow): EventKind {
  const value = toAgentMessage(version);
  if (version.deleted_at) return { $case: "messageDeleted", value };
  if (version.version === 1n) return { $case: "messageAppended", value };
  return { $case: "messageUpdated", value };
}

/**
 * Finds where a watcher stands that knows a session up to a revision.
 *
 * @returns undefined when the session is not there; the revision may be one that it has not come to
 */
export async function findPlace(
  db: Database,
  conversationId: bigint,
  tenant: string,
  revision: bigint | undefined,
  signal: AbortSignal,
): Promise<{ place: Place; head: Place } | undefined> {
  const [row] = await db.query(sql.findHead, [conversationId, tenant], signal);
  if (!row) return undefined;
  const head = { revision: row.revision, seq: row.last_seq };
  if (revision === undefined || revision >= head.revision) return { place: head, head };
  if (revision === 0n) return { place: BEGINNING, head };
  const [found] = await db.query(sql.findSeq, [conversationId, revision], signal);
  return found && { place: { revision, seq: found.seq }, head };
}
