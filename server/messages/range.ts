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

/**
 * Returns the highest seq given in a session of the caller's.
 *
 * @throws SESSION_NOT_FOUND
 */
export async function lastSeqOf(context: CallContext, conversationId: bigint): Promise<bigint> {
  const values = [conversationId, context.principal.tenant];
  const [session] = await context.db.query(sql.getLastSeq, values, context.signal);
  if (!session) throw sessionNotFound(conversationId);
  return session.last_seq;
}

/** The range that a request covers in a session whose last seq is this. */
export function rangeOf(request: RangeRequest, lastSeq: bigint): SeqRange {
  const { afterSeq, beforeSeq, lastN } = request;
  const end = lastSeq + 1n;
  const before = beforeSeq > 0n && beforeSeq < end ? beforeSeq : end;
  // Seqs have no gaps, so counting messages is counting seqs.
  const after = lastN > 0n && before - lastN - 1n > afterSeq ? before - lastN - 1n : afterSeq;
  return { after, before };
}

/** Leaves out so many messages at the end of the range that is read first. */
export function skip(range: SeqRange, count: bigint, order: MessageOrder): SeqRange {
  return order === MessageOrder.NEWEST_FIRST
    ? { ...range, before: range.before - count }
    : { ...range, after: range.after + count };
}

/** Is there anything in the range? */
export function isEmpty({ after, before }: SeqRange): boolean {
  return before - after <= 1n;
}
