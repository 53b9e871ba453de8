// Sessions whose messages are added, edited and deleted, and what searches of all modes must find of them.
import { expect } from "vitest";
import { type AgentMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { SearchFilter, SearchMode, SearchOrder } from "../../gen/agentstore/v1/search.js";
import { limits } from "../../server/config.js";
import { adminCall } from "./admin-stubs.js";
import { type EmbeddingsServer, meaningOf } from "./embeddings-server.js";
import { until } from "./postgres-watch.js";
import { startServer, type TestServer } from "./server.js";
import { newMessage, Stubs } from "./stubs.js";

const { SUBSTRING, FULL_TEXT, SEMANTIC, HYBRID } = SearchMode;
const { NEWEST_FIRST, BEST_FIRST } = SearchOrder;

/** Limits with which a search of a few hundred messages takes the ways that one of millions takes. */
const NARROW = {
  searchWalk: 8,
  searchSample: 20,
  searchRankedNewest: 30,
  searchRankedNewestHits: 20,
  searchSessions: 1,
  searchSessionMessages: 10n,
};

/** As startServer(), with limits with which a small store is searched as a large one is. */
export async function startNarrow(options: Parameters<typeof startServer>[0]): Promise<TestServer> {
  const usual = { ...limits };
  Object.assign(limits, NARROW);
  try {
    return await startServer(options);
  } finally {
    Object.assign(limits, usual);
  }
}

interface Session {
  id: bigint;
  modelId: string;
  ownerId: string;
  tags: string[];
}

const SESSIONS: Omit<Session, "id">[] = [
  { modelId: "one", ownerId: "ann", tags: ["a", "b"] },
  { modelId: "one", ownerId: "bob", tags: ["a"] },
  { modelId: "two", ownerId: "ann", tags: ["b"] },
  { modelId: "two", ownerId: "", tags: [] },
];
const ROLES = [Role.USER, Role.ASSISTANT, Role.TOOL];
const MESSAGES = 60;

// All have "lamp", few "zebra", one in a session the Chinese words.
function contentOf(n: number): string {
  const words = ["lamp", n % 2 ? "kiwi" : "Kitten", n % 9 === 4 ? "zebra" : "", `item ${n}`];
  return `${words.filter((word) => word !== "").join(" ")}${n === 33 ? " 苹果手机" : ""}`;
}

/** The sessions, in one store. */
export class SearchedLife {
  readonly sessions: Session[] = [];

  constructor(readonly stubs: Stubs) {}

  /** Adds the sessions with all their messages. */
  async begin(): Promise<void> {
    for (const session of SESSIONS) {
      const made = await this.stubs.call("createSession", session);
      const conversationId = made.session!.id;
      this.sessions.push({ ...session, id: conversationId });
      const messages = Array.from({ length: MESSAGES }, (_, n) =>
        newMessage({
          content: contentOf(n),
          role: ROLES[n % ROLES.length]!,
          // Times repeat, among the sessions as well.
          timestampMs: BigInt(1_000 * ((n * 7) % 40)),
        }),
      );
      await this.stubs.call("addMessages", { conversationId, messages });
    }
  }

  /** Edits, deletes and brings back, and adds some. */
  async change(): Promise<void> {
    for (const { id: conversationId } of this.sessions) {
      for (const seq of [5n, 6n, 34n]) {
        const message = { conversationId, seq, content: `violet ${seq}` } as AgentMessage;
        await this.stubs.call("updateMessage", { message, updateMask: ["content"] });
      }
      for (const seq of [10n, 14n, 20n]) {
        await this.stubs.call("deleteMessage", { conversationId, seq });
      }
      await this.stubs.call("undeleteMessage", { conversationId, seq: 20n });
      const message = newMessage({ content: "a zebra, just now", timestampMs: 99_000n });
      await this.stubs.call("addMessage", { conversationId, message });
    }
  }

  /**
   * Asserts what the modes without vectors find, through any server of the store.
   *
   * @param ranksAll whether it ranks all that has a word, or the newest of it
   */
  async assertFound(through: Stubs, ranksAll: boolean): Promise<void> {
    const shown = await this.#shown();
    for (const { query, filter, modelId } of this.#cases()) {
      const expected = shown.filter(
        (one) => isMeant(one, modelId, filter) && contains(one.message, query),
      );
      const keys = expected.toSorted(newestFirst).map(({ message }) => keyOf(message));
      const about = `${query} of '${modelId}' by ${JSON.stringify(filter, writeBigint)}`;
      const search = { modelId, query, filter };
      expect(await find(through, { ...search, mode: SUBSTRING }), about).toEqual(keys);
      const words = { ...search, mode: FULL_TEXT };
      expect(await find(through, { ...words, order: NEWEST_FIRST }), about).toEqual(keys);
      const best = await find(through, { ...words, order: BEST_FIRST });
      expect(keys, about).toEqual(expect.arrayContaining(best));
      expect(new Set(best).size, about).toBe(best.length);
      if (ranksAll) expect(best.length, about).toBe(keys.length);
      else expect(best.length > 0, about).toBe(keys.length > 0);
    }
    await this.#assertContext(through, shown);
  }

  /** Asserts what is found by meaning, once all has been embedded. */
  async assertMeant(through: Stubs): Promise<void> {
    await until("all is embedded", async () => {
      const status = await adminCall(through.channel, "getSearchStatus", {});
      return (
        status.embeddingBackfilled && status.pendingEmbeddings + status.unindexedMessages === 0n
      );
    });
    const shown = await this.#shown();
    for (const { filter, modelId } of this.#cases()) {
      const meant = shown.filter((one) => isMeant(one, modelId, filter));
      const kittens = meant.filter(({ message }) => contains(message, "kitten"));
      const search = { modelId, query: "cat", filter };
      const found = await find(through, { ...search, mode: SEMANTIC });
      const about = `'${modelId}' by ${JSON.stringify(filter, writeBigint)}`;
      expect(found.toSorted(), about).toEqual(
        meant.map(({ message }) => keyOf(message)).toSorted(),
      );
      const first = found.slice(0, kittens.length).toSorted();
      expect(first, about).toEqual(kittens.map(({ message }) => keyOf(message)).toSorted());
      const zebras = meant.filter(({ message }) => contains(message, "zebra"));
      const [one] = await find(through, { ...search, query: "zebra", mode: HYBRID });
      if (zebras.length > 0) expect(zebras.map(({ message }) => keyOf(message))).toContain(one);
    }
    expect(meaningOf("kitten").indexOf(1)).toBe(meaningOf("cat").indexOf(1));
  }

  #cases(): { query: string; modelId: string; filter: SearchFilter }[] {
    const filters = [
      {},
      { conversationId: this.sessions[1]!.id },
      { ownerId: "ann" },
      { allTags: ["a"] },
      { allTags: ["a", "b"], roles: [Role.USER] },
      { ownerId: "nobody" },
      { roles: [Role.ASSISTANT, Role.TOOL] },
      { timestamp: { start: new Date(9_000), end: new Date(31_000) } },
    ].map((filter) => SearchFilter.fromPartial(filter));
    const queries = ["lamp", "zebra", "violet", "苹果手机", "absent"];
    return filters.flatMap((filter, n) => {
      const modelId = n % 2 === 0 ? "" : "one";
      return [0, 2].map((step) => ({ query: queries[(n + step) % 5]!, modelId, filter }));
    });
  }

  async #shown(): Promise<Shown[]> {
    const each = this.sessions.map(async (session) => {
      const request = { conversationId: session.id, limit: 1_000 };
      const { messages } = await this.stubs.call("getMessages", request);
      return messages.map((message) => ({ message, session }));
    });
    return (await Promise.all(each)).flat();
  }

  async #assertContext(through: Stubs, shown: Shown[]): Promise<void> {
    const { results } = await through.call("searchMessages", {
      query: "zebra",
      limit: 50,
      contextBefore: 3,
      contextAfter: 2,
    });
    expect(results.length).toBeGreaterThan(1);
    for (const { message, before, after } of results) {
      const own = shown.filter(({ session }) => session.id === message!.conversationId);
      const seqs = own.map((one) => one.message.seq);
      const place = seqs.indexOf(message!.seq);
      expect(before.map(({ seq }) => seq)).toEqual(seqs.slice(Math.max(0, place - 3), place));
      expect(after.map(({ seq }) => seq)).toEqual(seqs.slice(place + 1, place + 3));
    }
  }
}

interface Shown {
  message: AgentMessage;
  session: Session;
}

function isMeant({ message, session }: Shown, modelId: string, filter: SearchFilter): boolean {
  const { conversationId, ownerId, allTags, roles, timestamp } = filter;
  const time = new Date(Number(message.timestampMs));
  return (
    (modelId === "" || session.modelId === modelId) &&
    (conversationId === 0n || session.id === conversationId) &&
    (ownerId === "" || session.ownerId === ownerId) &&
    allTags.every((tag) => session.tags.includes(tag)) &&
    (roles.length === 0 || roles.includes(message.role)) &&
    (!timestamp?.start || time >= timestamp.start) &&
    (!timestamp?.end || time < timestamp.end)
  );
}

function contains({ content }: AgentMessage, query: string): boolean {
  return content.toLowerCase().includes(query);
}

function newestFirst({ message: a }: Shown, { message: b }: Shown): number {
  return Number(b.timestampMs - a.timestampMs) || Number(b.id - a.id);
}

function keyOf({ conversationId, seq }: AgentMessage): string {
  return `${conversationId}/${seq}`;
}

// All pages of a search, of several results each.
async function find(
  stubs: Stubs,
  request: { modelId: string; query: string; filter: SearchFilter; mode: SearchMode } & {
    order?: SearchOrder;
  },
): Promise<string[]> {
  const found: string[] = [];
  for (let pageToken = ""; ; ) {
    const page = await stubs.call("searchMessages", { ...request, limit: 25, pageToken });
    found.push(...page.results.map(({ message }) => keyOf(message!)));
    pageToken = page.nextPageToken;
    if (pageToken === "") return found;
  }
}

function writeBigint(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}

/** Runs the life of the sessions in a store, and holds what its servers find against it. */
export async function assertSearchesAgree(
  databaseUrl: string,
  {
    endpoint,
    stopIndexer,
  }: {
    endpoint: EmbeddingsServer;
    stopIndexer: () => Promise<{ release(): Promise<unknown> }>;
  },
): Promise<void> {
  const embeddings = { url: endpoint.url, model: "test-embeddings" };
  const servers = [
    await startServer({ databaseUrl, embeddings }),
    await startNarrow({ databaseUrl, embeddings }),
  ];
  const [usual, narrow] = servers.map(({ address }) => new Stubs(address)) as [Stubs, Stubs];
  try {
    const life = new SearchedLife(usual);
    const indexed = async () => {
      await until("all is indexed", async () => {
        const { unindexedMessages } = await usual.call("searchMessages", { query: "x", limit: 1 });
        return unindexedMessages === 0n;
      });
    };
    const assertAll = async () => {
      await life.assertFound(usual, true);
      await life.assertFound(narrow, false);
    };
    let stopped = await stopIndexer();
    await life.begin();
    await assertAll();
    await stopped.release();
    await indexed();
    await assertAll();
    stopped = await stopIndexer();
    await life.change();
    await assertAll();
    await stopped.release();
    await indexed();
    await assertAll();
    for (const stubs of [usual, narrow]) await life.assertMeant(stubs);
    const [gone] = life.sessions.splice(0, 1);
    await usual.call("deleteSession", { conversationId: gone!.id });
    await assertAll();
    await life.assertMeant(usual);
  } finally {
    for (const stubs of [usual, narrow]) stubs.close();
    for (const server of servers) await server.stop();
  }
}
