// RetryEmbeddings: has messages embedded that were given up.
import type {
  RetryEmbeddingsRequest,
  RetryEmbeddingsResponse,
} from "../../gen/agentstore/v1/embeddings.js";
import { recordAudit } from "../audit/record.js";
import type { UnaryRpc } from "../rpc/method.js";
import * as sql from "./sql.js";

export const retryEmbeddings: UnaryRpc<RetryEmbeddingsRequest, RetryEmbeddingsResponse> = {
  validate({ conversationId }, check) {
    check.notNegative("conversation_id", conversationId);
  },

  async handle({ conversationId }, context) {
    const { db, principal, signal } = context;
    const retried = await db.transaction(async (queries) => {
      const values = [principal.tenant, conversationId, new Date()];
      const rows = await queries.query(sql.retryFailures, values);
      if (rows.length > 0) {
        const session = conversationId || undefined;
        await recordAudit(queries, context, { rpc: "RetryEmbeddings", conversationId: session });
      }
      return rows.length;
    }, signal);
    context.note({ retried });
    return { retried: BigInt(retried) };
  },
};
