// The languages whose words FULL_TEXT knows the forms of.

/** Those that messages are recognised as by their small words, in Latin script. */
const LATIN = [
  "english",
  "german",
  "french",
  "spanish",
  "italian",
  "portuguese",
  "dutch",
  "swedish",
  "danish",
  "norwegian",
  "finnish",
  "turkish",
];

/** Those that messages are recognised as by their script. */
const BY_SCRIPT: [RegExp, string][] = [
  [/\p{Script=Greek}/u, "greek"],
  [/\p{Script=Cyrillic}/u, "russian"],
  [/\p{Script=Arabic}/u, "arabic"],
  [/\p{Script=Devanagari}/u, "hindi"],
  [/\p{Script=Tamil}/u, "tamil"],
  [/\p{Script=Armenian}/u, "armenian"],
];

/** What Postgres 15 and newer have words of. */
export const LANGUAGES = [
  ...LATIN,
  ...BY_SCRIPT.map(([, language]) => language),
  "basque",
  "catalan",
  "hungarian",
  "indonesian",
  "irish",
  "lithuanian",
  "nepali",
  "romanian",
  "serbian",
  "yiddish",
  "simple",
];

/**
 * The languages whose forms of a query's words to look for.
 *
 * @param language the one that the caller has named; empty: whichever messages may be written in
 */
export function languagesOf(query: string, language: string): string[] {
  if (language !== "") return [language, "simple"];
  const found = BY_SCRIPT.filter(([script]) => script.test(query)).map(([, name]) => name);
  return [...LATIN, ...found, "simple"];
}
