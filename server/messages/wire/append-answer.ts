// The answer to an append: the same bytes for AddMessage, AddMessages and RepairSession.
import {
  type AgentMessage,
  MessageView,
  ToolCall,
  Usage,
} from "../../../gen/agentstore/v1/messages.js";
import { Struct } from "../../../gen/google/protobuf/struct.js";
import type { Encoded } from "../../rpc/method.js";
import type { Appended } from "../append.js";
import * as field from "./message-fields.js";
import { ProtobufBuffer } from "./protobuf-buffer.js";

const REPLAYED = 2 << 3;
const STATE_ETAG = (7 << 3) | 2;
// The largest that a message has beside its texts: six numbers, and the keys and lengths of all.
const OVERHEAD = 128;

/**
 * Encodes `AddMessageResponse`, `AddMessagesResponse` or `RepairSessionResponse`: in each of them,
 * field 1 holds the messages and field 2 is `replayed`; field 7, the state's etag, is empty in the last.
 * An append answers messages as they were appended, never changed or deleted. The bytes are those of the generated encoder, which takes several times as
 * long.
 */
export function encodeAppendAnswer(
  { messages, replayed, stateEtag }: Appended,
  view: MessageView,
): Encoded<never> {
  const out = new ProtobufBuffer();
  for (const message of messages) {
    if (view === MessageView.KEYS) writeKeys(out, message);
    else writeMessage(out, field.MESSAGES, message);
  }
  if (replayed) {
    out.reserve(2);
    out.key(REPLAYED);
    out.varint(1);
  }
  out.text(STATE_ETAG, stateEtag);
  return out.finish();
}

function writeKeys(out: ProtobufBuffer, message: AgentMessage): void {
  out.reserve(OVERHEAD);
  out.key(field.MESSAGES);
  const begin = out.begin(0);
  out.bigint(field.ID, message.id);
  out.bigint(field.CONVERSATION_ID, message.conversationId);
  out.bigint(field.TIMESTAMP_MS, message.timestampMs);
  out.bigint(field.SEQ, message.seq);
  out.bigint(field.REVISION, message.revision);
  out.end(begin, 0);
}

/** Writes a message that was appended, and neither changed nor deleted, as the field with this key. */
export function writeMessage(out: ProtobufBuffer, key: number, message: AgentMessage): void {
  const guess = message.content.length + message.payload.length + OVERHEAD;
  out.reserve(guess);
  out.key(key);
  const begin = out.begin(guess);
  out.bigint(field.ID, message.id);
  out.bigint(field.CONVERSATION_ID, message.conversationId);
  if (message.role !== 0) {
    out.key(field.ROLE);
    out.varint(message.role);
  }
  out.text(field.CONTENT, message.content);
  out.reserve(OVERHEAD);
  out.bigint(field.TIMESTAMP_MS, message.timestampMs);
  out.bigint(field.SEQ, message.seq);
  out.text(field.NAME, message.name);
  for (const call of message.toolCalls) {
    out.bytes(field.TOOL_CALLS, ToolCall.encode(call).finish());
  }
  out.text(field.TOOL_CALL_ID, message.toolCallId);
  out.text(field.PAYLOAD, message.payload);
  out.text(field.PAYLOAD_TYPE, message.payloadType);
  if (message.metadata) {
    out.bytes(field.METADATA, Struct.encode(Struct.wrap(message.metadata)).finish());
  }
  if (message.usage) out.bytes(field.USAGE, Usage.encode(message.usage).finish());
  out.reserve(OVERHEAD);
  out.bigint(field.REVISION, message.revision);
  out.bigint(field.VERSION, message.version);
  out.end(begin, guess);
}
