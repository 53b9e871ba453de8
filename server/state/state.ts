// States between their row and the contract, their checks, and what other slices do with them.
import type { AgentState } from "../../gen/agentstore/v1/state.js";
import type { Queries } from "../db/database.js";
import type { Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import { etagOf } from "./etag.js";
import { isJson } from "./json.js";
import * as sql from "./sql.js";

/** A state that is to be written. */
export interface NewState {
  conversationId: bigint;
  /** JSON text. */
  state: string;
  /** The session's revision at which it is written. */
  revision: bigint;
}

/** A state as other slices keep and restore it. */
export interface StoredState {
  /** JSON text. */
  state: string;
  revision: bigint;
  updatedAt: Date;
}

/** Makes the AgentState of a row. */
export function toAgentState(conversationId: bigint, row: sql.StateRow): AgentState {
  const revision = row.revision ?? 0n;
  return {
    conversationId,
    state: row.state ?? "",
    etag: etagOf(conversationId, revision),
    revision,
    updatedAt: row.updated_at ?? undefined,
  };
}

/** Checks a state that is to be written; prefix is the path before the names of its fields. */
export function checkState(
  { state, expectedEtag }: { state: string; expectedEtag?: string | undefined },
  check: FieldChecks,
  limits: Limits,
  prefix = "",
): void {
  const field = `${prefix}state`;
  if (state === "") check.fail(field, "is required");
  else if (Buffer.byteLength(state) > limits.stateBytes) {
    check.fail(field, `must have at most ${limits.stateBytes} bytes`);
  } else if (!isJson(state)) check.fail(field, "must be JSON text");
  check.text(`${prefix}expected_etag`, expectedEtag ?? "", limits.etagCharacters);
}

/** Reads the state of a session; undefined when none was written. */
export async function readState(
  queries: Queries,
  conversationId: bigint,
): Promise<StoredState | undefined> {
  const [row] = await queries.query(sql.readState, [conversationId]);
  return row && { state: row.state, revision: row.revision, updatedAt: row.updated_at };
}

/** Writes the states of sessions whose rows the transaction has locked; one for each session. */
export async function putStates(queries: Queries, states: NewState[], now: Date): Promise<void> {
  if (states.length === 0) return;
  await queries.query(sql.putStates, [
    states.map(({ conversationId }) => conversationId),
    states.map(({ state }) => state),
    states.map(({ revision }) => revision),
    now,
  ]);
}

/**
 * Reads at which revisions of their sessions states were written; sessions without one are left
 * out.
 */
export async function findStateRevisions(
  queries: Queries,
  conversationIds: bigint[],
): Promise<Map<bigint, bigint>> {
  const rows = await queries.query(sql.findStateRevisions, [conversationIds]);
  return new Map(rows.map(({ conversation_id, revision }) => [conversation_id, revision]));
}

/** Removes the state of a session whose row the transaction has locked. */
export async function deleteState(queries: Queries, conversationId: bigint): Promise<void> {
  await queries.query(sql.deleteState, [conversationId]);
}
