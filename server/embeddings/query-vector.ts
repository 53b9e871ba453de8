// The vector of a query: the caller's, or the endpoint's.
import { fieldError, RpcError } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import { EndpointError } from "./endpoint-error.js";
import * as sql from "./sql.js";
import { direction } from "./vector.js";

/** A query as it is compared with messages. */
export interface QueryVector {
  model: string;
  /** Of length 1. */
  values: Float32Array;
}

const RETRY_AFTER_MS = 1_000;

/**
 * Makes the vector of a query.
 *
 * @param given the caller's, of which values may be empty
 * @throws EMBEDDINGS_NOT_CONFIGURED, EMBEDDINGS_UNAVAILABLE, and INVALID_FIELD when the endpoint does
 *   not take the query
 */
export async function vectorOfQuery(
  { db, embeddings, signal, limits }: CallContext,
  query: string,
  given: { model: string; values: readonly number[] },
): Promise<QueryVector> {
  if (given.values.length > 0) return { model: given.model, values: direction(given.values) };
  if (!embeddings) {
    throw new RpcError(
      "EMBEDDINGS_NOT_CONFIGURED",
      "this server cannot embed the query: send query_embedding, or have the server started with " +
        "--embeddings-url and --embeddings-model",
    );
  }
  const { model } = embeddings;
  const [known] = await db.query(sql.getModel, [model], signal);
  const text = query.slice(0, limits.embeddingCharacters);
  try {
    const [values] = await embeddings.embed([text], known?.dimensions ?? null, signal);
    return { model, values: direction(values ?? []) };
  } catch (error) {
    if (!(error instanceof EndpointError)) throw error;
    if (error.fault === "refused") {
      throw fieldError("INVALID_FIELD", "query", "is not taken by the embeddings endpoint");
    }
    throw new RpcError(
      "EMBEDDINGS_UNAVAILABLE",
      "the embeddings endpoint has not embedded the query; repeat the call, or search by FULL_TEXT",
      { retryAfterMs: error.retryAfterMs ?? RETRY_AFTER_MS, cause: error },
    );
  }
}
