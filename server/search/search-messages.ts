// SearchMessages: messages that contain a text, whatever its case.
import type {
  SearchMessagesRequest,
  SearchMessagesResponse,
} from "../../gen/agentstore/v1/search.js";
import { toAgentMessage } from "../messages/message.js";
import type { UnaryRpc } from "../rpc/method.js";
import * as sql from "./sql.js";

export const searchMessages: UnaryRpc<SearchMessagesRequest, SearchMessagesResponse> = {
  validate({ modelId, query, limit }, check, limits) {
    check.text("model_id", modelId, limits.idCharacters);
    check.requiredText("query", query, limits.queryCharacters);
    check.within("limit", limit, 0, limits.pageSizeMost);
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
    return { results: rows.map((row) => ({ message: toAgentMessage(row) })) };
  },
};
