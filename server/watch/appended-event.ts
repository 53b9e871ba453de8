// The event that tells of an append, from the message that the process has in memory.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { writeMessage } from "../messages/wire/append-answer.js";
import { ProtobufBuffer } from "../messages/wire/protobuf-buffer.js";
import type { EncodedEvent } from "./events.js";

const EVENTS = (1 << 3) | 2;
const CONVERSATION_ID = 1 << 3;
const REVISION = 2 << 3;
const MESSAGE_APPENDED = (3 << 3) | 2;
// The largest that an event has beside its message's texts.
const OVERHEAD = 256;

/**
 * Encodes `message_appended`. The bytes are those of the generated encoder, which takes several times
 * as long.
 *
 * @param message as it was appended, neither changed nor deleted
 */
export function encodeAppended(message: AgentMessage): EncodedEvent {
  const { content, payload, conversationId, revision } = message;
  const guess = content.length + payload.length + OVERHEAD;
  const out = new ProtobufBuffer();
  out.reserve(guess);
  out.key(EVENTS);
  const begin = out.begin(guess);
  out.bigint(CONVERSATION_ID, conversationId);
  out.bigint(REVISION, revision);
  writeMessage(out, MESSAGE_APPENDED, message);
  out.end(begin, guess);
  // What is taken is the encoder's own memory, and events are kept.
  return { revision, bytes: Buffer.from(out.finish().take()) };
}
