// What a message says as parameters of a statement.
import type { AgentMessage } from "../../../gen/agentstore/v1/messages.js";
import { USAGE } from "../append-plan.js";
import { roleName, toStoredTexts } from "../message.js";

/**
 * The values of CONTENT_COLUMNS, in their order.
 *
 * @param timestampMs null for a message of an older table that has no time
 */
export function contentValues(
  message: AgentMessage,
  timestampMs: bigint | null = message.timestampMs,
): unknown[] {
  const texts = toStoredTexts(message);
  const { toolCalls, metadata, usage } = message;
  return [
    roleName(message.role),
    texts.content,
    timestampMs,
    texts.name,
    // json, not jsonb: it takes \u0000 and leaves every text as it was.
    toolCalls.length > 0 ? JSON.stringify(toolCalls) : null,
    texts.toolCallId,
    texts.payload,
    texts.payloadType,
    metadata === undefined ? null : JSON.stringify(metadata),
    ...USAGE.map((key) => usage?.[key]),
    texts.exact,
  ];
}
