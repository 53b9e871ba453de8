// Ranges of seqs: what a read covers.
import { MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { CallContext, Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import * as sql from "./sql.js";

/** The messages between two seqs, both excluded. */
export interface SeqRange {
  after: bigint;
  before: bigint;
}

/** The fields of a request that say which messages to read. */
export interface RangeRequest {
  conversationId: bigint;
  pageSize: number;
  afterSeq: bigint;
  beforeSeq: bigint;
  order: MessageOrder;
  lastN: bigint;
  showDeleted: boolean;
}

/** Adds what is wrong with a read to the checks. */
export function checkRange(request: RangeRequest, check: FieldChecks, limits: Limits): void {
  check.positive("conversation_id", request.conversationId);
  check.within("page_size", request.pageSize, 0, limits.pageSizeMost);
  check.notNegative("after_seq", request.afterSeq);
  check.notNegative("before_seq", request.beforeSeq);
  check.enumValue("order", request.order, MessageOrder, { zero: true });
  check.notNegative("last_n", request.lastN);
}

/** How far a session reaches. */
export interface Standing {
  /** The highest seq given in it. */
  lastSeq: bigint;
  /** How many messages it has that are not deleted. */
  shown: bigint;
  /** Whether any of its messages is deleted. */
  hasDeleted: boolean;
}

/**
 * Returns where a session of the caller's stands.
 *
 * @throws SESSION_NOT_FOUND
 */
export async function standingOf(context: CallContext, conversationId: bigint): Promise<Standing> {
  const values = [conversationId, context.principal.tenant];
  const [session] = await context.db.query(sql.getLastSeq, values, context.signal);
  if (!session) throw sessionNotFound(conversationId);
  return toStanding(session.last_seq, session.message_count);
}

/** The standing of a session whose row has been read. */
export function toStanding(lastSeq: bigint, shown: bigint): Standing {
  return { lastSeq, shown, hasDeleted: shown < lastSeq };
}

/**
 * The range that a request covers. Where it is not empty, the message that is read last is one that
 * is shown, so that no page is promised that would be empty.
 *
 * @param offset how many messages to leave out at the end that is read first
 */
export async function rangeOf(
  context: CallContext,
  request: RangeRequest,
  { lastSeq, hasDeleted }: Standing,
  offset = 0n,
): Promise<SeqRange> {
  const { afterSeq, beforeSeq, lastN, order } = request;
  const end = lastSeq + 1n;
  const range = { after: afterSeq, before: beforeSeq > 0n && beforeSeq < end ? beforeSeq : end };
  const newestFirst = order === MessageOrder.NEWEST_FIRST;
  if (!hasDeleted || request.showDeleted) {
    // Seqs have no gaps, so counting messages is counting seqs.
    const newest = lastN > 0n ? keepNewest(range, lastN) : range;
    return newestFirst ? dropNewest(newest, offset) : dropOldest(newest, offset);
  }
  const at = (found: SeqRange) => [request.conversationId, found.after, found.before];
  const among = async (statement: typeof sql.deletedAmongNewest, found: SeqRange, count: bigint) =>
    (await context.db.query(statement, [...at(found), count], context.signal))[0]?.deleted ?? 0n;
  let shown: SeqRange = range;
  if (lastN > 0n && !isEmpty(shown)) {
    shown = keepNewest(shown, lastN + (await among(sql.deletedAmongNewest, shown, lastN)));
  }
  if (offset > 0n && !isEmpty(shown)) {
    shown = newestFirst
      ? dropNewest(shown, offset + (await among(sql.deletedAmongNewest, shown, offset)))
      : dropOldest(shown, offset + (await among(sql.deletedAmongOldest, shown, offset)));
  }
  if (isEmpty(shown)) return shown;
  const edge = newestFirst ? sql.oldestShown : sql.newestShown;
  const [last] = await context.db.query(edge, at(shown), context.signal);
  if (!last) return { after: shown.after, before: shown.after };
  return newestFirst ? { ...shown, after: last.seq - 1n } : { ...shown, before: last.seq + 1n };
}

function keepNewest(range: SeqRange, count: bigint): SeqRange {
  const after = range.before - count - 1n;
  return after > range.after ? { ...range, after } : range;
}

function dropNewest(range: SeqRange, count: bigint): SeqRange {
  return { ...range, before: range.before - count };
}

function dropOldest(range: SeqRange, count: bigint): SeqRange {
  return { ...range, after: range.after + count };
}

/** Is there anything in the range? */
export function isEmpty({ after, before }: SeqRange): boolean {
  return before - after <= 1n;
}
