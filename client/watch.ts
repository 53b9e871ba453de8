// Watches of sessions, which go on by themselves behind the last event that they have told.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import type * as wire from "../gen/agentstore/v1/watch.js";
import type { Connection } from "./connection.js";
import { SessionNotFoundError } from "./errors.js";
import { int64, list, text, textOrEmpty } from "./fields.js";
import { messageFromWire } from "./messages.js";
import { sessionFromWire } from "./sessions.js";
import { WatchStream } from "./watch-stream.js";
import type {
  SessionEvent,
  SessionEventBatch,
  SessionEventPlace,
  WatchSessionOptions,
  WatchSessionsOptions,
} from "./watch-types.js";

export function watchSession(
  connection: Connection,
  id: bigint | number,
  options: WatchSessionOptions,
): AsyncGenerator<SessionEvent, void, undefined> {
  const { after } = options;
  const request: wire.WatchSessionRequest = {
    conversationId: int64(id, "conversation_id"),
    afterRevision: after === undefined ? undefined : int64(after, "after_revision"),
  };
  const { watchSession: method } = AgentStoreService;
  return sessionEvents(new WatchStream(connection, method, request, options), request);
}

async function* sessionEvents(
  stream: WatchStream<wire.WatchSessionRequest, wire.WatchSessionResponse>,
  request: wire.WatchSessionRequest,
): AsyncGenerator<SessionEvent, void, undefined> {
  const scope = stream.open();
  const place = (): SessionEventPlace => ({
    conversationId: request.conversationId,
    revision: request.afterRevision ?? 0n,
  });
  let opened = false;
  try {
    for await (const received of stream.read(scope)) {
      if (received.kind !== "response") {
        yield { ...received, ...place() };
        continue;
      }
      opened = true;
      for (const one of received.response.events) {
        stream.throwIfAborted(scope);
        request.afterRevision = one.revision;
        const event = eventFromWire(one);
        if (event) yield event;
        if (event?.kind === "session_deleted") return;
      }
    }
  } catch (error) {
    // It was there when the watch began, so it was removed while the watch was away.
    if (!opened || !(error instanceof SessionNotFoundError)) throw error;
    yield { kind: "session_deleted", ...place() };
  } finally {
    scope.close();
  }
}

export function watchSessions(
  connection: Connection,
  options: WatchSessionsOptions,
): AsyncGenerator<SessionEventBatch, void, undefined> {
  const { after } = options;
  const request: wire.WatchSessionsRequest = {
    modelId: textOrEmpty(options.modelId, "model_id"),
    ownerId: textOrEmpty(options.ownerId, "owner_id"),
    tags: list(options.tags ?? [], "tags").map((tag, index) => text(tag, `tags[${index}]`)),
    afterPosition: after === undefined ? undefined : text(after, "after_position"),
  };
  const { watchSessions: method } = AgentStoreService;
  return batches(new WatchStream(connection, method, request, options), request);
}

async function* batches(
  stream: WatchStream<wire.WatchSessionsRequest, wire.WatchSessionsResponse>,
  request: wire.WatchSessionsRequest,
): AsyncGenerator<SessionEventBatch, void, undefined> {
  const scope = stream.open();
  try {
    for await (const received of stream.read(scope)) {
      if (received.kind !== "response") {
        // Nothing is told of the connection before a response has brought a position.
        const position = request.afterPosition ?? "";
        yield { events: [{ ...received, conversationId: 0n, revision: 0n }], position };
        continue;
      }
      const { position } = received.response;
      const events = received.response.events
        .map(eventFromWire)
        .filter((event) => event !== undefined);
      const moved = position !== request.afterPosition;
      request.afterPosition = position;
      if (events.length > 0 || moved) yield { events, position };
    }
  } finally {
    scope.close();
  }
}

/** Makes the decoded event the public one; undefined for a heartbeat, and for an unknown one. */
function eventFromWire({
  conversationId,
  revision,
  event,
}: wire.SessionEvent): SessionEvent | undefined {
  const place = { conversationId, revision };
  switch (event?.$case) {
    case "messageAppended":
      return { kind: "message_appended", ...place, message: messageFromWire(event.value) };
    case "messageUpdated":
      return { kind: "message_updated", ...place, message: messageFromWire(event.value) };
    case "messageDeleted":
      return { kind: "message_deleted", ...place, message: messageFromWire(event.value) };
    case "sessionChanged":
      return { kind: "session_changed", ...place, session: sessionFromWire(event.value) };
    case "sessionDeleted":
      return { kind: "session_deleted", ...place };
    case "caughtUp":
      return { kind: "caught_up", ...place };
    case "fellBehind":
      return { kind: "fell_behind", ...place };
    default:
      return undefined;
  }
}
