// The call that finds messages by their text.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import { SearchMessagesRequest } from "../gen/agentstore/v1/search.js";
import { answered } from "./calls.js";
import type { Connection } from "./connection.js";
import { int32OrZero, text } from "./fields.js";
import { messageFromWire } from "./messages.js";
import type { SearchMessagesOptions } from "./options.js";
import type { AgentMessage } from "./types.js";

export async function searchMessages(
  connection: Connection,
  modelId: string,
  query: string,
  options: SearchMessagesOptions,
): Promise<AgentMessage[]> {
  const { response } = await connection.unary(
    AgentStoreService.searchMessages,
    SearchMessagesRequest.fromPartial({
      modelId: text(modelId, "model_id"),
      query: text(query, "query"),
      limit: int32OrZero(options.limit, "limit"),
    }),
    options,
  );
  return response.results.map((result) => messageFromWire(answered(result.message)));
}
