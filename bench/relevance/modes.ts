// The modes of SearchMessages as searches.
import { promisify } from "node:util";
import { credentials } from "@grpc/grpc-js";
import { AgentStoreClient } from "../../gen/agentstore/v1/agent_store.js";
import {
  SearchMessagesRequest,
  type SearchMessagesResponse,
  SearchMode,
} from "../../gen/agentstore/v1/search.js";
import type { Search } from "./plain-sql.js";

const HITS = 10;

/** The searches by their names; those by meaning need a server with an endpoint. */
export function searchModes(
  address: string,
  names: (keyof typeof SearchMode)[],
): { searches: Record<string, Search>; close(): void } {
  const client = new AgentStoreClient(address, credentials.createInsecure());
  const call = promisify<SearchMessagesRequest, SearchMessagesResponse>(
    client.searchMessages.bind(client),
  );
  const search =
    (mode: SearchMode): Search =>
    async (query) => {
      const request = SearchMessagesRequest.fromPartial({ query, mode, limit: HITS });
      const { results } = await call(request);
      return results.map(({ message }) => `${message?.conversationId}/${message?.seq}`);
    };
  return {
    searches: Object.fromEntries(names.map((name) => [name, search(SearchMode[name])])),
    close: () => client.close(),
  };
}
