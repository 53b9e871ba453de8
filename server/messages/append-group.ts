// Writes a group of appends in one transaction and one commit: in one round trip where the server
// knows how its sessions stand, in two where it has to ask.
import pg from "pg";
import { recordAll } from "../audit/record.js";
import { int8Column, int8Parameter } from "../db/array-parameter.js";
import { BinaryRow } from "../db/binary-row.js";
import { type Database, planOnce, type Queries, type Statement } from "../db/database.js";
import { putGiven } from "../embeddings/given.js";
import { databaseUnavailable, RpcError } from "../errors/rpc-error.js";
import { findAnswers, findAnswersInShard } from "../idempotency/requests.js";
import { present } from "../present.js";
import { findStateRevisions, putStates } from "../state/state.js";
import type { Append } from "./append.js";
import { type Outcome, type Plan, planAppends } from "./append-plan.js";
import { checkHeads, writePlan, writePlanToShards } from "./append-steps.js";
import type { SessionHeads } from "./session-heads.js";
import type { LockedSessionRow } from "./sql.js";
import * as sql from "./sql.js";

/**
 * Appends each of a group by itself: one that is refused does not touch its
 * neighbours.
 *
 * @param heads how sessions stood; learns how they stand
 * @param appends any number for any sessions; those to one session in their order
 * @param lock sql.lockSessions, or sql.awaitSession for a single session
 * @returns what was planned, when all of it is committed
 * @throws RpcError or Error when nothing of the group was written, or, as
 *   DATABASE_UNAVAILABLE, when that is not known
 */
export async function appendGroup(
  db: Database,
  heads: SessionHeads,
  appends: Append[],
  lock: Statement<LockedSessionRow>,
  signal: AbortSignal,
): Promise<Plan> {
  const ids = [...new Set(appends.map(({ conversationId }) => conversationId))];
  const mayGuess = db.takesSteps && lock === sql.lockSessions && appends.every(isPlain);
  const guessed = mayGuess ? heads.guess(ids) : undefined;
  const guess = guessed && planGuess(appends, guessed);
  const plan =
    (guess && (await tryGuess(db, heads, ids, guess, signal))) ??
    (await appendLocked(db, appends, ids, lock, signal));
  heads.learn(plan.heads);
  return plan;
}

// Nothing but messages and their answers is to be written.
function isPlain({ state, audit, messages }: Append): boolean {
  if (state !== undefined || audit !== undefined) return false;
  return messages.every(({ embedding }) => embedding === undefined);
}

// Only what is written is checked on the way, so nothing may be refused or replayed by a guess.
function planGuess(appends: Append[], guessed: LockedSessionRow[]): GuessedPlan | undefined {
  const nowMs = Date.now();
  const plan = planAppends(appends, guessed, [], new Map(), BigInt(nowMs));
  const isWritten = ({ kind }: Outcome) => kind === "appended" || kind === "same";
  return plan.outcomes.every(isWritten) ? { ...plan, guessed, nowMs } : undefined;
}

interface GuessedPlan extends Plan {
  guessed: LockedSessionRow[];
  nowMs: number;
}

// Returns undefined, with nothing written, where the guess was wrong.
async function tryGuess(
  db: Database,
  heads: SessionHeads,
  ids: bigint[],
  plan: GuessedPlan,
  signal: AbortSignal,
): Promise<Plan | undefined> {
  try {
    const steps = [planOnce, checkHeads(plan.guessed), ...writePlan(plan, plan.nowMs)];
    await db.together(steps, signal);
    heads.confirm();
    return plan;
  } catch (error) {
    heads.forget(ids);
    if (isRolledBack(error)) return undefined;
    throw unlessTold(error);
  }
}

// These may end a connection whose commit is done: connection exceptions, an operator's intervention,
// system and internal errors. Any other error of Postgres has undone the transaction.
const MAYBE_COMMITTED = /^(08|57P|58|F0|XX)/;

// What Postgres did not undo, as far as is known, must not be written again.
function unlessTold(error: unknown): unknown {
  return error instanceof RpcError || isRolledBack(error) ? error : databaseUnavailable(error);
}

function isRolledBack(error: unknown): boolean {
  const cause = error instanceof Error && error.cause ? error.cause : error;
  return cause instanceof pg.DatabaseError && !MAYBE_COMMITTED.test(cause.code ?? "XX");
}

function appendLocked(
  db: Database,
  appends: Append[],
  ids: bigint[],
  lock: Statement<LockedSessionRow>,
  signal: AbortSignal,
): Promise<Plan> {
  const isSharded = db.shards !== undefined;
  return db.transaction(async (transaction) => {
    const changesState = appends.some(({ state }) => state !== undefined);
    const [, sessions, kept, stateRevisions] = await Promise.all([
      db.takesSteps ? transaction.query(planOnce.statement, []) : undefined,
      lockSessions(transaction, ids, lock, isSharded),
      // In statements after the lock's, so that they see what the lock waited for.
      (isSharded ? findAnswersInShard : findAnswers)(transaction, appends),
      changesState ? findStateRevisions(transaction, ids) : new Map<bigint, bigint>(),
    ]);
    const nowMs = Date.now();
    const plan = planAppends(appends, sessions, kept, stateRevisions, BigInt(nowMs));
    if (plan.messages.length === 0) return plan;
    const write = () =>
      Promise.all([
        ...(isSharded ? writePlanToShards : writePlan)(plan, nowMs).map(
          ({ statement, values, onRow }) => transaction.queryRows(statement, values, onRow),
        ),
        putGiven(transaction, plan.embeddings),
        putStates(transaction, [...plan.states.values()], new Date(nowMs)),
        recordAll(
          transaction,
          appends.flatMap((append, n) => auditOf(append, plan.outcomes[n])),
        ),
      ]);
    await transaction.commitWith(write).catch((error: unknown) => {
      throw unlessTold(error);
    });
    return plan;
  }, signal);
}

function auditOf(write: Append, outcome: Outcome | undefined) {
  const { audit, conversationId, requestId, state } = write;
  if (!audit || outcome?.kind !== "appended") return [];
  const seq = outcome.messages.at(-1)?.seq;
  const fields = state ? ["state"] : [];
  return [
    { actor: audit.actor, change: { rpc: audit.rpc, conversationId, seq, fields, requestId } },
  ];
}

async function lockSessions(
  queries: Queries,
  ids: bigint[],
  lock: Statement<LockedSessionRow>,
  isSharded: boolean,
): Promise<LockedSessionRow[]> {
  const sessions: LockedSessionRow[] = [];
  const onRow = (bytes: Buffer, start: number) => {
    const row = new BinaryRow(bytes, start);
    sessions.push({
      id: row.int8(),
      tenant_id: row.text(),
      last_seq: row.int8(),
      revision: row.int8(),
      message_count: row.int8(),
      fencing_token: row.int8(),
    });
  };
  if (lock === sql.awaitSession) {
    await queries.queryRows(lock, [int8Parameter(present(ids[0]))], onRow);
  } else if (isSharded) {
    // Citus takes no FOR UPDATE over several sessions in one statement. These travel together.
    await Promise.all(
      ids.map((id) => queries.queryRows(sql.lockSession, [int8Parameter(id)], onRow)),
    );
  } else {
    await queries.queryRows(lock, [int8Column(ids, (id) => id)], onRow);
  }
  return sessions;
}
