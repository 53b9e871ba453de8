// What each form of an export has in common.
import type { AgentSession } from "../../../gen/agentstore/v1/sessions.js";
import type { SessionSnapshot } from "../../../gen/agentstore/v1/snapshots.js";
import type { AgentState } from "../../../gen/agentstore/v1/state.js";
import type { MessageVersion } from "../../../gen/agentstore/v1/versions.js";

/** A message with what its row knows beyond the contract. */
export interface ExportedMessage {
  version: MessageVersion;
  /** False for a message that came without a time. */
  timed: boolean;
}

/** How many lines a session has of each kind. */
export interface Counts {
  messages: number;
  versions: number;
  snapshots: number;
}

/**
 * Writes sessions as text. The calls come in this order: begin; for each session beginSession,
 * message for each of its messages, and endSession; end.
 */
export interface Format {
  /** What stands before the first session of the export. */
  begin(now: Date): string;
  /** @param first whether it is the first session of the export */
  beginSession(session: AgentSession, first: boolean): string;
  /** @param first whether it is the first message of its session */
  message(message: ExportedMessage, session: AgentSession, first: boolean): string;
  endSession(session: AgentSession, counts: Counts): string;
  /** What stands behind the last session. */
  end(): string;
  /** Of the one that tells all: what a session has besides its messages that are not deleted. */
  whole?: {
    version(message: ExportedMessage): string;
    state(state: Omit<AgentState, "etag">): string;
    snapshot(snapshot: SessionSnapshot): string;
  };
}
