// Changes one message: its history, its session's counters, the answer and the audit event in one
// transaction.
import { AgentMessage } from "../../../gen/agentstore/v1/messages.js";
import { recordAudit } from "../../audit/record.js";
import { recordChange } from "../../changes/record.js";
import type { Queries } from "../../db/database.js";
import { forgetChanged } from "../../embeddings/forget.js";
import { sessionNotFound } from "../../errors/rpc-error.js";
import { fingerprint } from "../../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../../idempotency/requests.js";
import { present } from "../../present.js";
import type { CallContext } from "../../rpc/call.js";
import type { FieldChecks } from "../../rpc/field-checks.js";
import { assertRevision, messageNotFound, versionNotFound } from "../errors.js";
import { toAgentMessage } from "../message.js";
import type { VersionRow } from "./sql.js";
import * as sql from "./sql.js";

/** What the requests for a change have in common. */
export interface ChangeRequest {
  conversationId: bigint;
  seq: bigint;
  requestId: string;
  expectedRevision?: bigint | undefined;
}

/** What the answers to a change have in common. */
export interface Changed {
  message: AgentMessage;
  replayed: boolean;
}

/** Writes the next version of a message. */
export interface Change {
  /** The RPC's name. */
  rpc: string;
  /** The fields that change, by their names in the contract, for the audit log. */
  fields?: readonly string[];
  /**
   * Makes the change, when the version that it supersedes is in the history already.
   *
   * @param current that version
   * @param stamp the first values of the statement: the message's key, the revision to write, who
   *   and when
   * @throws RpcError when the change is not possible
   */
  apply: (
    queries: Queries,
    current: VersionRow,
    stamp: [bigint, bigint, bigint, string, Date],
  ) => Promise<VersionRow>;
}

/** Adds what is wrong with a request for a change, apart from the change, to the checks. */
export function checkChange(request: ChangeRequest, check: FieldChecks): void {
  check.positive("conversation_id", request.conversationId);
  check.positive("seq", request.seq);
  checkRequestId(check, request.requestId);
  checkExpectedRevision(request.expectedRevision, check);
}

/** Checks an expected_revision, if there is one. */
export function checkExpectedRevision(revision: bigint | undefined, check: FieldChecks): void {
  if (revision !== undefined && revision <= 0n) check.fail("expected_revision", "must be positive");
}

/**
 * Makes a change.
 *
 * @param request the fields that all changes have
 * @param asked the whole request, which a repeat must equal
 * @throws SESSION_NOT_FOUND, MESSAGE_NOT_FOUND, REVISION_MISMATCH, REQUEST_ID_REUSED, and what
 *   change.apply throws
 */
export async function changeMessage(
  context: CallContext,
  request: ChangeRequest,
  asked: { requestId: string },
  { rpc, fields, apply }: Change,
): Promise<Changed> {
  const { conversationId, seq, requestId, expectedRevision } = request;
  const { principal } = context;
  const write = {
    conversationId,
    tenant: principal.tenant,
    requestId,
    fingerprint: fingerprint(context, rpc, asked),
  };
  context.note({ conversation_id: conversationId, seq });
  const changed = await repeatable(context, async (queries) => {
    // All but the lock in statements after it, so that they see what it waited for.
    const [[session], kept, [current]] = await Promise.all([
      queries.query(sql.lockSession, [conversationId, principal.tenant]),
      findAnswer(queries, write),
      queries.query(sql.getCurrent, [conversationId, seq]),
    ]);
    if (kept) return await replay(queries, request, present(kept.answer));
    if (!session) throw sessionNotFound(conversationId);
    if (!current) throw messageNotFound(request, session.last_seq);
    assertRevision(expectedRevision, current.revision, request);
    const now = new Date();
    const revision = session.revision + 1n;
    const [, row] = await Promise.all([
      queries.query(sql.keepVersion, [conversationId, seq]),
      apply(queries, current, [conversationId, seq, revision, principal.name, now]),
    ]);
    const answer = encodeAnswer(row);
    await Promise.all([
      queries.query(sql.countChanges, [conversationId, seq, seq, session.revision, revision, now]),
      forgetChanged(queries, {
        conversationId,
        firstSeq: seq,
        lastSeq: seq,
        revision: session.revision,
      }),
      keepAnswer(queries, write, { answer }, now),
      recordChange(
        queries,
        {
          conversationId,
          tenant: principal.tenant,
          firstRevision: revision,
          lastRevision: revision,
          firstSeq: seq,
          lastSeq: seq,
        },
        now,
      ),
      recordAudit(queries, context, { rpc, conversationId, seq, fields, requestId }),
    ]);
    return { message: toAgentMessage(row), replayed: false };
  });
  context.note({ version: changed.message.version, replayed: changed.replayed });
  context.snapshots.changed(conversationId);
  return changed;
}

// Which version it was is enough: it can be read again for as long as the message is there.
function encodeAnswer({ version }: VersionRow): Uint8Array {
  return AgentMessage.encode(AgentMessage.fromPartial({ version })).finish();
}

async function replay(queries: Queries, key: ChangeRequest, answer: Uint8Array): Promise<Changed> {
  const { version } = AgentMessage.decode(answer);
  const [row] = await queries.query(sql.getVersion, [key.conversationId, key.seq, version]);
  if (!row) throw versionNotFound(key, version, version);
  return { message: toAgentMessage(row), replayed: true };
}
