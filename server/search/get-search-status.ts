// GetSearchStatus: how far search is behind what was written.
import type {
  GetSearchStatusRequest,
  GetSearchStatusResponse,
} from "../../gen/agentstore/v1/embeddings.js";
import * as sql from "../embeddings/sql.js";
import { hasVectorIndex } from "../embeddings/vector-index.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { readLag } from "./lag.js";

export const getSearchStatus: UnaryRpc<GetSearchStatusRequest, GetSearchStatusResponse> = {
  validate() {},

  async handle(_, context) {
    const { db, principal, signal, embeddings } = context;
    const model = embeddings?.model ?? "";
    const [lag, [queue], [known]] = await Promise.all([
      readLag(db, { tenant: principal.tenant, modelId: "" }, signal),
      db.query(sql.getQueueStatus, [principal.tenant], signal),
      db.query(sql.getModel, [model], signal),
    ]);
    const { pending, oldest, failed } = present(queue);
    const dimensions = known?.dimensions ?? 0;
    const indexed = dimensions > 0 && (await hasVectorIndex(db, { model, dimensions }, signal));
    return {
      unindexedMessages: lag.changed + lag.unfilled,
      pendingEmbeddings: pending,
      embeddingLagMs: BigInt(oldest ? Math.max(0, Date.now() - oldest.getTime()) : 0),
      failedEmbeddings: failed,
      embeddingModel: model,
      embeddingDimensions: dimensions,
      embeddingBackfilled: known?.complete ?? false,
      embeddingIndexed: indexed,
      embeddingError: known?.error ?? "",
    };
  },
};
