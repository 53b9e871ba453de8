// Forgets that a session was imported.
import type { Queries } from "../db/database.js";
import * as sql from "./sql.js";

/** Forgets the import of a session that is being deleted: it can be imported again. */
export async function forgetImport(queries: Queries, conversationId: bigint): Promise<void> {
  await queries.query(sql.deleteImports, [conversationId]);
}
