// How words begin whose forms are alike: a cheap look at a text says that it has none of them.
//
// Stemmers (Snowball's, which Postgres has) change the end of a word and its accents. A beginning that is
// two letters shorter than the shortest form is common to all words of that form.

/** Stemmers that change how a word begins as well, or its letters altogether. */
const CHANGES_BEGINNINGS = new Set(["indonesian", "irish", "serbian"]);

const MOST_LETTERS = 6;

/** The letters that are one of a to z once their accents are gone, by that letter. */
const ACCENTED = new Map<string, string>([
  ["i", "ı"],
  ["s", "ß"],
]);
for (let code = 0xc0; code < 0x250; code++) {
  const letter = String.fromCharCode(code);
  const base = withoutAccents(letter);
  if (/^[a-z]$/.test(base)) ACCENTED.set(base, `${ACCENTED.get(base) ?? ""}${letter}`);
}

/**
 * How each word begins that has one of these forms, as a regular expression that Postgres and JavaScript
 * understand alike; the case is that of no letter. Empty where nothing can be said.
 *
 * @param word as it stands in a query
 * @param forms what the stemmers of the languages make of it
 */
export function beginningOf(
  word: string,
  forms: readonly string[],
  languages: readonly string[],
): string {
  if (languages.some((language) => CHANGES_BEGINNINGS.has(language))) return "";
  const all = [word, ...forms].map(withoutAccents);
  const shortest = Math.min(...all.map(({ length }) => length));
  let common = 0;
  while (common < MOST_LETTERS && all.every((text) => text[common] === all[0]?.[common])) common++;
  const letters = (all[0] ?? "").slice(0, Math.min(common, Math.max(shortest - 2, 1)));
  // Of a double s, which may be written as one letter, the first.
  const sure = /^[a-z0-9]*/.exec(letters)?.[0].replace(/(s)s.*/, "$1") ?? "";
  return sure.replace(/[a-z]/g, (letter) => `[${letter}${ACCENTED.get(letter) ?? ""}]`);
}

function withoutAccents(text: string): string {
  return text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");
}
