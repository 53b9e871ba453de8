// From a parsed query to conditions on words: each term in the forms that the index may have it in.
import { plannedEachTime } from "../db/database.js";
import type { CallContext } from "../rpc/call.js";
import { beginningOf } from "./beginnings.js";
import { languagesOf } from "./languages.js";
import { type ParsedQuery, type Piece, pairsOf, type Term } from "./query.js";

/** A part of a query that counts for the rank of a message by itself. Queries are texts of tsquery. */
export interface Unit {
  query: string;
  /** How many entries of the index the query names. */
  entries: number;
  /** Whether it counts how often it is there: a phrase only is there or is not. */
  counted: boolean;
  /** Whether it stands side by side with the unit before it. */
  follows: boolean;
  /** Queries of entries without places, that every message fulfils that has all terms. May be empty. */
  needed: string[];
  /** A regular expression: every text that has it matches. */
  pattern: string;
}

/** What a message has to have. */
export interface Terms {
  units: Unit[];
  /** All terms, and nothing that must not be there. */
  all: string;
  /** What no message may be without, whatever else it has: phrases, and nothing excluded; '' for none. */
  required: string;
  /** Regular expressions: every text that has all terms matches each of them. */
  patterns: string[];
  /** How the words begin that the query has in one form or another, as regular expressions. */
  beginnings: string[];
  /** The languages whose forms of the words are looked for. */
  languages: string[];
}

// The forms of each text in each language, and the language that the query is probably written in.
const FORMS = plannedEachTime<{ n: bigint; language: string; query: string; main: string }>(
  `SELECT t.n, l.language, phraseto_tsquery(l.language::regconfig, t.text)::text AS query,
          agentstore_language($3) AS main
     FROM unnest($1::text[]) WITH ORDINALITY AS t (text, n)
    CROSS JOIN unnest($2::text[]) AS l (language)`,
);

/**
 * Makes the conditions of a query.
 *
 * @returns undefined when it has nothing to search for: only words that no language keeps
 */
export async function makeTerms(
  { db, signal, limits }: CallContext,
  parsed: ParsedQuery,
  query: string,
  language: string,
): Promise<Terms | undefined> {
  const languages = languagesOf(query, language);
  const terms = [...parsed.groups.flat(), ...parsed.excluded];
  const texts = terms
    .flatMap(({ pieces }) => pieces)
    .filter(({ kind }) => kind === "words")
    .map(({ text }) => text);
  const distinct = [...new Set(texts)];
  const rows =
    distinct.length > 0 ? await db.query(FORMS, [distinct, languages, query], signal) : [];
  const forms = new Map(
    rows.map((row) => [`${row.language} ${distinct[Number(row.n) - 1]}`, row.query]),
  );
  const main = language || rows[0]?.main || "english";
  const ofPiece = ({ kind, text }: Piece, of: string) =>
    kind === "cjk" ? chain(text) : (forms.get(`${of} ${text}`) ?? "");
  const ofTerm = (term: Term) => unique(languages.map((of) => phraseOf(term, of, ofPiece)));
  const beginnings = new Map(
    distinct.map((text) => {
      const formsOf = languages.map((of) => forms.get(`${of} ${text}`) ?? "");
      return [text, beginningsOfWords(text, formsOf, languages)];
    }),
  );
  const beginningsOf = ({ text }: Piece) => beginnings.get(text) ?? [];
  const patternOf = (term: Term) => patternOfTerm(term, beginningsOf);
  const saysNothing = (term: Term) => phraseOf(term, main, ofPiece) === "";
  const groups = parsed.groups
    .map((group) => group.filter((term) => ofTerm(term).length > 0))
    .filter((group) => group.length > 0);
  const telling = groups.filter((group) => !group.every(saysNothing));
  const kept = telling.length > 0 ? telling : groups;
  if (kept.length === 0) return undefined;
  const either = (group: Term[]) => `(${group.flatMap(ofTerm).join(" | ")})`;
  const without = parsed.excluded.flatMap(ofTerm).map((excluded) => `!(${excluded})`);
  const phrases = kept.filter((group) => group.every(({ phrase }) => phrase)).map(either);
  return {
    units: kept
      .flatMap((group) =>
        group.flatMap((term) => {
          const units = unitsOf(term, ofTerm(term), patternOf(term));
          // Of several terms one is enough.
          return group.length === 1 ? units : units.map((unit) => ({ ...unit, needed: [] }));
        }),
      )
      .slice(0, limits.searchTerms),
    all: [...kept.map(either), ...without].join(" & "),
    required: [...phrases, ...without].join(" & "),
    patterns: kept.map((group) => group.map(patternOf).join("|")),
    beginnings: kept
      .flat()
      .flatMap(({ pieces }) => pieces)
      .filter(({ kind }) => kind === "words")
      .flatMap(beginningsOf),
    languages,
  };
}

// Entries have no place of their own between the first character of a stretch and its first pair.
function phraseOf(
  { pieces }: Term,
  language: string,
  ofPiece: (piece: Piece, language: string) => string,
): string {
  const parts = pieces.map((piece) => ofPiece(piece, language)).filter((part) => part !== "");
  return parts.join(" <2> ");
}

/** The condition that characters stand side by side; of a single one, that it is there. */
function chain(text: string): string {
  const pairs = pairsOf(text);
  if (pairs.length === 0) return `'${text}':*`;
  return pairs.map((pair) => `'${pair}'`).join(" <-> ");
}

function unitsOf({ pieces, phrase }: Term, forms: string[], pattern: string): Unit[] {
  const [piece] = pieces;
  if (!phrase && piece?.kind === "cjk" && pairsOf(piece.text).length > 1) {
    return pairsOf(piece.text).map((pair, index) => ({
      query: `'${pair}'`,
      entries: 1,
      counted: true,
      follows: index > 0,
      needed: [`'${pair}'`],
      pattern: pair,
    }));
  }
  return [
    {
      query: forms.join(" | "),
      entries: forms.length,
      counted: !forms.some((form) => form.includes(" <")),
      follows: false,
      needed: neededFor(forms),
      pattern,
    },
  ];
}

/** What is there where one of these phrases is. */
function neededFor(phrases: string[]): string[] {
  const entries = phrases.map((phrase) => phrase.match(ENTRY) ?? []);
  const [first = []] = entries;
  return entries.length === 1 ? first : [`(${entries.map((all) => all.join(" & ")).join(" | ")})`];
}

/** Of the pieces of a term, which a text has to have all of, the pattern that says most. */
function patternOfTerm({ pieces }: Term, beginningsOf: (piece: Piece) => string[]): string {
  const patterns = pieces.flatMap((piece) =>
    piece.kind === "cjk" ? [piece.text] : beginningsOf(piece).map((word) => `(?:^|[^a-z])${word}`),
  );
  return patterns.toSorted((a, b) => b.length - a.length)[0] ?? "";
}

/**
 * How each word of a piece begins; '' for one of which nothing is known.
 *
 * @param queries what each of the languages makes of the piece
 */
function beginningsOfWords(
  text: string,
  queries: readonly string[],
  languages: readonly string[],
): string[] {
  const words = text.split(" ");
  const forms = queries.map(entriesOf);
  // Where words have been left out as too common, which form is which one's nobody knows.
  const known = forms.filter(({ length }) => length > 0);
  if (known.some(({ length }) => length !== words.length)) return words.map(() => "");
  return words.map((word, index) =>
    beginningOf(
      word,
      known.map((ofLanguage) => ofLanguage[index] ?? ""),
      languages,
    ),
  );
}

// With the sign of one that others may begin with.
const ENTRY = /'((?:[^'\\]|''|\\\\)*)'(?::\*)?/g;

/** The entries of the index that a tsquery names. */
export function entriesOf(query: string): string[] {
  return [...query.matchAll(ENTRY)].map(([, entry = ""]) =>
    entry.replaceAll("''", "'").replaceAll("\\\\", "\\"),
  );
}

function unique(texts: string[]): string[] {
  return [...new Set(texts)].filter((text) => text !== "");
}
