// Mastra's memory on Postgres: threads and messages in tables.
import { randomUUID } from "node:crypto";
import { PostgresStore } from "@mastra/pg";
import { contents, servePeer } from "../dist/bench/lib/line-jobs.js";

const PAGE_SIZE = 500;

let store;
const threads = new Map();

const of = (messages, index) => {
  const all = threads.get(messages);
  return all[index % all.length];
};

async function thread(resourceId) {
  const now = new Date();
  const id = randomUUID();
  await store.saveThread({
    thread: { id, resourceId, title: "", metadata: {}, createdAt: now, updatedAt: now },
  });
  return id;
}

let clock = Date.now();

async function add(threadId, count) {
  const messages = contents(count).map((text, n) => ({
    id: randomUUID(),
    threadId,
    resourceId: "bench",
    role: n % 2 === 0 ? "user" : "assistant",
    createdAt: new Date(++clock),
    content: { format: 2, parts: [{ type: "text", text }] },
  }));
  return (await store.saveMessages({ messages, format: "v2" })).length;
}

function load(threadId, page, perPage) {
  const selectBy = { pagination: { page, perPage } };
  return store.getMessagesPaginated({ threadId, format: "v2", selectBy });
}

// In pages: what it does with one large result takes the square of its length.
async function loadAll(threadId) {
  let count = 0;
  for (let page = 0; ; page++) {
    const { messages, hasMore } = await load(threadId, page, PAGE_SIZE);
    count += messages.length;
    if (!hasMore) return count;
  }
}

await servePeer({
  async prepare({ databaseUrl, sizes, listed }) {
    store = new PostgresStore({ connectionString: databaseUrl });
    await store.init();
    for (const { messages, sessions } of sizes) {
      const made = [];
      for (let n = 0; n < sessions; n++) {
        const id = await thread("bench");
        for (let left = messages; left > 0; left -= 500) await add(id, Math.min(left, 500));
        made.push(id);
      }
      threads.set(messages, made);
    }
    for (let n = 0; n < listed; n += 20) {
      await Promise.all(Array.from({ length: 20 }, () => thread("listed")));
    }
  },
  append: (messages, index) => add(of(messages, index), 6),
  last: async (messages, index) => (await load(of(messages, index), 0, 20)).messages.length,
  all: (messages, index) => loadAll(of(messages, index)),
  async list() {
    const page = { resourceId: "listed", page: 0, perPage: 50 };
    return (await store.getThreadsByResourceIdPaginated(page)).threads.length;
  },
  end: () => store.close(),
});
