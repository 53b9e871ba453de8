// The checks of what an import holds, each line by itself.
import type { NewMessage } from "../../gen/agentstore/v1/messages.js";
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import type { SessionSnapshot } from "../../gen/agentstore/v1/snapshots.js";
import type { AgentState } from "../../gen/agentstore/v1/state.js";
import { MessageChange, type MessageVersion } from "../../gen/agentstore/v1/versions.js";
import { checkMessage } from "../messages/check-message.js";
import type { Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import { checkSessionFields, checkSnapshotPolicy } from "../sessions/session.js";
import { checkState } from "../state/state.js";

/** Adds what is wrong with a session to the checks. */
export function checkSession(session: AgentSession, check: FieldChecks, limits: Limits): void {
  check.positive("session.id", session.id);
  check.requiredText("session.model_id", session.modelId, limits.idCharacters);
  checkSessionFields(session, check, limits, "session.");
  check.positive("session.revision", session.revision);
  check.notNegative("session.last_seq", session.lastSeq);
  required("session.created_at", session.createdAt, check);
  required("session.updated_at", session.updatedAt, check);
  checkSnapshotPolicy("session.snapshot_policy", session.snapshotPolicy, check, limits);
  if (session.parent) {
    check.positive("session.parent.conversation_id", session.parent.conversationId);
    check.notNegative("session.parent.seq", session.parent.seq);
  }
}

/**
 * Adds what is wrong with a message, or a version of one, to the checks.
 *
 * @param field `message` or `version`
 * @param timed whether it has a time
 * @throws MESSAGE_TOO_LARGE
 */
export function checkVersion(
  field: string,
  { message, change, changedBy, changedAt }: MessageVersion,
  session: AgentSession,
  timed: boolean,
  check: FieldChecks,
  limits: Limits,
): void {
  if (!message) {
    check.fail(`${field}.message`, "is required");
    return;
  }
  const { timestampMs, ...rest } = message;
  const asNew: NewMessage = timed ? { ...rest, timestampMs } : rest;
  checkMessage(`${field}.message`, asNew, check, limits);
  check.positive(`${field}.message.seq`, message.seq);
  check.positive(`${field}.message.version`, message.version);
  check.within(`${field}.message.revision`, message.revision, 1n, session.revision);
  check.time(`${field}.message.edited_at`, message.editedAt);
  check.time(`${field}.message.deleted_at`, message.deletedAt);
  check.enumValue(`${field}.change`, change, MessageChange, { zero: false });
  check.text(`${field}.changed_by`, changedBy, limits.idCharacters);
  check.time(`${field}.changed_at`, changedAt);
  if (message.conversationId !== session.id) {
    check.fail(`${field}.message.conversation_id`, "must be the session's");
  }
}

/** Adds what is wrong with a state to the checks. */
export function checkStateLine(
  { conversationId, state, revision, updatedAt }: AgentState,
  session: AgentSession,
  check: FieldChecks,
  limits: Limits,
): void {
  checkState({ state }, check, limits, "state.");
  check.within("state.revision", revision, 1n, session.revision);
  required("state.updated_at", updatedAt, check);
  if (conversationId !== session.id) check.fail("state.conversation_id", "must be the session's");
}

/** Adds what is wrong with a snapshot to the checks. */
export function checkSnapshot(
  snapshot: SessionSnapshot,
  session: AgentSession,
  check: FieldChecks,
  limits: Limits,
): void {
  check.text("snapshot.name", snapshot.name, limits.idCharacters);
  check.within("snapshot.revision", snapshot.revision, 1n, session.revision);
  check.within("snapshot.last_seq", snapshot.lastSeq, 0n, session.lastSeq);
  check.within("snapshot.message_count", snapshot.messageCount, 0n, snapshot.lastSeq);
  check.text("snapshot.created_by", snapshot.createdBy, limits.idCharacters);
  required("snapshot.created_at", snapshot.createdAt, check);
  const { state } = snapshot;
  if (state !== undefined) checkState({ state }, check, limits, "snapshot.");
  if (snapshot.conversationId !== session.id) {
    check.fail("snapshot.conversation_id", "must be the session's");
  }
}

function required(field: string, time: Date | undefined, check: FieldChecks): void {
  if (time) check.time(field, time);
  else check.fail(field, "is required");
}
