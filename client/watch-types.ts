// What the calls that watch sessions take and return.

import type { AgentStoreError } from "./errors.js";
import type { AgentMessage, AgentSession } from "./types.js";

/**
 * One thing that has happened to a session, or to the watch itself.
 *
 * A session's messages are what remains of applying the events in their order: `message_appended`
 * adds a message, `message_updated` replaces the one with its seq or brings it back,
 * `message_deleted` takes it away. Each version of each message is told once.
 */
export type SessionEvent = SessionEventPlace &
  (
    | {
        /** A message in its first version: appended, or there when the session was forked. */
        kind: "message_appended";
        message: AgentMessage;
      }
    | {
        /** A later version of a message that is not deleted; it may have been deleted before. */
        kind: "message_updated";
        message: AgentMessage;
      }
    | {
        /** A message that was deleted: as it was, with `deletedAt`; with nothing if it was erased. */
        kind: "message_deleted";
        message: AgentMessage;
      }
    | {
        /**
         * The session as it is now, because something other than its messages has changed; what is
         * told so may be told more than once. `getState` reads the state, which is not part of it.
         */
        kind: "session_changed";
        session: AgentSession;
      }
    | {
        /** The session is gone, and so is its history. `watchSession` ends after it. */
        kind: "session_deleted";
      }
    | {
        /**
         * What was stored when the watch began has been told; what follows is told as it happens.
         * Comes once at the beginning, and again after each `fell_behind` and `reconnected`.
         */
        kind: "caught_up";
      }
    | {
        /**
         * The consumer is slower than things happen. Nothing is lost: what it has not seen follows
         * from storage.
         */
        kind: "fell_behind";
      }
    | {
        /** The connection was lost. The watch tries to go on, with pauses of up to 5 seconds. */
        kind: "interrupted";
        /** Why. */
        error: AgentStoreError;
      }
    | {
        /** The watch goes on where it was interrupted: nothing is lost and nothing told twice. */
        kind: "reconnected";
      }
  );

/** Where an event belongs. */
export interface SessionEventPlace {
  /** The session; 0 for an event of `watchSessions` that belongs to none. */
  conversationId: bigint;
  /**
   * The session's revision at which this was so. Passed as `after` to `watchSession`, it goes on
   * behind this event. 0 where there is no session.
   */
  revision: bigint;
}

/** What both watches accept. */
export interface WatchOptions {
  /** Ends the watch with a `CancelledError` when it aborts. */
  signal?: AbortSignal | undefined;
  /**
   * How long the watch waits for a sign of life before it takes the connection for lost, in
   * milliseconds (1 to 2,147,483,647). The server gives one about every 15 seconds. The time that
   * the consumer takes does not count. Default: 45,000.
   */
  idleTimeoutMs?: number | undefined;
}

/** How to watch a session. */
export interface WatchSessionOptions extends WatchOptions {
  /**
   * The revision that the consumer knows already: what came after it is told first; 0 for the whole
   * history. Default: only what happens from now on.
   */
  after?: bigint | number | undefined;
}

/** Which sessions to watch: those that have everything that is given at the moment of an event. */
export interface WatchSessionsOptions extends WatchOptions {
  /** Only sessions of this model. */
  modelId?: string | undefined;
  /** Only sessions of this owner. */
  ownerId?: string | undefined;
  /** Only sessions that have all of these tags; up to 16. */
  tags?: readonly string[] | undefined;
  /**
   * The `position` of the last batch that was worked through, all else unchanged; empty for the whole
   * history of every session. Default: only what happens from now on.
   */
  after?: string | undefined;
}

/** Some events of `watchSessions`. */
export interface SessionEventBatch {
  /** Those of one session in the order of its revisions. None where only the position has moved. */
  events: SessionEvent[];
  /**
   * Where to go on behind these events: pass it as `after`. Keep it once all of them have been worked
   * through: whoever goes on from the position before gets all of them again. Up to 64 KiB; good for
   * 24 hours at least.
   */
  position: string;
}
