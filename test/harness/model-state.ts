// Sessions' states and the filters of lists, in the model.

import {
  type SessionFilter,
  SessionState,
  type SessionSummary,
} from "../../gen/agentstore/v1/sessions.js";
import type { AgentState, StateUpdate } from "../../gen/agentstore/v1/state.js";
import type { Model, ModelSession, Outcome, Seen } from "./model.js";
import { refused, within } from "./model-values.js";
import type { RequestOf } from "./stubs.js";

/** Makes an UpdateState and says how it must end. */
export function updateState(
  model: Model,
  { conversationId, state, expectedEtag }: RequestOf<"updateState">,
  seen: Seen<"updateState">,
): Outcome {
  const found = model.find(conversationId);
  if (!found) return refused("SESSION_NOT_FOUND", { conversation_id: conversationId });
  const refusal = refuseEtag(found, expectedEtag);
  if (refusal) return refusal;
  const given = seen.answer?.state;
  found.session.revision++;
  found.session.updatedAt = new Date(seen.from);
  const etag = writeState(model, found, state, given?.etag);
  const { id, revision } = found.session;
  const updatedAt = within(given?.updatedAt, seen);
  return {
    answer: {
      state: { conversationId: id, state: "", etag, revision, updatedAt },
      replayed: false,
    },
  };
}

/** How an append must end whose state expects another one; undefined when it does not. */
export function refuseEtag(found: ModelSession, expected: string | undefined): Outcome | undefined {
  if (expected === undefined || expected === found.etag) return undefined;
  const metadata = { conversation_id: String(found.session.id), etag: found.etag ?? "unknown" };
  return { reason: "ETAG_MISMATCH", metadata };
}

/**
 * Writes the state that came with an append, when its messages are there.
 *
 * @param given the etag that the server answered
 * @returns the etag to answer
 */
export function appendState(
  model: Model,
  found: ModelSession,
  update: StateUpdate | undefined,
  given: string | undefined,
): string {
  return update ? writeState(model, found, update.state, given) : "";
}

function writeState(
  model: Model,
  found: ModelSession,
  state: string | undefined,
  given: string | undefined,
): string {
  found.document = state;
  found.stateRevision = found.session.revision;
  found.etag = newEtag(model, given);
  return found.etag;
}

// An etag that the server gave, when it stood for no other write before; else one that none is.
function newEtag(model: Model, given: string | undefined): string {
  if (!given || model.etags.has(given)) return "not an etag";
  model.etags.add(given);
  return given;
}

/** What GetState must answer. A fork's etag, and that after a roll-back, no other answer tells. */
export function getState(model: Model, id: bigint, seen: Seen<"getState">): Outcome {
  const found = model.find(id);
  if (!found) return refused("SESSION_NOT_FOUND", { conversation_id: id });
  const given = seen.answer?.state;
  found.etag ??= newEtag(model, given?.etag);
  const { document = "", stateRevision: revision, etag } = found;
  const state: AgentState = { conversationId: id, state: document, etag, revision };
  if (document !== "") state.updatedAt = within(given?.updatedAt, { from: 0, to: seen.to });
  return { answer: { state } };
}

/** Whether a filter chooses a session of a list. */
export function chooses(
  filter: SessionFilter,
  { session, lastMessageTime }: SessionSummary,
): boolean {
  const { tags, ownerId, metadata, state } = session!;
  const { allTags, anyTags, created, lastMessage } = filter;
  const time = lastMessageTime?.getTime() ?? Number.NaN;
  const createdAt = session!.createdAt!.getTime();
  return (
    allTags.every((tag) => tags.includes(tag)) &&
    (anyTags.length === 0 || anyTags.some((tag) => tags.includes(tag))) &&
    (filter.ownerId === "" || filter.ownerId === ownerId) &&
    (Object.keys(filter.metadata ?? {}).length === 0 || contains(metadata, filter.metadata)) &&
    (filter.state === SessionState.UNSPECIFIED || filter.state === state) &&
    (!created?.start || createdAt >= created.start.getTime()) &&
    (!created?.end || createdAt < created.end.getTime()) &&
    (!lastMessage?.start || time >= lastMessage.start.getTime()) &&
    (!lastMessage?.end || time < lastMessage.end.getTime())
  );
}

function contains(whole: unknown, part: unknown): boolean {
  if (Array.isArray(part)) {
    return Array.isArray(whole) && part.every((one) => whole.some((other) => contains(other, one)));
  }
  if (typeof part === "object" && part !== null) {
    if (typeof whole !== "object" || whole === null || Array.isArray(whole)) return false;
    const has = whole as Record<string, unknown>;
    return Object.entries(part).every(
      ([key, value]) => Object.hasOwn(has, key) && contains(has[key], value),
    );
  }
  return whole === part;
}
