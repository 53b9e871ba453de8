// The calls about embeddings and how far search is, which only operators make.

import { AgentStoreAdminService } from "../gen/agentstore/v1/agent_store_admin.js";
import type { Connection } from "./connection.js";
import { int32OrZero, int64OrZero, textOrEmpty } from "./fields.js";
import type { EmbeddingFailurePage, SearchStatus } from "./operator-types.js";
import type {
  CallOptions,
  ListEmbeddingFailuresOptions,
  RetryEmbeddingsOptions,
} from "./options.js";

export async function getSearchStatus(
  connection: Connection,
  options: CallOptions,
): Promise<SearchStatus> {
  const { response } = await connection.unary(AgentStoreAdminService.getSearchStatus, {}, options);
  return response;
}

export async function listEmbeddingFailures(
  connection: Connection,
  options: ListEmbeddingFailuresOptions,
): Promise<EmbeddingFailurePage> {
  const { response } = await connection.unary(
    AgentStoreAdminService.listEmbeddingFailures,
    {
      pageSize: int32OrZero(options.pageSize, "page_size"),
      pageToken: textOrEmpty(options.pageToken, "page_token"),
      conversationId: int64OrZero(options.conversationId, "conversation_id"),
    },
    options,
  );
  return response;
}

export async function retryEmbeddings(
  connection: Connection,
  options: RetryEmbeddingsOptions,
): Promise<bigint> {
  const { response } = await connection.unary(
    AgentStoreAdminService.retryEmbeddings,
    { conversationId: int64OrZero(options.conversationId, "conversation_id") },
    options,
  );
  return response.retried;
}
