// The judged set: conversations, queries, and how much each message has to do with each query.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "../../server/paths.js";

/** A conversation whose messages are searched. */
export interface JudgedConversation {
  /** For example `en-03`; its n-th message is `en-03/n`. */
  session: string;
  title: string;
  messages: { role: "user" | "assistant"; content: string }[];
}

/** What a query is like: README.md describes the kinds. */
export type QueryKind = "paraphrase" | "exact" | "keywords" | "across";

/** A query with its judgements. */
export interface JudgedQuery {
  query: string;
  language: "en" | "zh";
  kind: QueryKind;
  /** 2 answers it, 1 has to do with it; all other messages do not. */
  relevant: Record<string, number>;
}

const DIRECTORY = join(projectRoot, "bench/relevance");

/** Reads the conversations. */
export function readConversations(): JudgedConversation[] {
  return readLines("conversations.jsonl");
}

/** Reads the queries. Those at even places are for tuning, the others are held out. */
export function readQueries(): JudgedQuery[] {
  return readLines("queries.jsonl");
}

function readLines<T>(name: string): T[] {
  const lines = readFileSync(join(DIRECTORY, name), "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as T);
}
