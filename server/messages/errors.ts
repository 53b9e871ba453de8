// What can be wrong with a message that a call names.
import { RpcError } from "../errors/rpc-error.js";

/** A message by its key. */
export interface MessageKey {
  conversationId: bigint;
  seq: bigint;
}

/** Says that a session has no message with this seq. */
export function messageNotFound({ conversationId, seq }: MessageKey, lastSeq: bigint): RpcError {
  return new RpcError("MESSAGE_NOT_FOUND", `session ${conversationId} has no message ${seq}`, {
    metadata: { ...keyOf({ conversationId, seq }), last_seq: String(lastSeq) },
  });
}

/** Says that a message is deleted. */
export function messageDeleted(key: MessageKey): RpcError {
  const text = `message ${key.seq} of session ${key.conversationId} is deleted`;
  return new RpcError("MESSAGE_DELETED", text, { metadata: keyOf(key) });
}

/** Says that a message is not deleted. */
export function messageNotDeleted(key: MessageKey): RpcError {
  const text = `message ${key.seq} of session ${key.conversationId} is not deleted`;
  return new RpcError("MESSAGE_NOT_DELETED", text, { metadata: keyOf(key) });
}

/** Says that a message has no such version. */
export function versionNotFound(key: MessageKey, version: bigint, lastVersion: bigint): RpcError {
  return new RpcError(
    "VERSION_NOT_FOUND",
    `message ${key.seq} of session ${key.conversationId} has no version ${version}; its last one is ${lastVersion}`,
    {
      metadata: {
        ...keyOf(key),
        version: String(version),
        last_version: String(lastVersion),
      },
    },
  );
}

/**
 * Compares what a caller expects with what is.
 *
 * @param expected undefined when the caller expects nothing
 * @param key of a message, or of a session: without seq
 * @throws REVISION_MISMATCH
 */
export function assertRevision(
  expected: bigint | undefined,
  revision: bigint,
  { conversationId, seq }: { conversationId: bigint; seq?: bigint },
): void {
  if (expected === undefined || expected === revision) return;
  const what = seq === undefined ? "session" : `message ${seq} of session`;
  throw new RpcError(
    "REVISION_MISMATCH",
    `${what} ${conversationId} has revision ${revision}, not ${expected}`,
    {
      metadata: {
        conversation_id: String(conversationId),
        ...(seq === undefined ? {} : { seq: String(seq) }),
        expected_revision: String(expected),
        revision: String(revision),
      },
    },
  );
}

function keyOf({ conversationId, seq }: MessageKey): Record<string, string> {
  return { conversation_id: String(conversationId), seq: String(seq) };
}
