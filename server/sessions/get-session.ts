// GetSession: one session by its id.
import type {
  AgentSession,
  GetSessionRequest,
  GetSessionResponse,
} from "../../gen/agentstore/v1/sessions.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import type { CallContext } from "../rpc/call.js";
import type { UnaryRpc } from "../rpc/method.js";
import { toAgentSession } from "./session.js";
import * as sql from "./sql.js";

export const getSession: UnaryRpc<GetSessionRequest, GetSessionResponse> = {
  validate({ conversationId }, check) {
    check.positive("conversation_id", conversationId);
  },

  async handle({ conversationId }, context) {
    context.note({ conversation_id: conversationId });
    const { session } = await readSession(context, conversationId);
    return { session };
  },
};

/**
 * Returns a session of the caller's, and how many messages it has that are not deleted.
 *
 * @throws SESSION_NOT_FOUND
 */
export async function readSession(
  { db, principal, signal }: CallContext,
  conversationId: bigint,
): Promise<{ session: AgentSession; messageCount: bigint }> {
  const [row] = await db.query(sql.getSession, [conversationId, principal.tenant], signal);
  if (!row) throw sessionNotFound(conversationId);
  return { session: toAgentSession(row), messageCount: row.message_count };
}
