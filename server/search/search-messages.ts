// SearchMessages: checks a query, has its mode find a page, and adds to that what callers see.
import {
  SearchFilter,
  type SearchMessagesRequest,
  type SearchMessagesResponse,
  SearchMode,
  SearchOrder,
} from "../../gen/agentstore/v1/search.js";
import { checkVector } from "../embeddings/given.js";
import { canonicalJson } from "../idempotency/fingerprint.js";
import { toAgentMessage } from "../messages/message.js";
import type { CallContext, Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodeTextPageToken, encodeTextPageToken } from "../rpc/page-token.js";
import { readSurroundings } from "./context.js";
import { checkSearchFilter, findSessions } from "./filter.js";
import { readFullText } from "./full-text.js";
import { readHybrid } from "./hybrid.js";
import { readLag } from "./lag.js";
import { LANGUAGES } from "./languages.js";
import type { Found, Search } from "./mode.js";
import { parseQuery } from "./query.js";
import { readSemantic } from "./semantic.js";
import { readSubstring } from "./substring.js";

export const searchMessages: UnaryRpc<SearchMessagesRequest, SearchMessagesResponse> = {
  validate(request, check, limits) {
    check.text("model_id", request.modelId, limits.idCharacters);
    check.text("query", request.query, limits.queryCharacters);
    checkEmbedding(request, check, limits);
    check.within("limit", request.limit, 0, limits.pageSizeMost);
    if (request.filter) checkSearchFilter(request.filter, check, limits);
    check.enumValue("order", request.order, SearchOrder, { zero: true });
    check.within("context_before", request.contextBefore, 0, limits.searchContextMessages);
    check.within("context_after", request.contextAfter, 0, limits.searchContextMessages);
    checkMode(request, check, limits.searchTerms);
  },

  async handle(request, context) {
    const { modelId, query, mode, language, filter = SearchFilter.fromPartial({}) } = request;
    const { db, principal, limits, signal } = context;
    const sharded = db.shards !== undefined;
    const scope = { tenant: principal.tenant, modelId, filter, sharded };
    const order = request.order || orderOf(mode);
    const about = ["SearchMessages", modelId, query, mode || SearchMode.SUBSTRING, order, language];
    about.push(canonicalJson(filter), String(request.queryEmbedding), request.embeddingModel);
    const position = decodeTextPageToken(request.pageToken, about);
    const [lag, sessions] = await Promise.all([
      readLag(db, scope, signal),
      findSessions(context, scope),
    ]);
    const size = request.limit || limits.searchLimitDefault;
    const embedding = { model: request.embeddingModel, values: request.queryEmbedding };
    const how = { lag, sessions, position, size };
    const search: Search = { scope, query, language, embedding, order, ...how };
    const { rows, positionOf, snippets, unindexed } = await readerOf(mode)(context, search);
    const page = rows.slice(0, size);
    const messages = page.map(toAgentMessage);
    const around = { before: request.contextBefore, after: request.contextAfter };
    const [surroundings, shown] = await Promise.all([
      readSurroundings(context, page, around),
      snippets(messages),
    ]);
    context.note({ results: page.length });
    const last = page.at(-1);
    const more = last !== undefined && last.found > BigInt(page.length);
    return {
      results: page.map((row, index) => ({
        message: messages[index],
        score: Number(row.score) / 1e6,
        snippet: shown[index],
        before: surroundings[index]?.before ?? [],
        after: surroundings[index]?.after ?? [],
      })),
      nextPageToken: more ? encodeTextPageToken(about, positionOf(last)) : "",
      unindexedMessages: unindexed ?? lag.changed + lag.unfilled,
    };
  },
};

function readerOf(mode: SearchMode): (context: CallContext, search: Search) => Promise<Found> {
  switch (mode) {
    case SearchMode.FULL_TEXT:
      return readFullText;
    case SearchMode.SEMANTIC:
      return readSemantic;
    case SearchMode.HYBRID:
      return readHybrid;
    default:
      return readSubstring;
  }
}

function orderOf(mode: SearchMode): SearchOrder {
  return mode === SearchMode.UNSPECIFIED || mode === SearchMode.SUBSTRING
    ? SearchOrder.NEWEST_FIRST
    : SearchOrder.BEST_FIRST;
}

// SEMANTIC asks for nothing else where there is a vector.
function checkEmbedding(
  { mode, query, queryEmbedding, embeddingModel }: SearchMessagesRequest,
  check: FieldChecks,
  limits: Limits,
): void {
  const given = queryEmbedding.length > 0;
  if (query === "" && !(given && mode === SearchMode.SEMANTIC)) check.fail("query", "is required");
  if (mode !== SearchMode.SEMANTIC && mode !== SearchMode.HYBRID) {
    if (given) check.fail("query_embedding", "is for SEMANTIC and HYBRID");
    if (embeddingModel !== "") check.fail("embedding_model", "is for SEMANTIC and HYBRID");
  } else if (given) {
    checkVector("query_embedding", queryEmbedding, check);
    check.requiredText("embedding_model", embeddingModel, limits.idCharacters);
  } else if (embeddingModel !== "") {
    check.fail("embedding_model", "goes with query_embedding");
  }
}

function checkMode(request: SearchMessagesRequest, check: FieldChecks, most: number): void {
  const { mode, order, query, language } = request;
  switch (mode) {
    case SearchMode.UNSPECIFIED:
    case SearchMode.SUBSTRING:
      if (order === SearchOrder.BEST_FIRST) {
        check.fail("order", "must be NEWEST_FIRST: of what contains a text, nothing is better");
      }
      break;
    case SearchMode.FULL_TEXT:
      if (query !== "" && parseQuery(query, most).groups.length === 0) {
        check.fail("query", "must have a word to search for");
      }
      break;
    case SearchMode.SEMANTIC:
    case SearchMode.HYBRID:
      if (order === SearchOrder.NEWEST_FIRST) {
        check.fail("order", "must be BEST_FIRST: everything means something alike, more or less");
      }
      break;
    default:
      check.enumValue("mode", mode, SearchMode, { zero: true });
  }
  if (language !== "") {
    if (mode !== SearchMode.FULL_TEXT && mode !== SearchMode.HYBRID) {
      check.fail("language", "is for FULL_TEXT and HYBRID");
    } else if (!LANGUAGES.includes(language)) {
      check.fail("language", `must be one of ${LANGUAGES.join(", ")}`);
    }
  }
}
