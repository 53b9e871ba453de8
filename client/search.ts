// The calls that find messages: what they take, what they return, and how both look on the wire.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import * as wire from "../gen/agentstore/v1/search.js";
import { answered, paginate } from "./calls.js";
import type { Connection } from "./connection.js";
import { InvalidFieldError } from "./errors.js";
import { int32OrZero, int64OrZero, list, text, textOrEmpty } from "./fields.js";
import { messageFromWire, roleToWire } from "./messages.js";
import type {
  SearchFilter,
  SearchMessagesOptions,
  SearchPage,
  SearchResult,
} from "./search-types.js";
import { rangeToWire, tagsToWire } from "./session-filter.js";

const MODES = new Map<string | undefined, wire.SearchMode>([
  [undefined, wire.SearchMode.UNSPECIFIED],
  ["substring", wire.SearchMode.SUBSTRING],
  ["full_text", wire.SearchMode.FULL_TEXT],
  ["semantic", wire.SearchMode.SEMANTIC],
  ["hybrid", wire.SearchMode.HYBRID],
]);

const ORDERS = new Map<string | undefined, wire.SearchOrder>([
  [undefined, wire.SearchOrder.UNSPECIFIED],
  ["newest_first", wire.SearchOrder.NEWEST_FIRST],
  ["best_first", wire.SearchOrder.BEST_FIRST],
]);

export async function searchPage(
  connection: Connection,
  modelId: string,
  query: string,
  options: SearchMessagesOptions,
): Promise<SearchPage> {
  const { response } = await connection.unary(
    AgentStoreService.searchMessages,
    {
      modelId: text(modelId, "model_id"),
      query: text(query, "query"),
      limit: int32OrZero(options.limit, "limit"),
      mode: chosen(MODES, options.mode, "mode"),
      filter: filterToWire(options.filter),
      order: chosen(ORDERS, options.order, "order"),
      pageToken: textOrEmpty(options.pageToken, "page_token"),
      contextBefore: int32OrZero(options.contextBefore, "context_before"),
      contextAfter: int32OrZero(options.contextAfter, "context_after"),
      language: textOrEmpty(options.language, "language"),
      queryEmbedding: [...(options.embedding?.values ?? [])],
      embeddingModel: textOrEmpty(options.embedding?.model, "embedding_model"),
    },
    options,
  );
  return {
    results: response.results.map(resultFromWire),
    nextPageToken: response.nextPageToken,
    unindexedMessages: response.unindexedMessages,
  };
}

export function iterateSearchPages(
  connection: Connection,
  modelId: string,
  query: string,
  options: SearchMessagesOptions,
): AsyncGenerator<SearchPage, void, undefined> {
  return paginate(options, (page) => searchPage(connection, modelId, query, page));
}

function resultFromWire(result: wire.SearchResult): SearchResult {
  const { message, score, snippet, before, after } = result;
  return {
    message: messageFromWire(answered(message)),
    score,
    snippet: snippet ?? { text: "", offset: 0, hits: [] },
    before: before.map(messageFromWire),
    after: after.map(messageFromWire),
  };
}

function filterToWire(filter: SearchFilter | undefined): wire.SearchFilter | undefined {
  if (filter === undefined) return undefined;
  return {
    conversationId: int64OrZero(filter.conversationId, "filter.conversation_id"),
    ownerId: textOrEmpty(filter.ownerId, "filter.owner_id"),
    roles: list(filter.roles ?? [], "filter.roles").map((role, index) =>
      roleToWire(role, `filter.roles[${index}]`),
    ),
    allTags: tagsToWire(filter.allTags, "filter.all_tags"),
    timestamp: rangeToWire(filter.timestamp, "filter.timestamp"),
  };
}

function chosen<T>(values: Map<string | undefined, T>, name: string | undefined, field: string): T {
  const value = values.get(name);
  if (value !== undefined) return value;
  throw InvalidFieldError.of(field, `must be one of ${[...values.keys()].slice(1).join(", ")}`);
}
