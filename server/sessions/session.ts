// Sessions between their row and the contract, and the checks of their fields.
import {
  type AgentSession,
  SessionState,
  type SnapshotPolicy,
} from "../../gen/agentstore/v1/sessions.js";
import type { Limits } from "../rpc/call.js";
import { type FieldChecks, isTimeMs } from "../rpc/field-checks.js";
import type { SessionRow } from "./sql.js";

/** Makes the AgentSession of a row. */
export function toAgentSession(row: SessionRow): AgentSession {
  const expired = row.expires_at !== null && row.expires_at.getTime() <= Date.now();
  return {
    id: row.id,
    modelId: row.model_id,
    createdAt: row.created_at,
    title: row.title,
    ownerId: row.owner_id,
    tags: row.tags,
    metadata: row.metadata ?? undefined,
    state: expired ? SessionState.EXPIRED : SessionState.ACTIVE,
    revision: row.revision,
    lastSeq: row.last_seq,
    updatedAt: row.updated_at,
    expiresAt: row.expires_at ?? undefined,
    parent:
      row.parent_conversation_id === null
        ? undefined
        : { conversationId: row.parent_conversation_id, seq: row.parent_seq ?? 0n },
    snapshotPolicy:
      row.snapshot_every_messages === null
        ? undefined
        : {
            everyMessages: row.snapshot_every_messages,
            everyMinutes: row.snapshot_every_minutes ?? 0n,
          },
  };
}

/**
 * Checks a policy of snapshots, if there is one.
 *
 * @param field path of the policy in the request
 */
export function checkSnapshotPolicy(
  field: string,
  policy: SnapshotPolicy | undefined,
  check: FieldChecks,
  limits: Limits,
): void {
  if (!policy) return;
  const { everyMessages, everyMinutes } = policy;
  check.within(`${field}.every_messages`, everyMessages, 0n, limits.snapshotEveryMessages);
  check.within(`${field}.every_minutes`, everyMinutes, 0n, limits.snapshotEveryMinutes);
}

/** The fields of a session that callers set. */
export interface SessionFields {
  title: string;
  ownerId: string;
  tags: string[];
  metadata?: Record<string, unknown> | undefined;
  expiresAt?: Date | undefined;
}

/** Checks the fields of a session; prefix is the path before their names. */
export function checkSessionFields(
  fields: SessionFields,
  check: FieldChecks,
  limits: Limits,
  prefix = "",
): void {
  check.text(`${prefix}title`, fields.title, limits.titleCharacters);
  check.text(`${prefix}owner_id`, fields.ownerId, limits.idCharacters);
  if (fields.tags.length > limits.tags) {
    check.fail(`${prefix}tags`, `must be at most ${limits.tags}`);
  } else {
    fields.tags.forEach((tag, index) => {
      check.requiredText(`${prefix}tags[${index}]`, tag, limits.tagCharacters);
    });
  }
  check.struct(`${prefix}metadata`, fields.metadata, {
    bytes: limits.metadataBytes,
    depth: limits.metadataDepth,
  });
  check.time(`${prefix}expires_at`, fields.expiresAt);
}

/** Drops repeats, keeps the order. */
export function distinctTags(tags: string[]): string[] {
  return [...new Set(tags)];
}

/** A time as it is stored in milliseconds; undefined for none, and for one that no Timestamp has. */
export function toDate(ms: bigint | null): Date | undefined {
  return ms === null || !isTimeMs(ms) ? undefined : new Date(Number(ms));
}
