// GetSessionStats: counts and sums, which ride on the session's row.
import type {
  GetSessionStatsRequest,
  GetSessionStatsResponse,
} from "../../gen/agentstore/v1/sessions.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { UnaryRpc } from "../rpc/method.js";
import { toDate } from "./session.js";
import * as sql from "./sql.js";

export const getSessionStats: UnaryRpc<GetSessionStatsRequest, GetSessionStatsResponse> = {
  validate({ conversationId }, check) {
    check.positive("conversation_id", conversationId);
  },

  async handle({ conversationId }, context) {
    const { db, principal, signal } = context;
    context.note({ conversation_id: conversationId });
    const [row] = await db.query(sql.getSessionStats, [conversationId, principal.tenant], signal);
    if (!row) throw sessionNotFound(conversationId);
    return {
      stats: {
        totalMessages: row.message_count,
        userMessages: row.user_messages,
        assistantMessages: row.assistant_messages,
        systemMessages: row.system_messages,
        toolMessages: row.tool_messages,
        firstMessageTime: toDate(row.first_message_ms),
        lastMessageTime: toDate(row.last_message_ms),
        totalCharacters: row.total_characters,
        totalUsage: {
          inputTokens: row.input_tokens,
          outputTokens: row.output_tokens,
          cachedTokens: row.cached_tokens,
          reasoningTokens: row.reasoning_tokens,
          costMicros: row.cost_micros,
        },
      },
    };
  },
};
