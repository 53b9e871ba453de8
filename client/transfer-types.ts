// What exports and imports take and return.
import type { CallOptions, SessionFilter } from "./options.js";

/**
 * In what form sessions are exported. `jsonl`: all that the store knows, for `importSessions`.
 * `json`: one array of sessions with their messages. `csv`: a row for each message, safe in a
 * spreadsheet. `openai`: a line of chat messages for each session.
 */
export type ExportFormat = "jsonl" | "json" | "csv" | "openai";

/** What to export. */
export interface ExportSessionsOptions extends Omit<CallOptions, "timeoutMs"> {
  /** The sessions, up to 1,000; instead of `modelId` and `filter`. */
  conversationIds?: readonly (bigint | number)[] | undefined;
  /** Only the sessions of this model. Default: those of all models. */
  modelId?: string | undefined;
  /** Which of the sessions, as in `listSessions`. Default: all. */
  filter?: SessionFilter | undefined;
  /** Where an export that was cut off goes on; all else unchanged. */
  resumeToken?: string | undefined;
  /** How long the export may take in all, in milliseconds. Default: as long as it takes. */
  timeoutMs?: number | undefined;
  /**
   * How long to wait for a piece before the export is taken for broken, in milliseconds. Default: the
   * client's `timeoutMs`.
   */
  idleTimeoutMs?: number | undefined;
}

/** A piece of an export. */
export interface ExportedPiece {
  /** The bytes, cut anywhere. */
  bytes: Uint8Array;
  /**
   * Set where a session ends with this piece: goes on behind it. Empty where none does; what such a
   * piece holds comes again after a resumption.
   */
  resumeToken: string;
  /** How many sessions are complete with this piece. */
  sessions: bigint;
}

/** How an import is sent. */
export interface ImportSessionsOptions extends Omit<CallOptions, "timeoutMs"> {
  /** How long the import may take in all, in milliseconds. Default: as long as it takes. */
  timeoutMs?: number | undefined;
}

/** A session that was imported. */
export interface ImportedSession {
  /** Its id where it was exported. */
  sourceConversationId: bigint;
  /** Its id here. */
  conversationId: bigint;
  /** True when it was imported under this import id before, and nothing was written. */
  replayed: boolean;
}

/** What an import has written. */
export interface ImportSummary {
  /** In the order of the import. */
  sessions: ImportedSession[];
  /** How many messages were written. */
  messages: bigint;
}
