// Writes one session of an export, a page of its messages at a time.
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import type { LongTransaction } from "../db/database.js";
import { toMessageVersion } from "../messages/list-message-versions.js";
import type { VersionRow } from "../messages/versions/sql.js";
import type { CallContext } from "../rpc/call.js";
import { findSession } from "../sessions/find-session.js";
import { readState } from "../state/state.js";
import type { Counts, ExportedMessage, Format } from "./formats/format.js";
import * as sql from "./sql.js";

/**
 * Writes a session.
 *
 * @param first whether it is the first one of the export
 * @param counts are raised as it goes
 */
export async function* exportSession(
  id: bigint,
  format: Format,
  first: boolean,
  snapshot: LongTransaction,
  context: CallContext,
  counts: Counts,
): AsyncGenerator<string, void, undefined> {
  const { principal, limits } = context;
  const statement = format.whole ? sql.exportAll : sql.exportShown;
  const page = (after: bigint) =>
    snapshot.query(statement, [id, after, limits.pageSizeMost, limits.pageBytes]);
  const [session, firstRows] = await Promise.all([
    findSession(snapshot, principal.tenant, id),
    page(0n),
  ]);
  // In a snapshot it cannot have gone.
  if (!session) throw new Error("a session of the snapshot is not there");
  yield format.beginSession(session, first);
  let hasVersions = false;
  for (let rows = firstRows; rows.length > 0; ) {
    const last = rows.at(-1);
    for (const row of rows) {
      hasVersions ||= row.version > 1n;
      yield format.message(exported(row), session, counts.messages === 0);
      counts.messages++;
    }
    rows = last && last.seq < session.lastSeq ? await page(last.seq) : [];
  }
  if (format.whole) {
    if (hasVersions) yield* versions(id, format.whole, snapshot, context, counts);
    yield* stateAndSnapshots(session, format.whole, snapshot, counts);
  }
  yield format.endSession(session, counts);
}

async function* versions(
  id: bigint,
  format: NonNullable<Format["whole"]>,
  snapshot: LongTransaction,
  { limits }: CallContext,
  counts: Counts,
): AsyncGenerator<string, void, undefined> {
  for (let after = { seq: 0n, version: 0n }; ; ) {
    const values = [id, after.seq, limits.pageSizeMost, limits.pageBytes, after.version];
    const rows = await snapshot.query(sql.exportVersions, values);
    for (const row of rows) {
      yield format.version(exported(row));
      counts.versions++;
    }
    const last = rows.at(-1);
    if (!last) return;
    after = last;
  }
}

async function* stateAndSnapshots(
  { id }: AgentSession,
  format: NonNullable<Format["whole"]>,
  snapshot: LongTransaction,
  counts: Counts,
): AsyncGenerator<string, void, undefined> {
  const next = (revision: bigint, snapshotId: bigint) =>
    snapshot.query(sql.exportSnapshot, [id, revision, snapshotId]);
  const [state, firstRows] = await Promise.all([readState(snapshot, id), next(0n, 0n)]);
  if (state) yield format.state({ conversationId: id, ...state });
  for (let [row] = firstRows; row; [row] = await next(row.revision, row.id)) {
    yield format.snapshot({
      id: row.id,
      conversationId: id,
      name: row.name,
      byPolicy: row.by_policy,
      revision: row.revision,
      lastSeq: row.last_seq,
      messageCount: row.message_count,
      state: row.state ?? undefined,
      createdBy: row.created_by,
      createdAt: row.created_at,
    });
    counts.snapshots++;
  }
}

function exported(row: VersionRow): ExportedMessage {
  return { version: toMessageVersion(row), timed: row.ts_ms !== null };
}
