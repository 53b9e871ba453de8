// Places in texts, which callers count in Unicode code points and JavaScript in UTF-16 units.
import { countCharacters } from "../rpc/field-checks.js";

/** A stretch of a text, in code points. */
export interface Span {
  offset: number;
  length: number;
}

/** A stretch of a text, in UTF-16 units. */
export interface UnitRange {
  start: number;
  end: number;
}

/** The code points of a text from one on and before another one. */
export function codePointsBetween(text: string, from: number, to: number): string[] {
  let start = 0;
  for (let left = from; left > 0 && start < text.length; left--) start += sizeAt(text, start);
  // No code point takes more than two units.
  return Array.from(text.slice(start, start + 2 * (to - from))).slice(0, to - from);
}

function sizeAt(text: string, unit: number): number {
  return (text.codePointAt(unit) ?? 0) > 0xffff ? 2 : 1;
}

/** Counts in code points what is given in units, in the order of the text. */
export function toSpans(text: string, ranges: readonly UnitRange[]): Span[] {
  let unit = 0;
  let offset = 0;
  return ranges.map(({ start, end }) => {
    offset += countCharacters(text.slice(unit, start));
    unit = start;
    return { offset, length: countCharacters(text.slice(start, end)) };
  });
}
