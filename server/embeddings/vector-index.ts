// The HNSW indexes of pgvector, one for each model and length of its vectors.
import { createHash } from "node:crypto";
import type { Logger } from "pino";
import { type Database, plannedEachTime } from "../db/database.js";
import { present } from "../present.js";
import * as sql from "./sql.js";

/** Vectors that can be compared with each other. */
export interface VectorSpace {
  model: string;
  dimensions: number;
}

/**
 * Makes the index of a space where pgvector is there or can be had, beside all reads and writes. Does
 * nothing where it is made. A half-made one, of a process that died, is made anew.
 *
 * @returns false where there is no pgvector that can do it
 */
export async function ensureVectorIndex(
  db: Database,
  space: VectorSpace,
  logger: Logger,
  signal: AbortSignal,
): Promise<boolean> {
  const { model, dimensions } = space;
  if (!(await havePgvector(db, logger, signal))) return false;
  const name = indexName(space);
  const [index] = await db.query(sql.findIndex, [name], signal);
  if (index?.valid) return true;
  const run = (text: string) => db.query(plannedEachTime(text), [], signal);
  if (index) await run(`DROP INDEX CONCURRENTLY IF EXISTS ${name}`);
  const [made] = await db.query(sql.describeIndex, [name, dimensions, model], signal);
  logger.info({ model, dimensions }, "making an index of embeddings");
  await run(present(made).text);
  logger.info({ model, dimensions }, "the index of embeddings is made");
  return true;
}

/** Whether a space can be searched by an index. */
export async function hasVectorIndex(
  db: Database,
  space: VectorSpace,
  signal: AbortSignal,
): Promise<boolean> {
  const [index] = await db.query(sql.findIndex, [indexName(space)], signal);
  return index?.valid ?? false;
}

async function havePgvector(db: Database, logger: Logger, signal: AbortSignal): Promise<boolean> {
  const [extension] = await db.query(sql.findPgvector, [], signal);
  if (extension?.installed) return true;
  if (!extension) return false;
  try {
    await db.query(sql.installPgvector, [], signal);
    return true;
  } catch (error) {
    if (signal.aborted) throw error;
    logger.info(
      { err: error },
      "pgvector is there, but not for this user: CREATE EXTENSION vector",
    );
    return false;
  }
}

// An index's name has 63 bytes at the most, and models may be called anything.
function indexName({ model, dimensions }: VectorSpace): string {
  const digest = createHash("sha256").update(model).digest("hex").slice(0, 16);
  return `message_embeddings_hnsw_${digest}_${dimensions}`;
}
