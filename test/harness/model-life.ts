// What happens to a conversation after it was said, in the model: versions, forks, snapshots.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import type { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { RestoreMode, type SessionSnapshot } from "../../gen/agentstore/v1/snapshots.js";
import { MessageChange, type MessageVersion } from "../../gen/agentstore/v1/versions.js";
import type { Model, ModelSession, Outcome, Seen } from "./model.js";
import { refused, rising, within } from "./model-values.js";
import type { RequestOf } from "./stubs.js";

/** The RPCs that this file models. */
export type LifeName =
  | "updateMessage"
  | "deleteMessage"
  | "undeleteMessage"
  | "revertMessage"
  | "forkSession"
  | "createSnapshot"
  | "restoreSnapshot"
  | "deleteSnapshot";

/** A version of a message, and when it was made at the earliest and the latest. */
export interface ModelVersion {
  message: AgentMessage;
  change: MessageChange;
  from: number;
  to: number;
}

/** A snapshot, with a copy of all that it stands for. */
export interface ModelSnapshot {
  snapshot: SessionSnapshot;
  messages: AgentMessage[];
  document: string | undefined;
}

/** What a mask's paths are called in a message. */
export const MESSAGE_PATHS: Record<string, keyof AgentMessage> = {
  role: "role",
  content: "content",
  timestamp_ms: "timestampMs",
  name: "name",
  tool_calls: "toolCalls",
  tool_call_id: "toolCallId",
  payload: "payload",
  payload_type: "payloadType",
  metadata: "metadata",
  usage: "usage",
};

/** Makes a write of this file's and says how it must end. */
export function applyLife(model: Model, name: LifeName, request: object, seen: Seen): Outcome {
  const id =
    (request as { conversationId?: bigint }).conversationId ??
    (request as RequestOf<"updateMessage">).message?.conversationId;
  const found = model.find(id);
  if (!found) return refused("SESSION_NOT_FOUND", { conversation_id: id });
  switch (name) {
    case "forkSession":
      return fork(model, found, request, seen);
    case "createSnapshot":
      return createSnapshot(found, request, seen);
    case "restoreSnapshot":
      return restoreSnapshot(model, found, request, seen);
    case "deleteSnapshot":
      return deleteSnapshot(found, request);
    default:
      return change(found, name, request, seen);
  }
}

function change(
  found: ModelSession,
  name: "updateMessage" | "deleteMessage" | "undeleteMessage" | "revertMessage",
  request: object,
  seen: Seen,
): Outcome {
  const key = (request as RequestOf<"updateMessage">).message ?? (request as { seq: bigint });
  const { expectedRevision } = request as { expectedRevision?: bigint };
  const names = { conversation_id: found.session.id, seq: key.seq };
  const current = found.messages[Number(key.seq) - 1];
  if (!current) {
    return refused("MESSAGE_NOT_FOUND", { ...names, last_seq: found.session.lastSeq });
  }
  if (expectedRevision !== undefined && expectedRevision !== current.revision) {
    const revisions = { expected_revision: expectedRevision, revision: current.revision };
    return refused("REVISION_MISMATCH", { ...names, ...revisions });
  }
  const given = (seen.answer as { message?: AgentMessage } | undefined)?.message;
  const deleted = current.deletedAt !== undefined;
  switch (name) {
    case "updateMessage": {
      if (deleted) return refused("MESSAGE_DELETED", names);
      const { message, updateMask = [] } = request as RequestOf<"updateMessage">;
      const paths = updateMask.map((path) => MESSAGE_PATHS[path]!);
      const changed = Object.fromEntries(paths.map((path) => [path, message![path]]));
      const editedAt = within(given?.editedAt, seen);
      return {
        answer: next(found, key.seq, { ...changed, editedAt }, MessageChange.UPDATED, seen),
      };
    }
    case "deleteMessage": {
      if (deleted) return refused("MESSAGE_DELETED", names);
      const deletedAt = within(given?.deletedAt, seen);
      return { answer: next(found, key.seq, { deletedAt }, MessageChange.DELETED, seen) };
    }
    case "undeleteMessage":
      if (!deleted) return refused("MESSAGE_NOT_DELETED", names);
      return {
        answer: next(found, key.seq, { deletedAt: undefined }, MessageChange.UNDELETED, seen),
      };
    case "revertMessage": {
      const { version } = request as { version: bigint };
      const versions = found.versions[Number(key.seq) - 1]!;
      const old = versions[Number(version) - 1]?.message;
      if (!old) {
        const last = BigInt(versions.length);
        return refused("VERSION_NOT_FOUND", { ...names, version, last_version: last });
      }
      const editedAt = within(given?.editedAt, seen);
      const back = { ...old, editedAt, deletedAt: old.deletedAt && editedAt };
      return { answer: next(found, key.seq, back, MessageChange.REVERTED, seen) };
    }
  }
}

// Writes the next version of a message. Messages are never changed in place: answers keep them.
function next(
  found: ModelSession,
  seq: bigint,
  fields: Partial<AgentMessage>,
  change: MessageChange,
  { from, to }: { from: number; to: number },
): { message: AgentMessage; replayed: false } {
  const { session, messages, versions } = found;
  const place = Number(seq) - 1;
  const before = messages[place]!;
  const version = before.version + 1n;
  const message = { ...before, ...fields, version, revision: ++session.revision };
  messages[place] = message;
  versions[place]!.push({ message, change, from, to });
  session.updatedAt = new Date(from);
  return { message, replayed: false };
}

function fork(
  model: Model,
  found: ModelSession,
  request: RequestOf<"forkSession">,
  seen: Seen,
): Outcome {
  const { session, messages, document } = found;
  const seq = request.atSeq ?? session.lastSeq;
  if (seq > session.lastSeq) {
    const names = { conversation_id: session.id, seq, last_seq: session.lastSeq };
    return refused("MESSAGE_NOT_FOUND", names);
  }
  const kept = seq === session.lastSeq ? document : undefined;
  return forkOf(model, found, messages.slice(0, Number(seq)), kept, seen);
}

function forkOf(
  model: Model,
  { session: parent }: ModelSession,
  copied: AgentMessage[],
  document: string | undefined,
  seen: Seen,
): Outcome {
  const given = (seen.answer as { session?: AgentSession } | undefined)?.session;
  const created = within(given?.createdAt, seen);
  const seq = BigInt(copied.length);
  const id = rising(given?.id, model.sessions.at(-1)!.session.id);
  const session: AgentSession = {
    ...parent,
    id,
    createdAt: created,
    updatedAt: created,
    revision: seq + 1n,
    lastSeq: seq,
    parent: { conversationId: parent.id, seq },
  };
  const messages = copied.map((message) => ({
    ...message,
    // No answer tells it; a read does, see learnIds.
    id: 0n,
    conversationId: id,
    revision: message.seq + 1n,
    version: 1n,
    editedAt: undefined,
  }));
  const { FORKED } = MessageChange;
  model.sessions.push({
    session,
    messages,
    versions: messages.map((message) => [
      { message, change: FORKED, from: seen.from, to: seen.to },
    ]),
    snapshots: [],
    document,
    stateRevision: document === undefined ? 0n : seq + 1n,
    etag: document === undefined ? "" : undefined,
    deleted: false,
    answers: new Map(),
  });
  return { answer: { session: { ...session }, replayed: false } };
}

function createSnapshot(
  { session, messages, snapshots, document }: ModelSession,
  { name = "" }: RequestOf<"createSnapshot">,
  seen: Seen,
): Outcome {
  const given = (seen.answer as { snapshot?: SessionSnapshot } | undefined)?.snapshot;
  const snapshot: SessionSnapshot = {
    id: rising(given?.id, snapshots.at(-1)?.snapshot.id ?? 0n),
    conversationId: session.id,
    name,
    byPolicy: false,
    revision: session.revision,
    lastSeq: session.lastSeq,
    messageCount: BigInt(messages.filter(({ deletedAt }) => !deletedAt).length),
    createdBy: "anonymous",
    createdAt: within(given?.createdAt, seen),
  };
  snapshots.push({ snapshot, messages: [...messages], document });
  return { answer: { snapshot, replayed: false } };
}

function restoreSnapshot(
  model: Model,
  found: ModelSession,
  { snapshotId, mode, expectedRevision }: RequestOf<"restoreSnapshot">,
  seen: Seen,
): Outcome {
  const { session, snapshots } = found;
  const names = { conversation_id: session.id };
  const target = snapshots.find(({ snapshot }) => snapshot.id === snapshotId);
  if (!target) return refused("SNAPSHOT_NOT_FOUND", { ...names, snapshot_id: snapshotId });
  if (expectedRevision !== undefined && expectedRevision !== session.revision) {
    const revisions = { expected_revision: expectedRevision, revision: session.revision };
    return refused("REVISION_MISMATCH", { ...names, ...revisions });
  }
  if (mode === RestoreMode.FORK) {
    return forkOf(model, found, target.messages, target.document, seen);
  }
  const given = (seen.answer as { session?: AgentSession } | undefined)?.session;
  const before = session.revision;
  const at = within(given?.updatedAt, seen);
  for (const [place, current] of found.messages.entries()) {
    const then = target.messages[place];
    if (!then && !current.deletedAt) {
      next(found, current.seq, { deletedAt: at }, MessageChange.DELETED, seen);
    } else if (then && current.revision !== then.revision) {
      const back = { ...then, editedAt: at, deletedAt: then.deletedAt && at };
      next(found, current.seq, back, MessageChange.REVERTED, seen);
    }
  }
  if (found.document !== target.document) {
    found.document = target.document;
    session.revision++;
    found.stateRevision = target.document === undefined ? 0n : session.revision;
    found.etag = target.document === undefined ? "" : undefined;
  }
  if (session.revision !== before) session.updatedAt = at;
  else model.observe(given, seen.to);
  return { answer: { session: { ...session }, replayed: false } };
}

function deleteSnapshot(found: ModelSession, { snapshotId }: RequestOf<"deleteSnapshot">): Outcome {
  const left = found.snapshots.filter(({ snapshot }) => snapshot.id !== snapshotId);
  const deleted = left.length < found.snapshots.length;
  found.snapshots = left;
  return { answer: { deleted, replayed: false } };
}

/** Takes over the ids of a fork's messages from a read of all of them, if they are possible ones. */
export function learnIds(model: Model, forkId: bigint, read: AgentMessage[]): void {
  const found = model.find(forkId);
  if (!found) return;
  for (const [place, message] of found.messages.entries()) {
    message.id = rising(read[place]?.id, model.lastMessageId);
    model.lastMessageId = message.id;
  }
}

/** What ListMessageVersions must answer on its only page. */
export function listVersions(
  model: Model,
  id: bigint,
  seq: bigint,
  given: MessageVersion[],
): Outcome {
  const found = model.find(id);
  if (!found) return refused("SESSION_NOT_FOUND", { conversation_id: id });
  const versions = found.versions[Number(seq) - 1];
  if (!versions) {
    const names = { conversation_id: id, seq, last_seq: found.session.lastSeq };
    return refused("MESSAGE_NOT_FOUND", names);
  }
  const listed = versions.toReversed().map(({ message, change, from, to }, place) => ({
    message,
    change,
    changedBy: "anonymous",
    changedAt: within(given[place]?.changedAt, { from, to }),
  }));
  return { answer: { versions: listed, nextPageToken: "" } };
}

/** What GetMessage must answer. */
export function getMessage(
  model: Model,
  { conversationId, seq = 0n, version = 0n, showDeleted }: RequestOf<"getMessage">,
): Outcome {
  const found = model.find(conversationId);
  const names = { conversation_id: conversationId };
  if (!found) return refused("SESSION_NOT_FOUND", names);
  const current = found.messages[Number(seq) - 1];
  const key = { ...names, seq };
  if (!current) {
    return refused("MESSAGE_NOT_FOUND", { ...key, last_seq: found.session.lastSeq });
  }
  if (current.deletedAt && !showDeleted) return refused("MESSAGE_DELETED", key);
  if (version === 0n) return { answer: { message: current } };
  const message = found.versions[Number(seq) - 1]![Number(version) - 1]?.message;
  if (message) return { answer: { message } };
  return refused("VERSION_NOT_FOUND", { ...key, version, last_version: current.version });
}

/** What ListSnapshots must answer on its only page. */
export function listSnapshots(model: Model, id: bigint): Outcome {
  const found = model.find(id);
  if (!found) return refused("SESSION_NOT_FOUND", { conversation_id: id });
  const snapshots = found.snapshots.map(({ snapshot }) => snapshot).reverse();
  return { answer: { snapshots, nextPageToken: "" } };
}

/** What GetSnapshot must answer. */
export function getSnapshot(model: Model, id: bigint, snapshotId: bigint): Outcome {
  const found = model.find(id);
  if (!found) return refused("SESSION_NOT_FOUND", { conversation_id: id });
  const target = found.snapshots.find(({ snapshot }) => snapshot.id === snapshotId);
  if (!target) {
    return refused("SNAPSHOT_NOT_FOUND", { conversation_id: id, snapshot_id: snapshotId });
  }
  return { answer: { snapshot: { ...target.snapshot, state: target.document } } };
}
