// The checks of a message that is to be appended.
import { MessageView, NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import type { StateUpdate } from "../../gen/agentstore/v1/state.js";
import { checkEmbedding } from "../embeddings/given.js";
import { fieldError } from "../errors/rpc-error.js";
import { checkRequestId } from "../idempotency/requests.js";
import type { Limits } from "../rpc/call.js";
import type { FieldChecks } from "../rpc/field-checks.js";
import { checkState } from "../state/state.js";

/**
 * Adds what is wrong with a message to the checks.
 *
 * @param field path of the message in the request
 * @throws MESSAGE_TOO_LARGE
 */
export function checkMessage(
  field: string,
  message: NewMessage,
  check: FieldChecks,
  limits: Limits,
): void {
  assertSize(field, message, limits.messageBytes);
  check.enumValue(`${field}.role`, message.role, Role, { zero: false });
  check.textLength(`${field}.name`, message.name, limits.nameCharacters);
  check.textLength(`${field}.tool_call_id`, message.toolCallId, limits.nameCharacters);
  check.textLength(`${field}.payload_type`, message.payloadType, limits.idCharacters);
  if (message.toolCallId !== "" && message.role !== Role.TOOL) {
    check.fail(`${field}.tool_call_id`, "goes with ROLE_TOOL only");
  }
  if (message.payload !== "" && message.payloadType === "") {
    check.fail(`${field}.payload_type`, "is required with payload");
  }
  if (message.timestampMs !== undefined) {
    check.timeMs(`${field}.timestamp_ms`, message.timestampMs);
  }
  checkToolCalls(field, message, check, limits);
  check.struct(`${field}.metadata`, message.metadata, {
    bytes: limits.metadataBytes,
    depth: limits.metadataDepth,
  });
  if (message.embedding) checkEmbedding(`${field}.embedding`, message.embedding, check, limits);
  for (const [name, value] of Object.entries(message.usage ?? {})) {
    const snakeCase = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    check.within(`${field}.usage.${snakeCase}`, value as bigint, 0n, limits.usageMost);
  }
}

function checkToolCalls(
  field: string,
  { role, toolCalls }: NewMessage,
  check: FieldChecks,
  limits: Limits,
): void {
  if (toolCalls.length === 0) return;
  if (role !== Role.ASSISTANT) check.fail(`${field}.tool_calls`, "go with ROLE_ASSISTANT only");
  if (toolCalls.length > limits.toolCalls) {
    check.fail(`${field}.tool_calls`, `must be at most ${limits.toolCalls}`);
    return;
  }
  toolCalls.forEach((call, index) => {
    check.textLength(`${field}.tool_calls[${index}].id`, call.id, limits.nameCharacters);
    check.textLength(`${field}.tool_calls[${index}].name`, call.name, limits.nameCharacters);
  });
}

/**
 * Refuses a message that is larger than the limit.
 *
 * @param field path of the message in the request
 * @param most bytes, encoded
 * @throws MESSAGE_TOO_LARGE
 */
export function assertSize(field: string, message: NewMessage, most: number): void {
  // UTF-8 takes at most three bytes for each UTF-16 unit; the rest is bounded by
  // its own checks or counted here.
  let units = message.content.length + message.payload.length + 4_096;
  units += (message.embedding?.values.length ?? 0) * 2;
  for (const call of message.toolCalls) units += call.arguments.length + 2_048;
  if (units * 3 < most && message.metadata === undefined) return;
  const bytes = NewMessage.encode(message).finish().length;
  if (bytes <= most) return;
  throw fieldError("MESSAGE_TOO_LARGE", field, `has ${bytes} bytes; the limit is ${most}`, {
    limit_bytes: String(most),
  });
}

/** Adds what is wrong with an append, apart from its messages, to the checks. */
export function checkAppend(
  request: {
    conversationId: bigint;
    requestId: string;
    expectedLastSeq?: bigint | undefined;
    view: MessageView;
    fencingToken: bigint;
    state?: StateUpdate | undefined;
  },
  check: FieldChecks,
  limits: Limits,
): void {
  check.positive("conversation_id", request.conversationId);
  checkRequestId(check, request.requestId);
  check.notNegative("expected_last_seq", request.expectedLastSeq ?? 0n);
  check.enumValue("view", request.view, MessageView, { zero: true });
  check.notNegative("fencing_token", request.fencingToken);
  if (request.state) checkState(request.state, check, limits, "state.");
}
