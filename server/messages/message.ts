// Messages between the contract and their row.
import { AgentMessage, type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import type { MessageRow } from "./sql.js";

/** The roles as the tables hold them. */
export const ROLE_NAMES = {
  [Role.SYSTEM]: "system",
  [Role.USER]: "user",
  [Role.ASSISTANT]: "assistant",
  [Role.TOOL]: "tool",
} as const;

/** The role as the tables hold it. */
export type RoleName = (typeof ROLE_NAMES)[keyof typeof ROLE_NAMES];

const ROLES = new Map<string, Role>(
  Object.entries(ROLE_NAMES).map(([role, name]) => [name, Number(role) as Role]),
);

/** The name of a valid role. */
export function roleName(role: Role): RoleName {
  return ROLE_NAMES[role as keyof typeof ROLE_NAMES];
}

/** Makes the AgentMessage of a row. */
export function toAgentMessage(row: MessageRow): AgentMessage {
  const message: AgentMessage = {
    id: row.id,
    conversationId: row.conversation_id,
    role: ROLES.get(row.role) ?? Role.UNSPECIFIED,
    content: row.content,
    timestampMs: row.ts_ms ?? 0n,
    seq: row.seq,
    name: row.name ?? "",
    toolCalls: row.tool_calls ?? [],
    toolCallId: row.tool_call_id ?? "",
    payload: row.payload ?? "",
    payloadType: row.payload_type ?? "",
    metadata: row.metadata ?? undefined,
    usage:
      row.input_tokens === null
        ? undefined
        : {
            inputTokens: row.input_tokens,
            outputTokens: row.output_tokens ?? 0n,
            cachedTokens: row.cached_tokens ?? 0n,
            reasoningTokens: row.reasoning_tokens ?? 0n,
            costMicros: row.cost_micros ?? 0n,
          },
    revision: row.revision,
    editedAt: row.edited_at ?? undefined,
    version: row.version,
    deletedAt: row.deleted_at ?? undefined,
  };
  if (row.exact) {
    for (const [field, text] of Object.entries(AgentMessage.decode(row.exact))) {
      if (typeof text === "string" && text !== "") Object.assign(message, { [field]: text });
    }
  }
  return message;
}

/** Makes the AgentMessage that an append answers with, once the database has placed it. */
export function placedMessage(
  message: NewMessage,
  place: { id: bigint; conversationId: bigint; seq: bigint; revision: bigint; now: bigint },
): AgentMessage {
  // Field by field: spreading two objects into a third takes twenty times as long.
  return {
    id: place.id,
    conversationId: place.conversationId,
    role: message.role,
    content: message.content,
    timestampMs: message.timestampMs ?? place.now,
    seq: place.seq,
    name: message.name,
    toolCalls: message.toolCalls,
    toolCallId: message.toolCallId,
    payload: message.payload,
    payloadType: message.payloadType,
    metadata: message.metadata,
    usage: message.usage,
    revision: place.revision,
    editedAt: undefined,
    version: 1n,
    deletedAt: undefined,
  };
}

/** What a message's row holds of its text: what Postgres takes, and the exact bytes if need be. */
export interface StoredTexts {
  content: string;
  name: string | null;
  toolCallId: string | null;
  payload: string | null;
  payloadType: string | null;
  /** An encoded AgentMessage of the fields that hold U+0000; null when none does. */
  exact: Buffer | null;
}

const TEXT_FIELDS = ["content", "name", "toolCallId", "payload", "payloadType"] as const;

/** A field of a message that StoredTexts has. */
export type StoredText = (typeof TEXT_FIELDS)[number];

/**
 * Prepares a message's texts for Postgres, whose text cannot hold U+0000. Where
 * there is one, the column has U+FFFD in its place, so that lengths agree and
 * search works, and the exact texts are kept beside it.
 */
export function toStoredTexts(message: Pick<AgentMessage, StoredText>): StoredTexts {
  const texts: StoredTexts = {
    content: message.content,
    name: message.name || null,
    toolCallId: message.toolCallId || null,
    payload: message.payload || null,
    payloadType: message.payloadType || null,
    exact: null,
  };
  if (!TEXT_FIELDS.some((field) => message[field].includes("\0"))) return texts;
  const withNul = TEXT_FIELDS.filter((field) => message[field].includes("\0"));
  for (const field of withNul) texts[field] = message[field].replaceAll("\0", "\uFFFD");
  const exact = AgentMessage.fromPartial({});
  for (const field of withNul) exact[field] = message[field];
  texts.exact = Buffer.from(AgentMessage.encode(exact).finish());
  return texts;
}
