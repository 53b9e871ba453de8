// Snippets: the part of a message that shows best why it was found, and where in it that is.
import type { SearchSnippet } from "../../gen/agentstore/v1/search.js";

/** A stretch of a text, in Unicode code points. */
export interface Span {
  offset: number;
  length: number;
}

/**
 * Makes a snippet of a text. It is where most of what was found stands close together, begins and ends
 * between words where that is possible, and holds at least one hit whole unless that is longer itself.
 *
 * @param hits what was found in the text, ascending, none over another; may be empty
 * @param characters about how many it is to have
 */
export function makeSnippet(characters: string[], hits: Span[], most: number): SearchSnippet {
  const first = densest(hits, most);
  const from = hits[first]?.offset ?? 0;
  const last = lastWithin(hits, first, most);
  const end = hits[last];
  const until = end ? Math.min(end.offset + end.length, from + most) : 0;
  const spare = Math.max(0, most - (until - from));
  let start = Math.max(0, from - Math.floor(spare / 3));
  let stop = Math.min(characters.length, start + Math.max(most, until - start));
  start = Math.max(0, Math.min(start, stop - most));
  start = forward(characters, start, from);
  stop = backward(characters, stop, until);
  return {
    text: characters.slice(start, stop).join(""),
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

function forward(characters: string[], start: number, limit: number): number {
  if (start === 0) return 0;
  for (let at = start; at <= Math.min(start + EDGE, limit); at++) {
    if (SPACE.test(characters[at - 1] ?? "")) return at;
  }
  return Math.min(start, limit);
}

function backward(characters: string[], stop: number, limit: number): number {
  if (stop === characters.length) return stop;
  for (let at = stop; at >= Math.max(stop - EDGE, limit); at--) {
    if (SPACE.test(characters[at] ?? "")) return at;
  }
  return Math.max(stop, limit);
}

/** Where a text stands in another one, whatever its case. */
export function findText(characters: string[], text: string): Span[] {
  const folded = characters.map(fold);
  const wanted = [...text].map(fold);
  const haystack = folded.join("");
  const needle = wanted.join("");
  const spans: Span[] = [];
  // Folding keeps the number of characters, not that of UTF-16 units.
  let offset = 0;
  let unit = 0;
  for (
    let at = haystack.indexOf(needle);
    at >= 0;
    at = haystack.indexOf(needle, at + needle.length)
  ) {
    while (unit < at) unit += folded[offset++]?.length ?? 1;
    if (unit === at) spans.push({ offset, length: wanted.length });
  }
  return spans;
}

// As Postgres does it: each character by itself, and to one character.
function fold(character: string): string {
  const lower = character.toLowerCase();
  if (lower.length === character.length) return lower;
  const [first = character] = lower;
  return first;
}
