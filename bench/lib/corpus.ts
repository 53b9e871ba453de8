// Conversations in English and Chinese for the benchmark of search: sentences of recorded ones, varied,
// with a vocabulary whose words are as unevenly common as those of real texts.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "../../server/paths.js";

/** Makes the texts of messages; the same seed makes the same ones. */
export class Corpus {
  readonly #random: () => number;
  readonly #english: string[][];
  readonly #chinese: string[][];

  constructor(seed: number) {
    this.#random = mulberry32(seed);
    this.#english = sentences("tau-airline.jsonl", /[^.!?\n]+[.!?]*/g, / /);
    this.#chinese = sentences("toolcall-zh.jsonl", /[^。！？\n]+[。！？]*/g, "");
  }

  /** The text of a message: 20 to 4,000 characters, most of them a few hundred. */
  message(language: "english" | "chinese"): string {
    const length = Math.exp(4.3 + 1.1 * this.#normal());
    const parts: string[] = [];
    const pool = language === "english" ? this.#english : this.#chinese;
    for (let size = 0; size < Math.min(Math.max(length, 20), 4_000); ) {
      const sentence = this.#vary(pool[this.#below(pool.length)] ?? [], language);
      parts.push(sentence);
      size += sentence.length;
    }
    return parts.join(language === "english" ? " " : "").slice(0, 4_000);
  }

  /** A sentence as it was recorded. */
  sentence(language: "english" | "chinese"): string {
    const pool = language === "english" ? this.#english : this.#chinese;
    return pool[this.#below(pool.length)]?.join(language === "english" ? " " : "") ?? "";
  }

  // One word in eight becomes another: of the vocabulary, or a number of something.
  #vary(words: string[], language: "english" | "chinese"): string {
    const varied = words.map((word) => {
      if (this.#random() > 0.125) return word;
      const rank = Math.floor(Math.exp(this.#random() * Math.log(VOCABULARY)));
      if (language === "chinese") return inventedChinese(rank);
      return this.#random() < 0.2 ? `#${this.#below(1_000_000)}` : inventedWord(rank);
    });
    return varied.join(language === "english" ? " " : "");
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.#random()));
    return radius * Math.cos(2 * Math.PI * this.#random());
  }
}

/** Words that are made up beside those of the recordings; the n-th is about 1/n as common as the first. */
const VOCABULARY = 100_000;

const SYLLABLES =
  "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za bre cla dri flo gra ste tru".split(
    " ",
  );

/** The made-up word of a rank, 1 for the commonest. */
export function inventedWord(rank: number): string {
  let word = "";
  for (let left = rank; left > 0; left = Math.floor(left / SYLLABLES.length)) {
    word += SYLLABLES[left % SYLLABLES.length];
  }
  return word;
}

/** As inventedWord, of two characters out of 6,000. */
export function inventedChinese(rank: number): string {
  const first = 0x4e00 + ((rank * 7) % 6_000);
  const second = 0x4e00 + ((rank * 13 + Math.floor(rank / 6_000)) % 6_000);
  return String.fromCodePoint(first, second);
}

function sentences(file: string, sentence: RegExp, between: RegExp | string): string[][] {
  const text = readFileSync(join(projectRoot, "test/fixtures", file), "utf8");
  const found = new Set<string>();
  for (const line of text.split("\n").filter(Boolean)) {
    for (const content of texts(JSON.parse(line) as Conversation)) {
      for (const one of content.match(sentence) ?? []) found.add(one.trim());
    }
  }
  return [...found].filter((one) => one.length > 3).map((one) => one.split(between));
}

/** In OpenAI's form or ShareGPT's. */
interface Conversation {
  messages?: { content: string | null }[];
  conversations?: { value: string }[];
}

function texts(record: Conversation): string[] {
  const messages = record.messages?.map(({ content }) => content ?? "") ?? [];
  return [...messages, ...(record.conversations ?? []).map(({ value }) => value)];
}

// A small generator of numbers from 0 to 1.
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
