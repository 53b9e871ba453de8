// Two servers on one database: what must hold may not rest on the memory of one process.
import type { AppOptions } from "../../server/app.js";
import { createDatabase } from "./postgres.js";
import { startServer } from "./server.js";
import { newMessage, Stubs } from "./stubs.js";

/** Two servers in this process and a channel to each. */
export interface ServerPair {
  databaseUrl: string;
  one: Stubs;
  two: Stubs;
  /** Both, to alternate by an index modulo 2. */
  both: [Stubs, Stubs];
  /** Creates a session with so many messages; returns its id. */
  createSession(messages?: number): Promise<bigint>;
  stop(): Promise<void>;
}

/** Starts two servers on a fresh database. */
export async function startServerPair(options: Partial<AppOptions> = {}): Promise<ServerPair> {
  const database = await createDatabase();
  const servers = [
    await startServer({ ...options, databaseUrl: database.url }),
    await startServer({ ...options, databaseUrl: database.url }),
  ] as const;
  const both: [Stubs, Stubs] = [new Stubs(servers[0].address), new Stubs(servers[1].address)];
  const [one, two] = both;
  return {
    databaseUrl: database.url,
    one,
    two,
    both,
    async createSession(messages = 0) {
      const { session } = await one.call("createSession", { modelId: "gpt-4" });
      const conversationId = session!.id;
      if (messages > 0) {
        const batch = Array.from({ length: messages }, (_, n) => newMessage({ content: `${n}` }));
        await one.call("addMessages", { conversationId, messages: batch });
      }
      return conversationId;
    },
    async stop() {
      for (const stubs of both) stubs.close();
      for (const server of servers) await server.stop();
      await database.drop();
    },
  };
}
