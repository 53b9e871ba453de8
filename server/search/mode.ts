// What every mode of search takes and gives.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import type { SearchOrder, SearchSnippet } from "../../gen/agentstore/v1/search.js";
import type { Scope } from "./filter.js";
import type { Lag } from "./lag.js";
import type { HitRow } from "./sql.js";

/** What a mode is asked for. */
export interface Search {
  scope: Scope;
  query: string;
  language: string;
  /** The query's vector, where the caller has given one; else without values. */
  embedding: { model: string; values: readonly number[] };
  order: SearchOrder;
  lag: Lag;
  /** The sessions that all results belong to, where they are few. */
  sessions: readonly bigint[] | undefined;
  /** What the mode has said of the end of the page before; null for the first page. */
  position: string | null;
  /** How many results a page has at the most; one more is to be read, to know whether there is one. */
  size: number;
}

/** What a mode has found. */
export interface Found {
  /** The page, and one row more if there is one; fewer where the page's bytes end it. */
  rows: HitRow[];
  /** The position behind a row. */
  positionOf: (row: HitRow) => string;
  /** How many messages the mode cannot find yet; absent: as many as the search's lag says. */
  unindexed?: bigint;
  /** The snippets of messages that it has found, in their order. */
  snippets: (messages: readonly AgentMessage[]) => Promise<SearchSnippet[]>;
}
