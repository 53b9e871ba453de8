// A plain model of what a read of a session returns, to hold the server against.
import fc from "fast-check";
import { MessageOrder } from "../../gen/agentstore/v1/messages.js";

/** What a read may ask for. */
export interface Reading {
  afterSeq: bigint;
  beforeSeq: bigint;
  lastN: bigint;
  order: MessageOrder;
  offset: bigint;
}

/**
 * The seqs that a read of a session of so many messages returns, in their order.
 *
 * @param hidden those that are deleted and not asked for
 */
export function expectedSeqs(
  count: number,
  { afterSeq, beforeSeq, lastN, order, offset }: Reading,
  hidden: ReadonlySet<bigint> = new Set(),
): bigint[] {
  let seqs = Array.from({ length: count }, (_, index) => BigInt(index + 1));
  seqs = seqs.filter(
    (seq) => seq > afterSeq && (beforeSeq === 0n || seq < beforeSeq) && !hidden.has(seq),
  );
  if (lastN > 0n) seqs = seqs.slice(-Number(lastN));
  if (order === MessageOrder.NEWEST_FIRST) seqs.reverse();
  return seqs.slice(Number(offset));
}

/** Cuts a list into pages. */
export function inPages<T>(items: T[], size: number): T[][] {
  const pages: T[][] = [];
  for (let start = 0; start < items.length; start += size) {
    pages.push(items.slice(start, start + size));
  }
  return pages;
}

/** Reads of a session of so many messages, at, around and far beyond its ends. */
export function readings(count: number): fc.Arbitrary<Reading> {
  const position = fc.oneof(
    { weight: 2, arbitrary: fc.constant(0n) },
    { weight: 6, arbitrary: fc.bigInt(0n, BigInt(count + 2)) },
    { weight: 1, arbitrary: fc.constantFrom(1n << 31n, 1n << 53n, (1n << 63n) - 1n) },
  );
  return fc.record({
    afterSeq: position,
    beforeSeq: position,
    lastN: position,
    order: fc.constantFrom(
      MessageOrder.UNSPECIFIED,
      MessageOrder.OLDEST_FIRST,
      MessageOrder.NEWEST_FIRST,
    ),
    offset: position,
  });
}

/** Sizes of pages. */
export const pageSizes = fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(100, 1_000));

/** The order's edges, one by one, for tests without chance. */
export const wholeRange: Reading = {
  afterSeq: 0n,
  beforeSeq: 0n,
  lastN: 0n,
  order: MessageOrder.OLDEST_FIRST,
  offset: 0n,
};
