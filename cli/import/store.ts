// Stores one conversation so that doing it again, after an interruption anywhere, changes nothing.
import { createHash } from "node:crypto";
import {
  type AgentSession,
  type AgentStoreClient,
  AgentStoreError,
  LastSeqMismatchError,
  type NewMessage,
  SessionNotFoundError,
  type WriteInfo,
} from "../../client/index.js";
import { BadLineError } from "./bad-line.js";
import type { ImportedConversation } from "./conversation.js";

/** What makes a line the same line when it is imported again. */
export interface LineIdentity {
  model: string;
  /** The SHA-256 of the line's bytes. */
  digest: Buffer;
  /** 1 for the line's first time in its file, 2 for its second … */
  occurrence: number;
}

/** How a conversation got into the store: now, partly now, or before. */
export type StoredStatus = "imported" | "resumed" | "already there";

/** A conversation that is in the store. */
export interface Stored {
  status: StoredStatus;
  conversationId: bigint;
}

const CHUNK_MESSAGES = 1000;
const CHUNK_BYTES = 1024 * 1024;
/** Raised when lines are mapped otherwise than before, so that request ids are not reused. */
const MAPPING_VERSION = 1;

/**
 * Creates the session and appends its messages, under request ids that follow from the line alone.
 * A conversation that the store does not accept leaves nothing behind.
 * @throws BadLineError when the store does not accept the conversation
 * @throws AgentStoreError when the store cannot be reached, is full, … : try again later
 */
export async function storeConversation(
  store: AgentStoreClient,
  conversation: ImportedConversation,
  line: LineIdentity,
  signal: AbortSignal,
): Promise<Stored> {
  const { session, key, replayed } = await openSession(store, conversation, line, signal);
  let acknowledged = 0;
  let written = false;
  try {
    for (const [index, messages] of chunks(conversation.messages).entries()) {
      let info: WriteInfo | undefined;
      await store.addMessages(session.id, messages, {
        requestId: `${key}:${index}`,
        expectedLastSeq: acknowledged,
        view: "keys",
        onWritten: (result) => (info = result),
        signal,
      });
      acknowledged += messages.length;
      if (!isRepeat(info)) written = true;
    }
  } catch (error) {
    if (!isRefusal(error)) throw error;
    throw new BadLineError(await cleanUp(store, session.id, acknowledged, error));
  }
  const status = !replayed ? "imported" : written ? "resumed" : "already there";
  return { status, conversationId: session.id };
}

/** Whether an error is about this conversation, so that others may still be accepted. */
export function isRefusal(error: unknown): error is AgentStoreError {
  return (
    error instanceof AgentStoreError &&
    (["INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "INTERNAL"].includes(error.code) ||
      error instanceof LastSeqMismatchError)
  );
}

interface OpenedSession {
  session: AgentSession;
  /** What the request ids of its messages begin with. */
  key: string;
  replayed: boolean;
}

/**
 * Creates the line's session or finds the one that was created for it. Where that one has been
 * deleted since, its request id stays taken, so the next generation of the id is tried.
 */
async function openSession(
  store: AgentStoreClient,
  conversation: ImportedConversation,
  line: LineIdentity,
  signal: AbortSignal,
): Promise<OpenedSession> {
  for (let generation = 1; ; generation++) {
    const key = requestKey(line, generation);
    let info: WriteInfo | undefined;
    let session: AgentSession;
    try {
      session = await store.createSession(line.model, {
        title: conversation.title,
        metadata: conversation.metadata,
        requestId: key,
        onWritten: (result) => (info = result),
        signal,
      });
    } catch (error) {
      if (isRefusal(error)) throw new BadLineError(refusalText(error));
      throw error;
    }
    if (!info?.replayed) return { session, key, replayed: false };
    try {
      await store.getSession(session.id, { signal });
      return { session, key, replayed: isRepeat(info) };
    } catch (error) {
      if (!(error instanceof SessionNotFoundError)) throw error;
    }
  }
}

/** Whether an earlier run wrote this. A replay on a later attempt is this run's own write. */
function isRepeat(info: WriteInfo | undefined): boolean {
  return info !== undefined && info.replayed && info.attempts === 1;
}

/**
 * Removes a session that the store refuses the rest of, unless it holds more than what this import
 * has put there, and says what happened. Not even an interruption leaves it out.
 */
async function cleanUp(
  store: AgentStoreClient,
  id: bigint,
  acknowledged: number,
  refusal: AgentStoreError,
): Promise<string> {
  const reason = refusalText(refusal);
  if (refusal instanceof SessionNotFoundError) return reason;
  // A defect of the server says nothing about the conversation, which may fit once it is mended.
  if (refusal.code === "INTERNAL") return `${reason}; import it again to complete session ${id}`;
  try {
    const { lastSeq } = await store.getSession(id);
    if (lastSeq === BigInt(acknowledged)) {
      await store.deleteSession(id);
      return reason;
    }
  } catch (error) {
    if (!(error instanceof AgentStoreError)) throw error;
    if (error instanceof SessionNotFoundError) return reason;
  }
  return `${reason}; session ${id} is left as it is`;
}

function refusalText(error: AgentStoreError): string {
  return `is not accepted by the store: ${error.message}`;
}

function requestKey(line: LineIdentity, generation: number): string {
  const identity = [MAPPING_VERSION, line.model, line.digest.toString("hex"), line.occurrence];
  const hash = createHash("sha256").update(JSON.stringify([...identity, generation]));
  return `import:${hash.digest("hex")}`;
}

/** Cuts messages into requests. The cuts follow from the messages alone, as the request ids do. */
function chunks(messages: readonly NewMessage[]): NewMessage[][] {
  const cut: NewMessage[][] = [];
  let current: NewMessage[] = [];
  let bytes = 0;
  for (const message of messages) {
    const size = approximateBytes(message);
    if (current.length === CHUNK_MESSAGES || (current.length > 0 && bytes + size > CHUNK_BYTES)) {
      cut.push(current);
      current = [];
      bytes = 0;
    }
    current.push(message);
    bytes += size;
  }
  if (current.length > 0) cut.push(current);
  return cut;
}

function approximateBytes(message: NewMessage): number {
  const calls = message.toolCalls ?? [];
  const texts = [message.content, message.payload, ...calls.map((call) => call.arguments)];
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text ?? ""), 64);
}
