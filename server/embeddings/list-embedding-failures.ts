// ListEmbeddingFailures: the messages that the endpoint would not embed, a page at a time.
import type {
  ListEmbeddingFailuresRequest,
  ListEmbeddingFailuresResponse,
} from "../../gen/agentstore/v1/embeddings.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodePageToken, encodePageToken } from "../rpc/page-token.js";
import * as sql from "./sql.js";

export const listEmbeddingFailures: UnaryRpc<
  ListEmbeddingFailuresRequest,
  ListEmbeddingFailuresResponse
> = {
  validate({ pageSize, conversationId }, check, limits) {
    check.within("page_size", pageSize, 0, limits.pageSizeMost);
    check.notNegative("conversation_id", conversationId);
  },

  async handle({ pageSize, pageToken, conversationId }, context) {
    const { db, principal, signal, limits } = context;
    const query = ["ListEmbeddingFailures", conversationId];
    const after = decodePageToken(pageToken, query) ?? [0n, 0n];
    const size = pageSize || limits.pageSizeDefault;
    const values = [principal.tenant, conversationId, ...after, size + 1];
    const rows = await db.query(sql.listFailures, values, signal);
    const page = rows.slice(0, size);
    const last = page.at(-1);
    return {
      failures: page.map((row) => ({
        conversationId: row.conversation_id,
        seq: row.seq,
        tries: row.failures,
        error: row.error ?? "",
        failedAt: row.failed_at,
      })),
      nextPageToken:
        last && rows.length > size ? encodePageToken(query, [last.conversation_id, last.seq]) : "",
    };
  },
};
