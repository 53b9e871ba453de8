// Snippets: the part of a message that shows best why it was found, and where in it that is.
import type { SearchSnippet } from "../../gen/agentstore/v1/search.js";
import { countCharacters } from "../rpc/field-checks.js";
import { codePointsBetween, type Span, toSpans, type UnitRange } from "./code-points.js";

/**
 * Makes a snippet of a text. It is where most of what was found stands close together, begins and ends
 * between words where that is possible, and holds at least one hit whole unless that is longer itself.
 *
 * @param hits what was found in the text, ascending, none over another; may be empty
 * @param characters about how many it is to have
 */
export function makeSnippet(text: string, hits: Span[], most: number): SearchSnippet {
  const first = densest(hits, most);
  const from = hits[first]?.offset ?? 0;
  const last = lastWithin(hits, first, most);
  const end = hits[last];
  const until = end ? Math.min(end.offset + end.length, from + most) : 0;
  const spare = Math.max(0, most - (until - from));
  const total = countCharacters(text);
  let start = Math.max(0, from - Math.floor(spare / 3));
  let stop = Math.min(total, start + Math.max(most, until - start));
  start = Math.max(0, Math.min(start, stop - most));
  // Edges move inwards, and look at what stands next to them: of a long text, no more is taken apart.
  const before = Math.max(0, start - 1);
  const around = codePointsBetween(text, before, stop + 1);
  const isSpace = (at: number) => SPACE.test(around[at - before] ?? "");
  if (start > 0) start = forward(isSpace, start, from);
  if (stop < total) stop = backward(isSpace, stop, until);
  return {
    text: around.slice(start - before, stop - before).join(""),
    offset: start,
    hits: hits
      .filter(({ offset, length }) => offset < stop && offset + length > start)
      .map(({ offset, length }) => {
        const begin = Math.max(offset, start);
        return { offset: begin - start, length: Math.min(offset + length, stop) - begin };
      }),
  };
}

/** The hit from which on most others lie within so many characters. */
function densest(hits: Span[], most: number): number {
  let best = 0;
  let count = 0;
  for (let first = 0, last = 0; first < hits.length; first++) {
    last = Math.max(last, first);
    while (last + 1 < hits.length && endOf(hits[last + 1]) - (hits[first]?.offset ?? 0) <= most)
      last++;
    if (last - first + 1 > count) {
      count = last - first + 1;
      best = first;
    }
  }
  return best;
}

function lastWithin(hits: Span[], first: number, most: number): number {
  let last = first;
  while (last + 1 < hits.length && endOf(hits[last + 1]) - (hits[first]?.offset ?? 0) <= most)
    last++;
  return last;
}

function endOf(span: Span | undefined): number {
  return span ? span.offset + span.length : 0;
}

/** How far an edge may move to stand between words. */
const EDGE = 24;
const SPACE = /\s/u;

function forward(isSpace: (at: number) => boolean, start: number, limit: number): number {
  for (let at = start; at <= Math.min(start + EDGE, limit); at++) {
    if (isSpace(at - 1)) return at;
  }
  return Math.min(start, limit);
}

function backward(isSpace: (at: number) => boolean, stop: number, limit: number): number {
  for (let at = stop; at >= Math.max(stop - EDGE, limit); at--) {
    if (isSpace(at)) return at;
  }
  return Math.max(stop, limit);
}

/** Where a text stands in another one, whatever its case. */
export function findText(text: string, wanted: string): Span[] {
  const folded = fold(text);
  const needle = fold(wanted);
  const found: UnitRange[] = [];
  for (let at = folded.indexOf(needle); at >= 0; at = folded.indexOf(needle, at + needle.length)) {
    found.push({ start: at, end: at + needle.length });
  }
  return toSpans(folded, found);
}

// As Postgres does it: each character by itself, and to one character. JavaScript makes two of İ, and of Σ
// one thing or another, as it stands in its word. So all keep their size.
function fold(text: string): string {
  return text.replaceAll("İ", "i").replaceAll("Σ", "σ").toLowerCase();
}
