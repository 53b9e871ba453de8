// SearchMessages: the messages that match a query.
import {
  type SearchMessagesRequest,
  type SearchMessagesResponse,
  SearchMode,
  SearchOrder,
} from "../../gen/agentstore/v1/search.js";
import { toAgentMessage } from "../messages/message.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import type { UnaryRpc } from "../rpc/method.js";
import * as sql from "./sql.js";

export const searchMessages: UnaryRpc<SearchMessagesRequest, SearchMessagesResponse> = {
  validate(request, check, limits) {
    check.text("model_id", request.modelId, limits.idCharacters);
    check.requiredText("query", request.query, limits.queryCharacters);
    check.within("limit", request.limit, 0, limits.pageSizeMost);
    checkOffered(request, check);
  },

  async handle({ modelId, query, limit }, context) {
    const { db, principal, signal, limits } = context;
    const pattern = `%${query.replace(/[\\%_]/g, "\\$&")}%`;
    const size = limit || limits.searchLimitDefault;
    const values = [principal.tenant, pattern, size, limits.pageBytes];
    const rows = modelId
      ? await db.query(sql.searchMessagesOfModel, [...values, modelId], signal)
      : await db.query(sql.searchMessages, values, signal);
    context.note({ results: rows.length });
    return {
      results: rows.map((row) => ({
        message: toAgentMessage(row),
        score: 0,
        snippet: undefined,
        before: [],
        after: [],
      })),
      nextPageToken: "",
      unindexedMessages: 0n,
    };
  },
};

// What the contract has and this server does not do is refused, not passed over.
function checkOffered(request: SearchMessagesRequest, check: FieldChecks): void {
  const { mode, order } = request;
  if (mode !== SearchMode.UNSPECIFIED && mode !== SearchMode.SUBSTRING) {
    check.fail("mode", "must be SUBSTRING: this server has no other");
  }
  if (order !== SearchOrder.UNSPECIFIED && order !== SearchOrder.NEWEST_FIRST) {
    check.fail("order", "must be NEWEST_FIRST: this server has no other");
  }
  const given = {
    filter: request.filter !== undefined,
    page_token: request.pageToken !== "",
    context_before: request.contextBefore !== 0,
    context_after: request.contextAfter !== 0,
    language: request.language !== "",
    query_embedding: request.queryEmbedding.length > 0,
    embedding_model: request.embeddingModel !== "",
  };
  for (const [field, isGiven] of Object.entries(given)) {
    if (isGiven) check.fail(field, "is not taken by this server");
  }
}
