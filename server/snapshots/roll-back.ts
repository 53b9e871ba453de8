// Makes a session what it was at a snapshot, and keeps what is undone in the history.
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { recordChange } from "../changes/record.js";
import type { Queries } from "../db/database.js";
import { forgetChanged } from "../embeddings/forget.js";
import { countChanges } from "../messages/versions/sql.js";
import { present } from "../present.js";
import { toAgentSession } from "../sessions/session.js";
import { getSession } from "../sessions/sql.js";
import { deleteState, putStates, readState } from "../state/state.js";
import type { SessionRow } from "./sql.js";
import * as sql from "./sql.js";

/**
 * Rolls a session back whose row the transaction has locked. Each message that changes raises the
 * session's revision by one, and so does the state; where nothing is to be undone, nothing changes.
 *
 * @param to the snapshot
 * @param by the principal's name
 * @returns the session after it
 */
export async function rollBack(
  queries: Queries,
  session: SessionRow,
  to: { revision: bigint; last_seq: bigint; state: string | null },
  by: string,
  now: Date,
): Promise<AgentSession> {
  const { id } = session;
  const before = session.revision;
  const point = [id, to.revision, to.last_seq];
  const [state, , , [last]] = await Promise.all([
    readState(queries, id),
    queries.query(sql.keepUndone, point),
    queries.query(sql.undo, [...point, before, by, now]),
    queries.query(sql.lastRevision, [id, before]),
  ]);
  let { revision } = present(last);
  const { first_seq: firstSeq, last_seq: lastSeq } = present(last);
  if ((state?.state ?? null) !== to.state) {
    revision++;
    await writeState(queries, id, to.state, revision, now);
  }
  if (revision > before) {
    await Promise.all([
      queries.query(countChanges, [id, 1n, session.last_seq, before, revision, now]),
      forgetChanged(queries, {
        conversationId: id,
        firstSeq: 1n,
        lastSeq: session.last_seq,
        revision: before,
      }),
      recordChange(
        queries,
        {
          conversationId: id,
          tenant: session.tenant_id,
          firstRevision: before + 1n,
          lastRevision: revision,
          firstSeq: firstSeq ?? undefined,
          lastSeq: lastSeq ?? undefined,
        },
        now,
      ),
    ]);
  }
  const [row] = await queries.query(getSession, [id, session.tenant_id]);
  return toAgentSession(present(row));
}

async function writeState(
  queries: Queries,
  conversationId: bigint,
  state: string | null,
  revision: bigint,
  now: Date,
): Promise<void> {
  if (state === null) await deleteState(queries, conversationId);
  else await putStates(queries, [{ conversationId, state, revision }], now);
}
