// Positions in the change log: which transactions a reader has seen, in the form of a pg_snapshot.
//
// A position names no transaction behind the last one that the reader has a row of: others have
// written nothing, and after a crash Postgres may give numbers again of which it kept no trace.

/** The text of a pg_snapshot: all transactions below xmax but those in xip. */
interface Snapshot {
  xmax: bigint;
  /** Ascending. */
  xip: bigint[];
}

/** Whether a text is a position. */
export function isPosition(text: string): boolean {
  if (!/^\d{1,18}:\d{1,18}:(\d{1,18}(,\d{1,18})*)?$/.test(text)) return false;
  const { xmax, xip } = parse(text);
  const numbers = [...xip, xmax];
  return firstUnseen(text) === numbers[0] && isRising([0n, ...numbers]);
}

function isRising(numbers: bigint[]): boolean {
  return numbers.every((number, index) => index === 0 || number > (numbers[index - 1] ?? number));
}

/** Whether who stands at a position has seen all that somebody at another one has. */
export function hasSeen(position: string, other: string): boolean {
  const here = parse(position);
  const there = parse(other);
  const unseen = new Set(there.xip);
  return there.xmax <= here.xmax && here.xip.every((xid) => xid >= there.xmax || unseen.has(xid));
}

/**
 * The position of a reader that has seen what `seen` says, and since then all that is visible in
 * `snapshot` up to a transaction.
 *
 * @param snapshot pg_current_snapshot() of the statement that has read
 * @param end the number behind that transaction's
 */
export function advance(seen: string, snapshot: string, end: bigint): string {
  const before = parse(seen);
  return format(end > before.xmax ? end : before.xmax, snapshot);
}

/** The position of a reader that has seen all that is visible in a snapshot, up to `end`. */
export function upTo(snapshot: string, end: bigint): string {
  return format(end, snapshot);
}

/** The lowest transaction that a reader at this position may not have seen. */
export function firstUnseen(position: string): bigint {
  return BigInt(position.slice(0, position.indexOf(":")));
}

/** Whether a position can have come from the database that has this snapshot now. */
export function isReached(position: string, snapshot: string): boolean {
  return parse(position).xmax <= parse(snapshot).xmax;
}

function format(xmax: bigint, snapshot: string): string {
  const xip = parse(snapshot).xip.filter((xid) => xid < xmax);
  return `${xip[0] ?? xmax}:${xmax}:${xip.join(",")}`;
}

function parse(text: string): Snapshot {
  const [, xmax = "", list] = text.split(":");
  return { xmax: BigInt(xmax), xip: list ? list.split(",").map(BigInt) : [] };
}
