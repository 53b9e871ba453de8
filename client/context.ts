// The calls that bring a session to its model: what the next turn needs, and what a break left open.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import { answered, write } from "./calls.js";
import type { Connection } from "./connection.js";
import { int32OrZero, int64, int64OrZero } from "./fields.js";
import { messagesFromWire } from "./messages.js";
import type { FencedOptions, LoadContextOptions } from "./options.js";
import { sessionFromWire } from "./sessions.js";
import type { AgentMessage, SessionContext } from "./types.js";

export async function loadContext(
  connection: Connection,
  id: bigint | number,
  options: LoadContextOptions,
): Promise<SessionContext> {
  const { response } = await connection.unary(
    AgentStoreService.loadContext,
    {
      conversationId: int64(id, "conversation_id"),
      maxMessages: int32OrZero(options.maxMessages, "max_messages"),
      maxCharacters: int64OrZero(options.maxCharacters, "max_characters"),
      maxTokens: int64OrZero(options.maxTokens, "max_tokens"),
    },
    options,
  );
  return {
    ...response,
    session: sessionFromWire(answered(response.session)),
    messages: messagesFromWire(response.messages),
  };
}

export async function repairSession(
  connection: Connection,
  id: bigint | number,
  options: FencedOptions,
): Promise<AgentMessage[]> {
  const response = await write(
    connection,
    AgentStoreService.repairSession,
    {
      conversationId: int64(id, "conversation_id"),
      fencingToken: int64OrZero(options.fencingToken, "fencing_token"),
    },
    options,
  );
  return messagesFromWire(response.messages);
}
