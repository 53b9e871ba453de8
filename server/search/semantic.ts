// SEMANTIC: messages that mean something alike, by the cosine of their vectors with the query's.
import { type QueryVector, vectorOfQuery } from "../embeddings/query-vector.js";
import { getQueueStatus } from "../embeddings/sql.js";
import { hasVectorIndex } from "../embeddings/vector-index.js";
import { RpcError } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import type { Found, Search } from "./mode.js";
import { depthOf, type Ranked, readRanked } from "./ranking.js";
import { makeSnippet } from "./snippet.js";
import { hasAtMost, rankByIndex, rankOneByOne, type VectorSearch } from "./vectors.js";

/** Finds a page. */
export async function readSemantic(context: CallContext, search: Search): Promise<Found> {
  const ranking = await rankByMeaning(context, search, depthOf(search, context));
  const [page, unindexed] = await Promise.all([
    readRanked(context, search, ranking),
    countPending(context),
  ]);
  return {
    ...page,
    unindexed,
    snippets: async (messages) =>
      messages.map(({ content }) => makeSnippet(content, [], context.limits.snippetCharacters)),
  };
}

/**
 * The messages whose vectors are nearest to the query's, best first.
 *
 * @param depth how many at the most
 * @throws EMBEDDINGS_NOT_CONFIGURED, EMBEDDINGS_UNAVAILABLE, VECTOR_INDEX_REQUIRED
 */
export async function rankByMeaning(
  context: CallContext,
  { scope, query, embedding, sessions }: Search,
  depth: number,
): Promise<Ranked[]> {
  const { limits } = context;
  const vector = await vectorOfQuery(context, query, embedding);
  const search: VectorSearch = { scope, sessions, vector, depth };
  // Few sessions are faster looked through.
  const byIndex =
    !sessions && (await hasIndex(context, vector)) ? await rankByIndex(context, search) : undefined;
  if (byIndex?.length === depth) return byIndex;
  // There may be more behind a filter than the index has come to.
  if (await hasAtMost(context, search, limits.searchVectors)) {
    return await rankOneByOne(context, search);
  }
  if (!byIndex) throw indexRequired(limits.searchVectors);
  return byIndex;
}

/** How many messages of the tenant wait for their vector. */
export async function countPending({ db, principal, signal }: CallContext): Promise<bigint> {
  const [queue] = await db.query(getQueueStatus, [principal.tenant], signal);
  return queue?.pending ?? 0n;
}

async function hasIndex({ db, signal }: CallContext, vector: QueryVector): Promise<boolean> {
  const { model, values } = vector;
  return await hasVectorIndex(db, { model, dimensions: values.length }, signal);
}

function indexRequired(limit: number): RpcError {
  return new RpcError(
    "VECTOR_INDEX_REQUIRED",
    `more than ${limit} vectors are to be compared, and there is no index of them: filter, or have ` +
      "pgvector 0.8 or newer installed in the database",
    { metadata: { limit: String(limit) } },
  );
}
