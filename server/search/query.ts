// What a query of FULL_TEXT asks for: words, phrases, what must not be there, and what is one or the other.

/** A stretch of a query's text: words as they are written, or characters that need no spaces. */
export interface Piece {
  kind: "words" | "cjk";
  text: string;
}

/** What a message has or has not. */
export interface Term {
  /** Stretches that follow each other; of a phrase one or more, otherwise one. */
  pieces: Piece[];
  /** In quotes. */
  phrase: boolean;
}

/** A query, understood. */
export interface ParsedQuery {
  /** Of each of these, one. */
  groups: Term[][];
  /** None of these. */
  excluded: Term[];
}

/** As in agentstore_words(). */
const CJK =
  "\\u1100-\\u11FF\\u3005\\u3041-\\u3096\\u309D-\\u309F\\u30A1-\\u30FA\\u30FC-\\u30FF\\u3105-\\u312F" +
  "\\u3131-\\u318E\\u31A0-\\u31BF\\u31F0-\\u31FF\\u3400-\\u4DBF\\u4E00-\\u9FFF\\uA960-\\uA97C" +
  "\\uAC00-\\uD7A3\\uF900-\\uFAFF\\u{20000}-\\u{3FFFF}";

const LETTERS = `(?:(?![${CJK}])[\\p{L}\\p{M}\\p{N}])+`;

const PIECE = new RegExp(`[${CJK}]+|${LETTERS}`, "gu");

/** Finds the words of a text; an accent that stands before a letter belongs to none. */
export const WORD = new RegExp(`(?!\\p{M})${LETTERS}`, "gu");

const STARTS_CJK = new RegExp(`^[${CJK}]`, "u");

/** Whether a stretch is one of characters that need no spaces. */
export function startsCjk(text: string): boolean {
  return STARTS_CJK.test(text);
}

const TOKEN = /(-?)"([^"]*)(?:"|$)|([^\s"]+)/gu;

/**
 * Understands a query. Takes any text. Terms behind the first `most` are passed over, and so is what
 * stands behind as many words or characters of one.
 */
export function parseQuery(query: string, most: number): ParsedQuery {
  const groups: Term[][] = [];
  const excluded: Term[] = [];
  let count = 0;
  let either = false;
  for (const [, minus, quoted, bare] of query.matchAll(TOKEN)) {
    if (bare !== undefined && /^(?:or|\|)$/i.test(bare)) {
      either = groups.length > 0;
      continue;
    }
    const negative = minus === "-" || (quoted === undefined && /^-./u.test(bare ?? ""));
    const terms = termsOf(quoted ?? bare ?? "", quoted !== undefined, most).slice(0, most - count);
    count += terms.length;
    if (negative) {
      // A word of several parts is not there when its parts do not stand there side by side.
      const pieces = terms.flatMap((term) => term.pieces);
      if (pieces.length > 0) excluded.push({ pieces, phrase: true });
    } else {
      const [first, ...others] = terms;
      if (first) {
        const last = groups.at(-1);
        if (either && last) last.push(first);
        else groups.push([first]);
      }
      groups.push(...others.map((term) => [term]));
    }
    if (terms.length > 0) either = false;
  }
  return { groups, excluded };
}

// The words of a text without spaces, such as a path, follow each other too.
function termsOf(text: string, phrase: boolean, most: number): Term[] {
  const pieces = piecesOf(text)
    .slice(0, most)
    .map((piece) => beginningOf(piece, most));
  if (pieces.length === 0) return [];
  if (phrase) return [{ pieces, phrase }];
  return pieces.map((piece) => ({ pieces: [piece], phrase }));
}

/** The stretches of words and of characters in a text, as they are indexed. */
function piecesOf(text: string): Piece[] {
  const pieces: Piece[] = [];
  for (const [piece] of text.normalize("NFKC").matchAll(PIECE)) {
    const last = pieces.at(-1);
    if (startsCjk(piece)) pieces.push({ kind: "cjk", text: piece });
    else if (last?.kind === "words") last.text += ` ${piece}`;
    else pieces.push({ kind: "words", text: piece });
  }
  return pieces;
}

/** The first words of a piece, or the first characters. */
function beginningOf({ kind, text }: Piece, most: number): Piece {
  const shorter =
    kind === "cjk" ? [...text].slice(0, most).join("") : text.split(" ").slice(0, most).join(" ");
  return { kind, text: shorter };
}

/** Each two characters side by side of a text of two or more. */
export function pairsOf(text: string): string[] {
  const characters = [...text];
  return characters.slice(1).map((character, index) => `${characters[index]}${character}`);
}
