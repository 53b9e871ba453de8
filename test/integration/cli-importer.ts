// What the tests of `agentstore import` share: running it, and looking at what it has stored.
import type { AgentMessage, AgentStoreClient } from "../../client/index.js";
import { type Ended, jsonLines, run } from "./cli-run.js";

/** What `import --json` says of a line. */
export interface Report {
  file: string;
  line: number;
  status: string;
  conversationId: string;
  model: string;
  messages: number;
  error?: string;
  warnings?: string[];
}

/** What `import --json` says at the end. */
export interface Summary {
  complete: boolean;
  imported: number;
  resumed: number;
  alreadyThere: number;
  bad: number;
  messages: number;
  warnings: number;
}

/** Runs `agentstore import --json` against a server. */
export async function importJson(
  url: string,
  args: readonly string[],
): Promise<Ended & { reports: Report[]; summary: Summary }> {
  const ended = await run(["import", "--json", ...args], { AGENTSTORE_URL: url });
  const documents = jsonLines<Report & { summary?: Summary }>(ended.stdout);
  const { summary } = documents.pop() ?? {};
  if (summary === undefined) throw new Error(`no summary: ${ended.stderr}`);
  return { ...ended, reports: documents, summary };
}

/** A line of OpenAI messages, whose contents are 1, 2, 3 … */
export function line(model: string, messages: number, more: object = {}): string {
  const turns = Array.from({ length: messages }, (_, index) => ({
    role: index % 2 === 0 ? "user" : "assistant",
    content: `${index + 1}`,
  }));
  return JSON.stringify({ ...more, model, messages: turns });
}

/** The ids of a model's sessions. */
export async function sessionIds(store: AgentStoreClient, model: string): Promise<bigint[]> {
  const ids: bigint[] = [];
  for await (const { session } of store.iterateSessions(model)) ids.push(session.id);
  return ids;
}

/** A session's messages, read over a stream. */
export async function readByStream(store: AgentStoreClient, id: bigint): Promise<AgentMessage[]> {
  const messages: AgentMessage[] = [];
  for await (const message of store.streamMessages(id, { pageSize: 500 })) messages.push(message);
  return messages;
}
