// The first page of a read: asked for together with where the session stands, as what a caller waits
// for most is Postgres being asked a second time.
import { MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { int8Parameter } from "../db/array-parameter.js";
import { BinaryRow } from "../db/binary-row.js";
import type { Step } from "../db/database.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import {
  isEmpty,
  type RangeRequest,
  rangeOf,
  type SeqRange,
  type Standing,
  toStanding,
} from "./range.js";
import { behind, type Pages, PagesRead, readPages } from "./read-pages.js";
import * as sql from "./sql.js";
import type { MessagePage } from "./wire/message-page.js";

const BEHIND_ALL = 2n ** 63n - 1n;

/** Where a read begins. */
export interface Beginning {
  /** How many messages to leave out at the end that is read first. */
  offset?: bigint;
  /** The range that is left, where that is known from the page before. */
  left?: SeqRange | undefined;
}

/**
 * Reads the first page of what a request covers. It is read of the range that the request most likely
 * means; where the session's standing then says another one, it is read again.
 *
 * @returns the page, none where there is nothing to read, and the range behind it
 * @throws SESSION_NOT_FOUND
 */
export async function readFirstPage(
  context: CallContext,
  request: RangeRequest,
  { offset = 0n, left }: Beginning = {},
): Promise<Pages> {
  const { conversationId } = request;
  const read = new PagesRead(request, context.limits);
  const guess = offset > 0n ? undefined : guessed(context, request, read, left);
  let standing: Standing | undefined;
  const standingStep: Step = {
    statement: sql.getLastSeq,
    values: [int8Parameter(conversationId), Buffer.from(context.principal.tenant)],
    onRow(bytes, start) {
      const row = new BinaryRow(bytes, start);
      standing = toStanding(row.int8(), row.int8());
    },
  };
  const steps = guess ? [standingStep, guess] : [standingStep];
  await context.db.readTogether(steps, context.signal);
  if (!standing) throw sessionNotFound(conversationId);
  const range = left ?? (await rangeOf(context, request, standing, offset));
  if (isEmpty(range)) return { pages: [], rest: range };
  const [page] = read.pages;
  if (page && isBeginning(page, range, request, left !== undefined)) {
    return { pages: [page], rest: behind(range, page.lastSeq, read.newestFirst) };
  }
  return await readPages(context, request, range, 1);
}

function guessed(
  { db }: CallContext,
  { afterSeq, beforeSeq, lastN }: RangeRequest,
  read: PagesRead,
  left: SeqRange | undefined,
): Step | undefined {
  if (left) return read.of(left, read.pageSize);
  const range = { after: afterSeq, before: beforeSeq || BEHIND_ALL };
  if (lastN === 0n) return read.of(range, read.pageSize);
  if (read.newestFirst) {
    return read.of(range, lastN < read.pageSize ? Number(lastN) : read.pageSize);
  }
  // A sub-select of another table is more than Citus was tried with.
  return beforeSeq > 0n || db.shards ? undefined : read.ofLast(range, lastN);
}

// What is appended or deleted between the two statements makes a page of another range.
function isBeginning(
  { firstSeq, lastSeq }: MessagePage,
  { after, before }: SeqRange,
  { lastN, order }: RangeRequest,
  isKnown: boolean,
): boolean {
  if (order === MessageOrder.NEWEST_FIRST) return firstSeq < before && lastSeq > after;
  return lastSeq < before && (isKnown || lastN === 0n || firstSeq === after + 1n);
}
