// Takes from a fork what it has of another session, and leaves the rest of it as it is.
import { recordAudit } from "../audit/record.js";
import { recordChange } from "../changes/record.js";
import type { Queries } from "../db/database.js";
import { forgetChanged } from "../embeddings/forget.js";
import { countChanges } from "../messages/versions/sql.js";
import type { CallContext } from "../rpc/call.js";
import { forgetMessages } from "../search/forget.js";
import { syncLabels } from "../sessions/labels.js";
import type { Removed } from "./receipt.js";
import * as sql from "./sql.js";

/**
 * Empties the messages that a fork has of a session, with their history, and removes the title, tags,
 * metadata, state and snapshots that it still has from there. The messages keep their seqs and are
 * deleted; the fork's counters follow.
 */
export async function emptyShare(
  queries: Queries,
  context: CallContext,
  { fork, ancestor, after_seq: after, seq, inherited }: sql.ShareRow,
): Promise<Removed> {
  const [locked] = await queries.query(sql.lockFork, [fork]);
  if (!locked) return {};
  const now = new Date();
  const range = [fork, after, seq];
  // Each message that changes takes a revision of its own.
  const revision = locked.revision + (seq > after ? seq - after : 1n);
  const [, emptied, , versions, , states, snapshots, answers] = await Promise.all([
    queries.query(sql.keepVersions, range),
    queries.query(sql.emptyMessages, [...range, locked.revision, context.principal.name, now]),
    queries.query(countChanges, [fork, after + 1n, seq, locked.revision, revision, now]),
    queries.query(sql.emptyVersions, [...range, now]),
    queries.query(sql.clearInherited, [fork, inherited]),
    queries.query(sql.deleteInheritedState, [fork, inherited]),
    queries.query(sql.deleteInheritedSnapshots, [fork, inherited]),
    queries.query(sql.forgetAnswersOfFork, [fork]),
    syncLabels(queries, fork),
    queries.query(sql.deleteShare, [fork, ancestor]),
    forgetChanged(queries, {
      conversationId: fork,
      firstSeq: after + 1n,
      lastSeq: seq,
      revision: locked.revision,
    }),
    recordChange(
      queries,
      {
        conversationId: fork,
        tenant: locked.tenant_id,
        firstRevision: locked.revision + 1n,
        lastRevision: revision,
        firstSeq: after + 1n,
        lastSeq: seq,
      },
      now,
    ),
    recordAudit(queries, context, {
      rpc: "EraseOwner",
      conversationId: fork,
      fields: ["messages", "title", "tags", "metadata", "state", "snapshots"],
    }),
    forgetMessages(queries, fork, [after, seq]),
  ]);
  return {
    emptiedMessages: BigInt(emptied.length),
    // Not those that were current a moment ago.
    messageVersions: BigInt(versions.length - emptied.length),
    states: BigInt(states.length),
    snapshots: BigInt(snapshots.length),
    keptAnswers: BigInt(answers.length),
  };
}
