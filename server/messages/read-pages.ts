// Reads the messages of a range in pages that are encoded already.
import { MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { int8Parameter } from "../db/array-parameter.js";
import type { Statement, Step } from "../db/database.js";
import { present } from "../present.js";
import type { CallContext, Limits } from "../rpc/call.js";
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

/** What a read of pages says, besides the range. */
export type PagesRequest = Pick<
  RangeRequest,
  "conversationId" | "pageSize" | "order" | "showDeleted"
>;

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
  request: PagesRequest,
  range: SeqRange,
  count: number,
): Promise<Pages> {
  const read = new PagesRead(request, context.limits);
  const { pageSize } = read;
  await context.db.readTogether([read.of(range, pageSize * count)], context.signal);
  const { pages, newestFirst } = read;
  if (pages.length === 0) {
    await standingOf(context, request.conversationId);
    return { pages, rest: { after: range.after, before: range.after } };
  }
  let rest = behind(range, present(pages.at(-1)).lastSeq, newestFirst);
  // A page that only the size of those before it cut short is read again, in full.
  if (pages.length > 1 && present(pages.at(-1)).count < pageSize && rest.before - rest.after > 1n) {
    pages.pop();
    rest = behind(range, present(pages.at(-1)).lastSeq, newestFirst);
  }
  return { pages, rest };
}

/** A statement that reads pages, and what it has read. */
export class PagesRead {
  readonly pages: MessagePage[] = [];
  readonly pageSize: number;
  readonly newestFirst: boolean;

  constructor(
    readonly request: PagesRequest,
    readonly limits: Limits,
  ) {
    this.pageSize = request.pageSize || limits.pageSizeDefault;
    this.newestFirst = request.order === MessageOrder.NEWEST_FIRST;
  }

  /** The read of a range, with so many messages at the most. */
  of(range: SeqRange, most: number): Step {
    const { showDeleted } = this.request;
    const [oldestFirst, newestFirst] = showDeleted
      ? [sql.pageOldestFirstOfAll, sql.pageNewestFirstOfAll]
      : [sql.pageOldestFirst, sql.pageNewestFirst];
    return this.#step(this.newestFirst ? newestFirst : oldestFirst, range, most);
  }

  /** The read of what a range has of a session's last seqs, oldest first. */
  ofLast(range: SeqRange, seqs: bigint): Step {
    const statement = this.request.showDeleted ? sql.pageOfLastOfAll : sql.pageOfLast;
    return this.#step(statement, range, this.pageSize, seqs);
  }

  #step(statement: Statement<never>, range: SeqRange, most: number, ...more: bigint[]): Step {
    const { conversationId } = this.request;
    const values = [conversationId, range.after, range.before, BigInt(most)];
    let page: MessagePage | undefined;
    return {
      statement,
      values: [...values, BigInt(this.limits.pageBytes), ...more].map(int8Parameter),
      onRow: (row, start, end) => {
        if (!page || page.count === this.pageSize) {
          page = new MessagePage();
          this.pages.push(page);
        }
        page.add(row, start, end);
      },
    };
  }
}

/** What is left of a range behind a seq. */
export function behind(range: SeqRange, seq: bigint, newestFirst: boolean): SeqRange {
  return newestFirst ? { ...range, before: seq } : { ...range, after: seq };
}
