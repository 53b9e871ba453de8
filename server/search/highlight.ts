// Where the words of a query stand in the messages that FULL_TEXT has found.
import { statement } from "../db/database.js";
import type { CallContext } from "../rpc/call.js";
import { type Span, toSpans, type UnitRange } from "./code-points.js";
import { startsCjk, WORD } from "./query.js";
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

/** A word of a text, as it is indexed but for its form. */
interface Word extends UnitRange {
  word: string;
}

/** Finds the words of a query in texts, in their order. */
export async function findWords(
  { db, signal, limits }: CallContext,
  { units, beginnings, languages }: Terms,
  texts: readonly string[],
): Promise<Span[][]> {
  const entries = [...new Set(units.flatMap(({ query }) => entriesOf(query)))];
  const looked = texts.map((text) => text.slice(0, limits.highlightCharacters));
  const mayMatch = new RegExp(`^(?:${beginnings.join("|")})`, "u");
  const words = looked.map((text) => (beginnings.length > 0 ? wordsIn(text, mayMatch) : []));
  const distinct = [...new Set(words.flat().map(({ word }) => word))];
  const values = [distinct.slice(0, limits.highlightWords), languages, entries];
  const rows = distinct.length > 0 ? await db.query(matchingWords, values, signal) : [];
  const matching = new Set(rows.map(({ word }) => word));
  const charactersIn = finderOf(entries.filter(startsCjk));
  return looked.map((text, index) => {
    const ofText = words[index]?.filter(({ word }) => matching.has(word)) ?? [];
    const found = [...ofText, ...charactersIn(text)].toSorted((a, b) => a.start - b.start);
    return toSpans(text, found);
  });
}

/** The words of a text that begin as one does that may match. */
function wordsIn(text: string, mayMatch: RegExp): Word[] {
  const words: Word[] = [];
  for (const { 0: written, index: start } of text.matchAll(WORD)) {
    const word = written.normalize("NFKC").toLowerCase();
    if (mayMatch.test(word)) words.push({ word, start, end: start + written.length });
  }
  return words;
}

/** What finds in a text the characters that a query has, singly or in pairs: the stretches of them. */
function finderOf(entries: readonly string[]): (text: string) => UnitRange[] {
  if (entries.length === 0) return () => [];
  // Pairs go first, and overlap.
  const longestFirst = entries.toSorted((a, b) => b.length - a.length);
  const anyOf = new RegExp(`(?=(${longestFirst.join("|")}))`, "gu");
  return (text) => {
    const stretches: UnitRange[] = [];
    for (const { 1: entry = "", index: start } of text.matchAll(anyOf)) {
      const end = start + entry.length;
      const last = stretches.at(-1);
      if (last && last.end >= start) last.end = end;
      else stretches.push({ start, end });
    }
    return stretches;
  };
}
