// Where the words of a query stand in the messages that FULL_TEXT has found.
import { statement } from "../db/database.js";
import type { CallContext } from "../rpc/call.js";
import { PIECE, startsCjk } from "./query.js";
import type { Span } from "./snippet.js";
import { entriesOf, type Terms } from "./terms.js";

// Which words have, in one of the languages, a form that the query has.
const matchingWords = statement<{ word: string }>(
  "matching_words",
  `SELECT word
     FROM unnest($1::text[]) AS w (word)
    WHERE EXISTS (
      SELECT FROM unnest($2::text[]) AS l (language)
       WHERE tsvector_to_array(to_tsvector(l.language::regconfig, w.word)) && $3::text[])`,
);

interface Place extends Span {
  text: string;
}

/**
 * Finds the words of a query in texts, in their order.
 *
 * @param texts each as its characters
 */
export async function findWords(
  { db, signal, limits }: CallContext,
  terms: Terms,
  texts: readonly string[],
): Promise<Span[][]> {
  const entries = new Set(terms.units.flatMap(({ query }) => entriesOf(query)));
  const { beginnings } = terms;
  const mayMatch = new RegExp(beginnings.length > 0 ? `^(?:${beginnings.join("|")})` : "^$", "u");
  const places = texts.map((text) => placesOf(text, limits.highlightCharacters));
  const words = new Set<string>();
  for (const { text } of places.flat()) {
    if (!startsCjk(text) && mayMatch.test(text)) words.add(text);
  }
  const candidates = [...words].slice(0, limits.highlightWords);
  const values = [candidates, terms.languages, [...entries]];
  const rows = words.size > 0 ? await db.query(matchingWords, values, signal) : [];
  const matching = new Set(rows.map(({ word }) => word));
  return places.map((ofText) =>
    ofText.flatMap((place) => {
      if (startsCjk(place.text)) return pairsIn(place, entries);
      return matching.has(place.text) ? [{ offset: place.offset, length: place.length }] : [];
    }),
  );
}

function placesOf(text: string, most: number): Place[] {
  const places: Place[] = [];
  let unit = 0;
  let offset = 0;
  for (const match of text.slice(0, most).matchAll(PIECE)) {
    offset += countCodePoints(text, unit, match.index);
    unit = match.index;
    const [piece] = match;
    places.push({
      text: startsCjk(piece) ? piece : piece.normalize("NFKC").toLowerCase(),
      offset,
      length: countCodePoints(piece, 0, piece.length),
    });
  }
  return places;
}

function countCodePoints(text: string, from: number, to: number): number {
  let count = 0;
  for (let at = from; at < to; at++) {
    const unit = text.charCodeAt(at);
    if (unit < 0xdc00 || unit > 0xdfff) count++;
  }
  return count;
}

/** The characters of a stretch without spaces that the query has, singly or in pairs. */
function pairsIn({ text, offset }: Place, entries: Set<string>): Span[] {
  const characters = [...text];
  const spans: Span[] = [];
  const add = (at: number, length: number) => {
    const last = spans.at(-1);
    if (last && last.offset + last.length >= offset + at)
      last.length = offset + at + length - last.offset;
    else spans.push({ offset: offset + at, length });
  };
  characters.forEach((character, at) => {
    const pair = `${character}${characters[at + 1] ?? ""}`;
    if (at + 1 < characters.length && entries.has(pair)) add(at, 2);
    else if (entries.has(character)) add(at, 1);
  });
  return spans;
}
