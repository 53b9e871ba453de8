// AgentStore as one of the peers: the typed client, over the network hop to the server.
import { Connection, type Method } from "../../client/connection.js";
import { settle } from "../../client/connection-string.js";
import { AgentStoreClient } from "../../client/index.js";
import { contents, type Peer, servePeer } from "./line-jobs.js";

const url = `agentstore://${process.argv[2] ?? ""}`;
const client = new AgentStoreClient(url);
// What the client makes its calls with, for one that it has no method for.
const connection = new Connection(settle({ url }, {}));
const CHECK: Method<object, Buffer> = {
  path: "/grpc.health.v1.Health/Check",
  requestSerialize: () => Buffer.alloc(0),
  responseDeserialize: (bytes) => bytes,
};
const sessions = new Map<number, bigint[]>();

const id = (messages: number, index: number) => {
  const all = sessions.get(messages) ?? [];
  return all[index % all.length] ?? 0n;
};
const turn = (count: number) =>
  contents(count).map((content, n) => ({
    role: n % 2 === 0 ? ("user" as const) : ("assistant" as const),
    content,
  }));

const peer: Peer = {
  async prepare({ sizes, listed }) {
    for (const size of sizes) {
      const made: bigint[] = [];
      for (let n = 0; n < size.sessions; n++) {
        const { id } = await client.createSession("peers");
        for (let left = size.messages; left > 0; left -= 1000) {
          await client.addMessages(id, turn(Math.min(left, 1000)));
        }
        made.push(id);
      }
      sessions.set(size.messages, made);
    }
    for (let n = 0; n < listed; n += 100) {
      await Promise.all(Array.from({ length: 100 }, () => client.createSession("listed")));
    }
  },
  async append(messages, index) {
    const added = await client.addMessages(id(messages, index), turn(6));
    return added.length;
  },
  async last(messages, index) {
    const page = await client.getMessages(id(messages, index), { lastN: 20 });
    return page.messages.length;
  },
  async all(messages, index) {
    let count = 0;
    for await (const page of client.streamPages(id(messages, index), { pageSize: 1000 })) {
      count += page.messages.length;
    }
    return count;
  },
  async list() {
    const page = await client.listSessions("listed", { pageSize: 50 });
    return page.sessions.length;
  },
  async nothing() {
    await connection.unary(CHECK, {}, {});
    return 0;
  },
  async end() {
    connection.close();
    client.close();
  },
};

await servePeer(peer);
