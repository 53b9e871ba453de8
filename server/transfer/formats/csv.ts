// CSV (RFC 4180): a row for each message, for spreadsheets.
import type { AgentMessage } from "../../../gen/agentstore/v1/messages.js";
import type { AgentSession } from "../../../gen/agentstore/v1/sessions.js";
import { roleName } from "../../messages/message.js";
import { present } from "../../present.js";
import { isTimeMs } from "../../rpc/field-checks.js";
import type { Format } from "./format.js";

type Cell = (message: AgentMessage, session: AgentSession) => string;

const COLUMNS: Record<string, Cell> = {
  conversation_id: ({ conversationId }) => String(conversationId),
  model_id: (_, { modelId }) => modelId,
  title: (_, { title }) => title,
  owner_id: (_, { ownerId }) => ownerId,
  tags: (_, { tags }) => (tags.length > 0 ? JSON.stringify(tags) : ""),
  seq: ({ seq }) => String(seq),
  role: ({ role }) => roleName(role) ?? "",
  time: ({ timestampMs }) => time(timestampMs),
  name: ({ name }) => name,
  content: ({ content }) => content,
  tool_calls: ({ toolCalls }) => (toolCalls.length > 0 ? JSON.stringify(toolCalls) : ""),
  tool_call_id: ({ toolCallId }) => toolCallId,
  metadata: ({ metadata }) => (metadata === undefined ? "" : JSON.stringify(metadata)),
  payload: ({ payload }) => payload,
  payload_type: ({ payloadType }) => payloadType,
  input_tokens: ({ usage }) => amount(usage?.inputTokens),
  output_tokens: ({ usage }) => amount(usage?.outputTokens),
  cached_tokens: ({ usage }) => amount(usage?.cachedTokens),
  reasoning_tokens: ({ usage }) => amount(usage?.reasoningTokens),
  cost_micros: ({ usage }) => amount(usage?.costMicros),
  edited_at: ({ editedAt }) => editedAt?.toISOString() ?? "",
};

const CELLS = Object.values(COLUMNS);

export const csv: Format = {
  begin: () => row(Object.keys(COLUMNS)),
  beginSession: () => "",
  message: ({ version }, session) =>
    row(CELLS.map((cell) => field(cell(present(version.message), session)))),
  endSession: () => "",
  end: () => "",
};

function row(fields: string[]): string {
  return `${fields.join(",")}\r\n`;
}

// What makes a spreadsheet calculate, also behind blanks; the wide forms count in East Asian ones.
const FORMULA = /^[\s\0]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]|^[\t\r\n]/;

/**
 * Writes one field. A text that a spreadsheet would take for a formula gets an apostrophe before it;
 * U+0000, which ends a text in some readers, becomes U+FFFD.
 */
export function field(text: string): string {
  const safe = (FORMULA.test(text) ? `'${text}` : text).replaceAll("\0", "\uFFFD");
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function time(ms: bigint): string {
  return ms !== 0n && isTimeMs(ms) ? new Date(Number(ms)).toISOString() : "";
}

function amount(value: bigint | undefined): string {
  return value === undefined ? "" : String(value);
}
