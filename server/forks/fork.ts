// Makes a session that begins as another one was at a point of its life.
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { recordChange } from "../changes/record.js";
import type { Queries } from "../db/database.js";
import { copyToFork } from "../embeddings/sql.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { countChanges } from "../messages/versions/sql.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import { recordAncestry } from "../sessions/ancestry.js";
import { syncLabels } from "../sessions/labels.js";
import { toAgentSession } from "../sessions/session.js";
import { getSession } from "../sessions/sql.js";
import { putStates } from "../state/state.js";
import * as sql from "./sql.js";

/** Where a fork begins. */
export interface ForkPoint {
  /** The session that is forked. */
  conversationId: bigint;
  /** The last message that the fork has of it; 0 for none. */
  seq: bigint;
  /** The messages are as they were at this revision. */
  revision: bigint;
  /** JSON text; null for none. */
  state: string | null;
}

/**
 * Makes a fork, with its counters, labels and state, in a transaction of the caller's. It does not
 * wait for what else happens to the session, until at its end it makes sure that the session is
 * still there; from then on the session can be changed, but not removed, until the commit.
 *
 * @throws SESSION_NOT_FOUND
 */
export async function makeFork(
  queries: Queries,
  { principal, db }: Pick<CallContext, "principal" | "db">,
  point: ForkPoint,
  now: Date,
): Promise<AgentSession> {
  const { conversationId, seq, state } = point;
  const { tenant } = principal;
  const values = [conversationId, tenant, now, seq];
  const [fork] = await queries.query(sql.insertFork, values);
  if (!fork) throw sessionNotFound(conversationId);
  const { id } = fork;
  const copy = db.shards ? sql.copyMessagesOfShard : sql.copyMessages;
  const revision = seq + 1n;
  const states = state === null ? [] : [{ conversationId: id, state, revision }];
  const [, , , , , , [held], [row]] = await Promise.all([
    queries.query(copy, [conversationId, seq, point.revision, id, principal.name, now]),
    queries.query(countChanges, [id, 1n, seq, 0n, revision, now]),
    putStates(queries, states, now),
    syncLabels(queries, id),
    recordAncestry(queries, { parent: conversationId, fork: id, seq }),
    recordChange(
      queries,
      {
        conversationId: id,
        tenant,
        firstRevision: 1n,
        lastRevision: revision,
        firstSeq: 1n,
        lastSeq: seq,
      },
      now,
    ),
    queries.query(sql.holdSession, [conversationId, tenant]),
    queries.query(getSession, [id, tenant]),
    queries.query(copyToFork, [conversationId, seq, point.revision, id]),
  ]);
  if (!held) throw sessionNotFound(conversationId);
  return toAgentSession(present(row));
}
