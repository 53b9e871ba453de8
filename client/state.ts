// The calls about sessions' states: what they take, what they return, and how both look on the wire.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import type * as wire from "../gen/agentstore/v1/state.js";
import { answered, write } from "./calls.js";
import type { Connection } from "./connection.js";
import { int64, text } from "./fields.js";
import type { CallOptions, StateUpdate, UpdateStateOptions } from "./options.js";
import type { AgentState } from "./types.js";

export async function getState(
  connection: Connection,
  id: bigint | number,
  options: CallOptions,
): Promise<AgentState> {
  const { response } = await connection.unary(
    AgentStoreService.getState,
    { conversationId: int64(id, "conversation_id") },
    options,
  );
  return answered(response.state);
}

export async function updateState(
  connection: Connection,
  id: bigint | number,
  state: string,
  options: UpdateStateOptions,
): Promise<AgentState> {
  const { expectedEtag } = options;
  const response = await write(
    connection,
    AgentStoreService.updateState,
    {
      conversationId: int64(id, "conversation_id"),
      state: text(state, "state"),
      expectedEtag: expectedEtag === undefined ? undefined : text(expectedEtag, "expected_etag"),
    },
    options,
  );
  // The service does not send the document back.
  return { ...answered(response.state), state };
}

/** The state that goes with an append. */
export function stateToWire(update: StateUpdate | undefined): wire.StateUpdate | undefined {
  if (update === undefined) return undefined;
  const { state, expectedEtag } = update;
  return {
    state: text(state, "state.state"),
    expectedEtag:
      expectedEtag === undefined ? undefined : text(expectedEtag, "state.expected_etag"),
  };
}
