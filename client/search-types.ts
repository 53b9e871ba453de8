// What searches accept and return.
import type { CallOptions, TimeRange } from "./options.js";
import type { AgentMessage, Role } from "./types.js";

/** Chooses messages: those that meet everything that is given. */
export interface SearchFilter {
  /** Messages of this session. */
  conversationId?: bigint | number | undefined;
  /** Messages of the sessions of this owner. */
  ownerId?: string | undefined;
  /** Messages of one of these roles. */
  roles?: readonly Role[] | undefined;
  /** Messages of sessions that have all of these tags; up to 16. */
  allTags?: readonly string[] | undefined;
  /** Messages whose `timestampMs` lies in this time. */
  timestamp?: TimeRange | undefined;
}

/** How to search. */
export interface SearchMessagesOptions extends CallOptions {
  /**
   * How the query is understood. `substring`: as a text that the content contains, upper and lower
   * case alike. `full_text`: as words, found in any of their forms, with `"phrases"`, `-without` and
   * `this or that`. `semantic`, `hybrid`: by meaning, where the server can. Default: `substring`.
   */
  mode?: "substring" | "full_text" | "semantic" | "hybrid" | undefined;
  /** Which messages to search. Default: all. */
  filter?: SearchFilter | undefined;
  /** Default: `newest_first` for `substring`, which has no other, and `best_first` for all else. */
  order?: "newest_first" | "best_first" | undefined;
  /** How many messages a page has at the most: 1 to 1,000. Default: 20. */
  limit?: number | undefined;
  /** The `nextPageToken` of the page before; left out for the first page. */
  pageToken?: string | undefined;
  /** How many messages before each result to return with it: up to 10. Default: 0. */
  contextBefore?: number | undefined;
  /** How many messages behind each result to return with it: up to 10. Default: 0. */
  contextAfter?: number | undefined;
  /** For `full_text` and `hybrid`: the language of the query's words, for example `german`. Default: any. */
  language?: string | undefined;
  /** For `semantic` and `hybrid`: the query's embedding, and the model that made it. */
  embedding?: { values: readonly number[]; model: string } | undefined;
}

/** A stretch of a text, in Unicode code points: `[...text].slice(offset, offset + length)`. */
export interface TextSpan {
  offset: number;
  length: number;
}

/** The part of a content that shows best why a message was found. */
export interface SearchSnippet {
  /** The part, as it stands there. */
  text: string;
  /** Where it stands: how many code points of the content come before it. */
  offset: number;
  /** What the query matches of it. */
  hits: TextSpan[];
}

/** A message that was found. */
export interface SearchResult {
  message: AgentMessage;
  /** How well it matches, to be compared within one query; 0 for `newest_first`. */
  score: number;
  snippet: SearchSnippet;
  /** What was said before it and behind it, in order, as many as was asked for. */
  before: AgentMessage[];
  after: AgentMessage[];
}

/** A page of results. */
export interface SearchPage {
  results: SearchResult[];
  /** Asks for the page after this one; empty when this is the last. */
  nextPageToken: string;
  /** About how many messages are not in the mode's index yet. */
  unindexedMessages: bigint;
}
