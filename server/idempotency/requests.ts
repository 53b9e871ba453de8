// Writes that can be repeated: an answer is kept in the transaction of its write.

import { limits } from "../config.js";
import {
  byteaColumn,
  int8Column,
  int8Parameter,
  textColumn,
  timeParameter,
} from "../db/array-parameter.js";
import type { Database, Queries, Step } from "../db/database.js";
import { fieldError, writeConflict } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import type { ConversationRequestRow } from "./sql.js";
import * as sql from "./sql.js";

/** A write to a session that may have been made before. */
export interface RepeatableWrite {
  conversationId: bigint;
  tenant: string;
  /** Empty when the caller gave none: then nothing is kept. */
  requestId: string;
  /** From fingerprint(). */
  fingerprint: Buffer;
}

/** A write of a tenant that may have been made before. */
export interface TenantWrite {
  tenant: string;
  /** Empty when the caller gave none: then nothing is kept. */
  requestId: string;
  /** From fingerprint(). */
  fingerprint: Buffer;
  /** The session that the answer tells of, if it does. */
  conversationId?: bigint;
}

/** What is kept of a write's answer. */
export interface KeptAnswer {
  firstSeq?: bigint;
  lastSeq?: bigint;
  /** The encoded answer, where it cannot be read again from the messages. */
  answer?: Uint8Array;
}

/**
 * Thrown inside a transaction to roll it back and run it anew: the same request
 * has just been answered, or what stood in its way has gone.
 */
export class TryAgain extends Error {}

/** Checks a request_id's form. */
export function checkRequestId(check: FieldChecks, requestId: string): void {
  check.text("request_id", requestId, limits.requestIdCharacters);
}

/**
 * Finds what was answered to this request before.
 *
 * @returns null when it is new or carries no request_id
 * @throws REQUEST_ID_REUSED when the request_id belongs to another request
 */
export async function findAnswer(
  queries: Queries,
  { conversationId, tenant, requestId, fingerprint }: RepeatableWrite,
): Promise<ConversationRequestRow | null> {
  if (requestId === "") return null;
  const [row] = await queries.query(sql.findConversationRequest, [
    conversationId,
    requestId,
    tenant,
  ]);
  if (!row) return null;
  assertSameRequest(row.fingerprint, fingerprint);
  return row;
}

/**
 * Keeps the answer of a write, as the last step of its transaction.
 *
 * @throws TryAgain when the same request was committed since findAnswer
 */
export async function keepAnswer(
  queries: Queries,
  { conversationId, tenant, requestId, fingerprint }: RepeatableWrite,
  { firstSeq, lastSeq, answer }: KeptAnswer,
  now: Date,
): Promise<void> {
  if (requestId === "") return;
  const values = [conversationId, requestId, tenant, fingerprint, firstSeq, lastSeq, answer, now];
  const inserted = await queries.query(sql.insertConversationRequest, values);
  if (inserted.length === 0) throw new TryAgain();
}

/** An answer that a session keeps. */
export type KeptRequest = sql.KeptRequestRow;

/** As findAnswer, for several writes; leaves it to the caller to compare the fingerprints. */
export async function findAnswers(
  queries: Queries,
  writes: RepeatableWrite[],
): Promise<KeptRequest[]> {
  const repeatable = writes.filter(({ requestId }) => requestId !== "");
  if (repeatable.length === 0) return [];
  return await queries.query(sql.findConversationRequests, [
    int8Column(repeatable, ({ conversationId }) => conversationId),
    textColumn(repeatable, ({ requestId }) => requestId),
  ]);
}

/** As findAnswers, on Citus: by a statement for each session, which names its shard. */
export async function findAnswersInShard(
  queries: Queries,
  writes: RepeatableWrite[],
): Promise<KeptRequest[]> {
  const asked = new Map<bigint, string[]>();
  for (const { conversationId, requestId } of writes) {
    if (requestId === "") continue;
    asked.set(conversationId, [...(asked.get(conversationId) ?? []), requestId]);
  }
  const found = [...asked].map((values) => queries.query(sql.findRequestsInShard, values));
  return (await Promise.all(found)).flat();
}

/** An answer of an append that is to be kept. */
export interface NewAnswer {
  write: RepeatableWrite;
  firstSeq: bigint;
  lastSeq: bigint;
  stateEtag: string;
}

/** Keeps the answers of appends; fails when one of them is kept already. */
export function keepAnswers(answers: NewAnswer[], nowMs: number): Step {
  const values = [...answerColumns(answers), timeParameter(nowMs)];
  return { statement: sql.insertConversationRequests, values, onRow: () => {} };
}

/** As keepAnswers, on Citus: by a statement that names the session's shard. */
export function keepAnswerInShard(answer: NewAnswer, nowMs: number): Step {
  const { conversationId } = answer.write;
  const values = [
    int8Parameter(conversationId),
    ...answerColumns([answer]).slice(1),
    timeParameter(nowMs),
  ];
  return { statement: sql.insertRequestInShard, values, onRow: () => {} };
}

// In the order of sql.insertConversationRequests, up to the time.
function answerColumns(answers: NewAnswer[]): (Buffer | null)[] {
  return [
    int8Column(answers, ({ write }) => write.conversationId),
    textColumn(answers, ({ write }) => write.requestId),
    textColumn(answers, ({ write }) => write.tenant),
    byteaColumn(answers, ({ write }) => write.fingerprint),
    int8Column(answers, ({ firstSeq }) => firstSeq),
    int8Column(answers, ({ lastSeq }) => lastSeq),
    byteaColumn(answers, ({ stateEtag }) => (stateEtag === "" ? null : Buffer.from(stateEtag))),
  ];
}

/**
 * Forgets all answers of a session that is about to be deleted. The tenant's answer that tells of
 * its creation stays.
 */
export async function forgetAnswers(queries: Queries, conversationId: bigint): Promise<void> {
  await Promise.all([
    queries.query(sql.deleteConversationRequests, [conversationId]),
    queries.query(sql.leaveOwnerToAnswers, [conversationId]),
  ]);
}

/** As findAnswer, for writes of a tenant; returns the encoded answer. */
export async function findTenantAnswer(
  context: CallContext,
  requestId: string,
  fingerprint: Buffer,
): Promise<Buffer | null> {
  if (requestId === "") return null;
  const values = [context.principal.tenant, requestId];
  const [row] = await context.db.query(sql.findTenantRequest, values, context.signal);
  if (!row) return null;
  assertSameRequest(row.fingerprint, fingerprint);
  return row.answer;
}

/**
 * As keepAnswer, for writes of a tenant.
 *
 * @throws TryAgain when the same request was committed since findTenantAnswer
 */
export async function keepTenantAnswer(
  queries: Queries,
  { tenant, requestId, fingerprint, conversationId }: TenantWrite,
  answer: Uint8Array,
  now: Date,
): Promise<void> {
  if (requestId === "") return;
  const values = [tenant, requestId, fingerprint, answer, now, conversationId];
  const inserted = await queries.query(sql.insertTenantRequest, values);
  if (inserted.length === 0) throw new TryAgain();
}

/**
 * As findTenantAnswer and a transaction, one after the other: a write of a tenant that was made
 * before is not made again.
 *
 * @returns the encoded answer of before, or what the write returns
 * @throws WRITE_CONFLICT when that did not end after ten times
 */
export async function repeatableInTenant<T>(
  context: CallContext,
  requestId: string,
  fingerprint: Buffer,
  write: (queries: Queries) => Promise<T>,
): Promise<{ answer: Buffer } | { written: T }> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const answer = await findTenantAnswer(context, requestId, fingerprint);
    if (answer) return { answer };
    try {
      return { written: await context.db.transaction(write, context.signal) };
    } catch (error) {
      if (!(error instanceof TryAgain)) throw error;
    }
  }
  throw writeConflict();
}

/**
 * Forgets answers that are older than a time, a batch at a time.
 *
 * @returns how many
 */
export async function forgetOldAnswers(
  db: Database,
  before: Date,
  signal: AbortSignal,
): Promise<number> {
  let forgotten = 0;
  const ofSessions = db.shards ? sql.deleteOldRequestsOfShards : sql.deleteOldConversationRequests;
  for (const old of [ofSessions, sql.deleteOldTenantRequests]) {
    let batch: { gone: bigint } | undefined;
    do {
      [batch] = await db.query(old, [before, limits.answersBatch], signal);
      forgotten += Number(batch?.gone ?? 0n);
    } while (batch?.gone === BigInt(limits.answersBatch));
  }
  return forgotten;
}

const MOST_TRIES = 10;

/**
 * Runs a write in a transaction, and runs it anew when it throws TryAgain.
 *
 * @throws WRITE_CONFLICT when that did not end after ten times
 */
export async function repeatable<T>(
  context: CallContext,
  write: (queries: Queries) => Promise<T>,
): Promise<T> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    try {
      return await context.db.transaction(write, context.signal);
    } catch (error) {
      if (!(error instanceof TryAgain)) throw error;
    }
  }
  throw writeConflict();
}

/**
 * Compares the fingerprints of two requests with the same request_id.
 *
 * @throws REQUEST_ID_REUSED
 */
export function assertSameRequest(kept: Buffer, given: Buffer): void {
  if (kept.equals(given)) return;
  throw fieldError(
    "REQUEST_ID_REUSED",
    "request_id",
    "was used before for another request; take a new one for each new write",
  );
}
