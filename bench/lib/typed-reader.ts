// Streams a session through the typed client into objects, in a process of its own.
import { type AgentMessage, AgentStoreClient } from "../../client/index.js";
import type { ReadResult } from "./row-reader.js";
import { serveJobs } from "./worker.js";

/** What to read. */
export interface TypedReadJob {
  address: string;
  conversationId: bigint;
  pageSize: number;
  /** Iterates over pages instead of over messages. */
  pages: boolean;
}

let client: AgentStoreClient | undefined;

serveJobs(
  async ({ address, conversationId, pageSize, pages }: TypedReadJob): Promise<ReadResult> => {
    client ??= new AgentStoreClient(`agentstore://${address}`);
    const cpu = process.cpuUsage();
    const start = performance.now();
    let rows = 0;
    let characters = 0;
    const count = (message: AgentMessage) => {
      rows++;
      characters += message.content.length;
    };
    if (pages) {
      for await (const page of client.streamPages(conversationId, { pageSize })) {
        page.messages.forEach(count);
      }
    } else {
      for await (const message of client.streamMessages(conversationId, { pageSize }))
        count(message);
    }
    if (characters === 0) throw new Error("the messages are empty");
    const seconds = (performance.now() - start) / 1000;
    const used = process.cpuUsage(cpu);
    return { rows, seconds, cpuMs: (used.user + used.system) / 1000 };
  },
);
