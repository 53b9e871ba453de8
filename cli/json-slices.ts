// Cuts JSON text into the raw texts of its members and elements, byte for byte.
import { createScanner } from "jsonc-parser";

// The scanner and not parseTree: it needs no memory per value and no stack per level, so a line of
// any size and depth can be cut. Its token kinds are an ambient const enum, which isolatedModules
// forbids to import.
const OPEN_BRACE = 1;
const CLOSE_BRACE = 2;
const OPEN_BRACKET = 3;
const CLOSE_BRACKET = 4;
const COMMA = 5;
const EOF = 17;

/** One member of a JSON object: its decoded key and its value's raw text. */
export interface Member {
  key: string;
  raw: string;
}

/**
 * Cuts a JSON object into its members, in their order, duplicates included.
 * @param text valid JSON whose value is an object
 */
export function members(text: string): Member[] {
  return children(text);
}

/**
 * Cuts a JSON array into the raw texts of its elements.
 * @param text valid JSON whose value is an array
 */
export function elements(text: string): string[] {
  return children(text).map((child) => child.raw);
}

/**
 * Finds the raw text of a member's value: the last one of that key, which is the one that
 * JSON.parse keeps.
 * @param text valid JSON whose value is an object
 */
export function member(text: string, key: string): string | undefined {
  return members(text).findLast((candidate) => candidate.key === key)?.raw;
}

/**
 * Removes the whitespace between the tokens and nothing else.
 * @param text valid JSON
 */
export function compact(text: string): string {
  const scanner = createScanner(text, true);
  const next = (): number => scanner.scan();
  const tokens: string[] = [];
  while (next() !== EOF) {
    const start = scanner.getTokenOffset();
    tokens.push(text.slice(start, start + scanner.getTokenLength()));
  }
  return tokens.join("");
}

function children(text: string): Member[] {
  const scanner = createScanner(text, true);
  const next = (): number => scanner.scan();
  const opening = next();
  if (opening !== OPEN_BRACE && opening !== OPEN_BRACKET) {
    throw new TypeError("the text is neither a JSON object nor a JSON array");
  }
  const found: Member[] = [];
  let depth = 1;
  let key: string | undefined;
  let start = -1;
  let end = -1;
  while (depth > 0) {
    const token = next();
    if (token === EOF) throw new TypeError("the text is not complete JSON");
    const closes = token === CLOSE_BRACE || token === CLOSE_BRACKET;
    if (depth === 1 && (closes || token === COMMA)) {
      if (start >= 0) found.push({ key: key ?? "", raw: text.slice(start, end) });
      start = -1;
      key = undefined;
      if (closes) depth = 0;
      continue;
    }
    if (opening === OPEN_BRACE && depth === 1 && key === undefined) {
      key = scanner.getTokenValue();
      next(); // the colon
      continue;
    }
    if (start < 0) start = scanner.getTokenOffset();
    if (closes) depth -= 1;
    else if (token === OPEN_BRACE || token === OPEN_BRACKET) depth += 1;
    end = scanner.getTokenOffset() + scanner.getTokenLength();
  }
  return found;
}
