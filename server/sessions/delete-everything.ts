// Removes a session with all that belongs to it: for DeleteSession, the sweep and EraseOwner.
import { recordRemoval } from "../changes/record.js";
import type { Queries } from "../db/database.js";
import { forgetEmbeddings } from "../embeddings/forget.js";
import { forgetAnswers } from "../idempotency/requests.js";
import { deleteAllMessages } from "../messages/delete-all-messages.js";
import { present } from "../present.js";
import { forgetSession } from "../search/forget.js";
import { deleteAllSnapshots } from "../snapshots/snapshot.js";
import { deleteState } from "../state/state.js";
import { forgetImport } from "../transfer/forget-import.js";
import * as labels from "./labels-sql.js";
import * as sql from "./sql.js";

/**
 * Removes a session whose row the transaction has locked, and records that. Forks of it stay as they
 * are.
 *
 * @throws SCHEMA_CONFLICT when a table of the operator's own refers to the session
 */
export async function deleteEverything(
  queries: Queries,
  conversationId: bigint,
  now: Date,
): Promise<void> {
  const id = [conversationId];
  // In this order on the wire: the session's own row goes last.
  const belongings = [
    deleteAllMessages(queries, conversationId),
    forgetEmbeddings(queries, conversationId),
    forgetSession(queries, conversationId),
    forgetAnswers(queries, conversationId),
    forgetImport(queries, conversationId),
    deleteState(queries, conversationId),
    deleteAllSnapshots(queries, conversationId),
    queries.query(labels.leaveOwnerToForks, id),
    queries.query(labels.deleteAncestry, id),
    queries.query(labels.deleteLabels, id),
    queries.query(labels.deleteTags, id),
  ];
  const [[session]] = await Promise.all([queries.query(sql.deleteSession, id), ...belongings]);
  const { tenant_id: tenant, revision: last } = present(session);
  await recordRemoval(queries, { conversationId, tenant, last }, now);
}
