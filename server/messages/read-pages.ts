// Reads the messages of a range in pages that are encoded already.
import { MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { int8Parameter } from "../db/array-parameter.js";
import type { Step } from "../db/database.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import { type RangeRequest, type SeqRange, standingOf } from "./range.js";
import * as sql from "./sql.js";
import { MessagePage } from "./wire/message-page.js";

/** The first pages of a range. */
export interface Pages {
  /** None is empty; none at all where all that is left of the range has just been deleted. */
  pages: MessagePage[];
  /** The range behind them. */
  rest: SeqRange;
}

/**
 * Reads the first pages of a range that is not empty, in one statement. All but
 * the range's last page are full, or about as large as a page may be.
 *
 * @param count how many pages at the most; together they have no more bytes than
 *   one may have
 * @throws SESSION_NOT_FOUND when the session was deleted since its last seq was read
 */
export async function readPages(
  context: CallContext,
  request: Pick<RangeRequest, "conversationId" | "pageSize" | "order" | "showDeleted">,
  range: SeqRange,
  count: number,
): Promise<Pages> {
  const { db, limits, signal } = context;
  const { conversationId, order, showDeleted } = request;
  const pageSize = request.pageSize || limits.pageSizeDefault;
  const newestFirst = order === MessageOrder.NEWEST_FIRST;
  const pages: MessagePage[] = [];
  let page: MessagePage | undefined;
  const values = [
    conversationId,
    range.after,
    range.before,
    BigInt(pageSize * count),
    BigInt(limits.pageBytes),
  ];
  const read: Step = {
    statement: statementOf(newestFirst, showDeleted),
    values: values.map(int8Parameter),
    onRow(row, start, end) {
      if (!page || page.count === pageSize) {
        page = new MessagePage();
        pages.push(page);
      }
      page.add(row, start, end);
    },
  };
  await db.readTogether([read], signal);
  if (pages.length === 0) {
    await standingOf(context, conversationId);
    return { pages, rest: { after: range.after, before: range.after } };
  }
  let rest = behind(range, present(pages.at(-1)).lastSeq, newestFirst);
  // A page that only the size of those before it cut short is read again, in full.
  if (pages.length > 1 && present(page).count < pageSize && rest.before - rest.after > 1n) {
    pages.pop();
    rest = behind(range, present(pages.at(-1)).lastSeq, newestFirst);
  }
  return { pages, rest };
}

function statementOf(newestFirst: boolean, showDeleted: boolean) {
  if (showDeleted) return newestFirst ? sql.pageNewestFirstOfAll : sql.pageOldestFirstOfAll;
  return newestFirst ? sql.pageNewestFirst : sql.pageOldestFirst;
}

function behind(range: SeqRange, seq: bigint, newestFirst: boolean): SeqRange {
  return newestFirst ? { ...range, before: seq } : { ...range, after: seq };
}
