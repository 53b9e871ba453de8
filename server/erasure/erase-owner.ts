// EraseOwner: all that belongs to one person, session by session.
import { createHash } from "node:crypto";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { EraseOwnerRequest, EraseOwnerResponse } from "../../gen/agentstore/v1/erasure.js";
import { recordAudit } from "../audit/record.js";
import type { Queries } from "../db/database.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import type { UnaryRpc } from "../rpc/method.js";
import { deleteEverything } from "../sessions/delete-everything.js";
import { emptyShare } from "./empty-share.js";
import { addTo, emptyReceipt, type Removed } from "./receipt.js";
import * as sql from "./sql.js";

// Each step commits by itself, and in this order a call that is cut short leaves to the next one all
// that it needs to find what is left.
export const eraseOwner: UnaryRpc<EraseOwnerRequest, EraseOwnerResponse> = {
  validate({ ownerId }, check, limits) {
    check.requiredText("owner_id", ownerId, limits.idCharacters);
  },

  async handle({ ownerId }, context) {
    const receipt = emptyReceipt();
    const forks = new Set<bigint>();
    await eraseSessions(context, ownerId, receipt, forks);
    await eraseShares(context, ownerId, receipt, forks);
    addTo(receipt, await eraseAnswers(context, ownerId));
    receipt.forks = BigInt(forks.size);
    context.note({ sessions: receipt.sessions, forks: receipt.forks });
    return receipt;
  },
};

async function eraseSessions(
  context: CallContext,
  ownerId: string,
  receipt: EraseOwnerResponse,
  forks: Set<bigint>,
): Promise<void> {
  const { db, principal, signal, limits } = context;
  for (;;) {
    const values = [principal.tenant, ownerId, limits.eraseBatch];
    const sessions = await db.query(sql.findSessions, values, signal);
    if (sessions.length === 0) return;
    for (const { id } of sessions) {
      const erased = await db.transaction(
        (queries) => eraseSession(queries, context, ownerId, id),
        signal,
      );
      addTo(receipt, erased.removed);
      for (const fork of erased.forks) forks.add(fork);
    }
  }
}

async function eraseSession(
  queries: Queries,
  context: CallContext,
  ownerId: string,
  conversationId: bigint,
): Promise<{ removed: Removed; forks: bigint[] }> {
  const values = [conversationId, context.principal.tenant, ownerId];
  const [locked] = await queries.query(sql.lockSession, values);
  if (!locked) return { removed: {}, forks: [] };
  // After the lock, which whoever is making a fork of the session holds up until it is there.
  const shares = await queries.query(sql.findSharesOfSession, [conversationId, ownerId]);
  const removed: Removed = { sessions: 1n };
  for (const share of shares) addTo(removed, await emptyShare(queries, context, share));
  const [[belongings]] = await Promise.all([
    queries.query(sql.countBelongings, [conversationId]),
    queries.query(sql.forgetCreation, [conversationId]),
    deleteEverything(queries, conversationId, new Date()),
    recordAudit(queries, context, { rpc: "EraseOwner", conversationId }),
  ]);
  const { messages, message_versions, snapshots, states, kept_answers } = present(belongings);
  const messageVersions = message_versions;
  addTo(removed, { messages, messageVersions, snapshots, states, keptAnswers: kept_answers });
  return { removed, forks: shares.map(({ fork }) => fork) };
}

// What forks have of sessions of the owner that were deleted before.
async function eraseShares(
  context: CallContext,
  ownerId: string,
  receipt: EraseOwnerResponse,
  forks: Set<bigint>,
): Promise<void> {
  const { db, principal, signal, limits } = context;
  for (;;) {
    const values = [principal.tenant, ownerId, limits.eraseBatch];
    const shares = await db.query(sql.findSharesOfDeleted, values, signal);
    if (shares.length === 0) return;
    for (const share of shares) {
      addTo(
        receipt,
        await db.transaction((queries) => emptyShare(queries, context, share), signal),
      );
      forks.add(share.fork);
    }
  }
}

// Answers that tell of sessions that are gone, or of what was the owner's once; and the event that
// says whose data was erased, without saying it in clear.
async function eraseAnswers(context: CallContext, ownerId: string): Promise<Removed> {
  const { db, principal, signal } = context;
  const { tenant } = principal;
  const name = new BinaryWriter()
    .tag(OWNER_ID_FIELD, WireType.LengthDelimited)
    .string(ownerId)
    .finish();
  return await db.transaction(async (queries) => {
    const [ofTenant, ofSessions] = await Promise.all([
      queries.query(sql.forgetTenantAnswers, [tenant, ownerId, name]),
      queries.query(sql.forgetAnswersThatName, [tenant, name]),
      recordAudit(queries, context, {
        rpc: "EraseOwner",
        fields: [`sha256:${createHash("sha256").update(ownerId).digest("hex")}`],
      }),
    ]);
    return { keptAnswers: BigInt(ofTenant.length + ofSessions.length) };
  }, signal);
}

/** The field owner_id of AgentSession, which answers are made of. */
const OWNER_ID_FIELD = 5;
