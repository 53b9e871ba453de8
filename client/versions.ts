// The calls that change messages and read their history.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import { AgentMessage as WireMessage } from "../gen/agentstore/v1/messages.js";
import type * as wire from "../gen/agentstore/v1/versions.js";
import { answered, paginate, write } from "./calls.js";
import type { Connection, Method } from "./connection.js";
import { InvalidFieldError } from "./errors.js";
import { int32OrZero, int64, textOrEmpty } from "./fields.js";
import { messageFromWire, toWire } from "./messages.js";
import type { ChangeOptions, MessageChanges, MessageVersionPage, PageOptions } from "./options.js";
import type { AgentMessage, MessageVersion } from "./types.js";

const CHANGES: readonly MessageVersion["change"][] = [
  "unknown",
  "appended",
  "updated",
  "deleted",
  "undeleted",
  "reverted",
  "forked",
];
const MASK_PATHS = new Map<string, string>([
  ["role", "role"],
  ["content", "content"],
  ["timestampMs", "timestamp_ms"],
  ["name", "name"],
  ["toolCalls", "tool_calls"],
  ["toolCallId", "tool_call_id"],
  ["payload", "payload"],
  ["payloadType", "payload_type"],
  ["metadata", "metadata"],
  ["usage", "usage"],
]);

export async function updateMessage(
  connection: Connection,
  id: bigint | number,
  seq: bigint | number,
  changes: MessageChanges,
  options: ChangeOptions,
): Promise<AgentMessage> {
  const updateMask: string[] = [];
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(changes)) {
    const path = MASK_PATHS.get(key);
    if (path === undefined) throw InvalidFieldError.of(key, "is nothing that can be changed");
    if (value !== undefined) updateMask.push(path);
    if (value !== undefined && value !== null) given[key] = value;
  }
  // A role that the mask does not name is not read.
  const fields = toWire({ role: "user", ...given }, "message");
  const message = WireMessage.fromPartial({});
  Object.assign(message, fields, {
    conversationId: int64(id, "message.conversation_id"),
    seq: int64(seq, "message.seq"),
    timestampMs: fields.timestampMs ?? 0n,
  });
  const response = await write(
    connection,
    AgentStoreService.updateMessage,
    { message, updateMask, expectedRevision: expected(options) },
    options,
  );
  return messageFromWire(answered(response.message));
}

export async function deleteMessage(
  connection: Connection,
  id: bigint | number,
  seq: bigint | number,
  options: ChangeOptions,
): Promise<AgentMessage> {
  return await change(connection, AgentStoreService.deleteMessage, id, seq, options);
}

export async function undeleteMessage(
  connection: Connection,
  id: bigint | number,
  seq: bigint | number,
  options: ChangeOptions,
): Promise<AgentMessage> {
  return await change(connection, AgentStoreService.undeleteMessage, id, seq, options);
}

export async function revertMessage(
  connection: Connection,
  id: bigint | number,
  seq: bigint | number,
  version: bigint | number,
  options: ChangeOptions,
): Promise<AgentMessage> {
  const response = await write(
    connection,
    AgentStoreService.revertMessage,
    { ...keyToWire(id, seq, options), version: int64(version, "version") },
    options,
  );
  return messageFromWire(answered(response.message));
}

export async function listMessageVersions(
  connection: Connection,
  id: bigint | number,
  seq: bigint | number,
  options: PageOptions,
): Promise<MessageVersionPage> {
  const { response } = await connection.unary(
    AgentStoreService.listMessageVersions,
    {
      conversationId: int64(id, "conversation_id"),
      seq: int64(seq, "seq"),
      pageSize: int32OrZero(options.pageSize, "page_size"),
      pageToken: textOrEmpty(options.pageToken, "page_token"),
    },
    options,
  );
  const { versions, nextPageToken } = response;
  return { versions: versions.map(versionFromWire), nextPageToken };
}

export function iterateMessageVersionPages(
  connection: Connection,
  id: bigint | number,
  seq: bigint | number,
  options: PageOptions,
): AsyncGenerator<MessageVersionPage, void, undefined> {
  return paginate(options, (page) => listMessageVersions(connection, id, seq, page));
}

/** An expected_revision as it goes on the wire. */
export function expected({ expectedRevision }: ChangeOptions): bigint | undefined {
  return expectedRevision === undefined ? undefined : int64(expectedRevision, "expected_revision");
}

async function change(
  connection: Connection,
  method: Method<wire.DeleteMessageRequest, wire.DeleteMessageResponse>,
  id: bigint | number,
  seq: bigint | number,
  options: ChangeOptions,
): Promise<AgentMessage> {
  const response = await write(connection, method, keyToWire(id, seq, options), options);
  return messageFromWire(answered(response.message));
}

function keyToWire(id: bigint | number, seq: bigint | number, options: ChangeOptions) {
  return {
    conversationId: int64(id, "conversation_id"),
    seq: int64(seq, "seq"),
    expectedRevision: expected(options),
  };
}

function versionFromWire(version: wire.MessageVersion): MessageVersion {
  const message = messageFromWire(answered(version.message));
  return { ...version, message, change: CHANGES[version.change] ?? "unknown" };
}
