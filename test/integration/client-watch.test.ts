// The client's watches against real servers that are killed, stopped and cut off: everything is told
// once and in order.
import { afterEach, describe, expect, it } from "vitest";
import {
  type AgentMessage,
  AgentStoreClient,
  type AgentStoreError,
  InvalidFieldError,
  InvalidPageTokenError,
  RevisionAheadError,
  type SessionEvent,
  type SessionEventBatch,
  SessionNotFoundError,
  type WatchSessionsOptions,
} from "../../client/index.js";
import { createDatabase } from "../harness/postgres.js";
import { type SpawnedServer, spawnServer, startServer } from "../harness/server.js";
import { startProxy } from "../unit/client/proxy.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function client(url: string): AgentStoreClient {
  const store = new AgentStoreClient(url);
  closers.push(() => store.close());
  return store;
}

async function databaseUrl(): Promise<string> {
  const database = await createDatabase();
  closers.push(() => database.drop());
  return database.url;
}

async function serve(options: Parameters<typeof startServer>[0] = {}) {
  const server = await startServer(options);
  closers.push(() => server.stop());
  return server;
}

type Version = [revision: bigint, seq: bigint, version: bigint, kind: string, content: string];

function versionOf({ seq, version, revision, content }: AgentMessage, kind: string): Version {
  return [revision, seq, version, kind, content];
}

/** What an event tells of a message; nothing for what it tells of the session or the watch. */
function toldBy(event: SessionEvent): Version[] {
  if (!("message" in event)) return [];
  expect(event.revision).toBe(event.message.revision);
  return [versionOf(event.message, event.kind)];
}

/** All versions of all messages of a session, as they are stored. */
async function history(store: AgentStoreClient, id: bigint): Promise<Version[]> {
  const versions: Version[] = [];
  const { lastSeq } = await store.getSession(id);
  for (let seq = 1n; seq <= lastSeq; seq++) {
    for await (const { message } of store.iterateMessageVersions(id, seq)) {
      const first = message.version === 1n ? "message_appended" : "message_updated";
      versions.push(versionOf(message, message.deletedAt ? "message_deleted" : first));
    }
  }
  return versions.sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Appends, changes, deletes and brings back messages of a session for as long as it may go on. */
async function writeWhile(
  store: AgentStoreClient,
  id: bigint,
  mayGoOn: () => boolean | Promise<boolean>,
): Promise<void> {
  for (let n = 0; await mayGoOn(); n++) {
    const batch = Array.from({ length: 1 + (n % 4) }, (_, i) => `message ${n}.${i}`);
    const added = await store.addMessages(
      id,
      batch.map((content) => ({ role: "user" as const, content })),
    );
    const { seq } = added[0]!;
    if (n % 3 === 0) await store.updateMessage(id, seq, { content: `changed ${n}` });
    if (n % 5 === 0) await store.deleteMessage(id, seq);
    if (n % 10 === 0) await store.undeleteMessage(id, seq);
    if (n % 7 === 0) await store.updateSession(id, { title: `title ${n}` });
  }
}

describe("watchSession", () => {
  it("tells the stored history once, in order, whatever kills its server while it is written", async () => {
    const database = await databaseUrl();
    let watched: SpawnedServer = await spawnServer(["--database-url", database]);
    closers.push(() => watched.end("SIGKILL"));
    const port = watched.address.split(":")[1]!;
    const other = client((await serve({ databaseUrl: database })).url);
    const store = client(watched.url);
    const { id } = await store.createSession("watch");
    await store.addMessage(id, "user", "before");

    const told: Version[] = [];
    const kinds: string[] = [];
    let killed = 0;
    let done = false;
    let last = 0n;
    let killing: Promise<void> | undefined;
    let writing: Promise<unknown> | undefined;
    let started = Promise.resolve();
    const mayGoOn = () => started.then(() => !done);
    const kill = async (): Promise<void> => {
      await watched.end("SIGKILL");
      const from = (await other.getSession(id)).revision;
      while ((await other.getSession(id)).revision < from + 20n);
      // A start takes as long as it takes; the history is to stay short.
      const starting = spawnServer(["--database-url", database, "--port", port]);
      started = starting.then(() => {});
      watched = await starting;
      killed++;
      killing = undefined;
    };
    const finish = async (): Promise<void> => {
      done = true;
      await writing;
      last = (await other.getSession(id)).revision;
      // The watch may have told all of it already.
      await other.updateSession(id, { title: "the end" });
    };
    let finishing: Promise<void> | undefined;
    let nextKill = 30;
    for await (const event of store.watchSession(id)) {
      kinds.push(event.kind);
      if (event.kind === "caught_up" && writing === undefined) {
        // One writes through a server that stays, the other through the one that is killed.
        writing = Promise.all([other, store].map((writer) => writeWhile(writer, id, mayGoOn)));
      }
      told.push(...toldBy(event));
      if (killed === 2) finishing ??= finish();
      else if (told.length > nextKill && killing === undefined) {
        nextKill = told.length + 60;
        killing = kill();
      }
      if (last > 0n && event.revision > last) break;
    }
    await finishing;
    const stored = await history(other, id);
    expect(stored.length).toBeGreaterThan(100);
    expect(told).toEqual(stored.slice(1));
    expect(kinds.filter((kind) => kind === "interrupted").length).toBeGreaterThanOrEqual(2);
    expect(kinds.filter((kind) => kind === "reconnected").length).toBeGreaterThanOrEqual(2);

    const again: Version[] = [];
    for await (const event of other.watchSession(id, { after: 0 })) {
      if (event.kind === "caught_up") break;
      again.push(...toldBy(event));
    }
    expect(again).toEqual(stored);
  });

  it("goes on with the next server after one that shuts down", async () => {
    const database = await databaseUrl();
    const first = await startServer({ databaseUrl: database });
    const other = client((await serve({ databaseUrl: database })).url);
    const { id } = await other.createSession("watch");
    const log: string[] = [];
    let error: AgentStoreError | undefined;
    for await (const event of client(first.url).watchSession(id)) {
      log.push(event.kind);
      if (event.kind === "caught_up" && log.length === 1) {
        await first.stop();
        await other.addMessage(id, "user", "said meanwhile");
        await serve({ databaseUrl: database, port: Number(first.address.split(":")[1]) });
      }
      if (event.kind === "interrupted") ({ error } = event);
      if (event.kind === "message_appended") {
        expect(event.message.content).toBe("said meanwhile");
        await other.deleteSession(id);
      }
    }
    expect(error?.reason).toBe("SHUTTING_DOWN");
    expect(log.filter((kind) => kind !== "caught_up")).toEqual([
      "interrupted",
      "reconnected",
      "message_appended",
      "session_deleted",
    ]);
    expect(log.filter((kind) => kind === "caught_up")).toHaveLength(2);
  });

  it("tells at each of several servers what was written at any of them", async () => {
    const database = await databaseUrl();
    const servers = [
      await serve({ databaseUrl: database }),
      await serve({ databaseUrl: database }),
      await serve({ databaseUrl: database }),
    ];
    const stores = servers.map(({ url }) => client(url));
    const { id } = await stores[0]!.createSession("watch");
    const logs = stores.map(async (store) => {
      const told: Version[] = [];
      for await (const event of store.watchSession(id, { after: 0 })) {
        told.push(...toldBy(event));
        if (told.length === 60) break;
      }
      return told;
    });
    await Promise.all(
      stores.map(async (store, writer) => {
        for (let n = 0; n < 20; n++) await store.addMessage(id, "user", `${writer}/${n}`);
      }),
    );
    const stored = await history(stores[0]!, id);
    for (const log of await Promise.all(logs)) expect(log).toEqual(stored);
  });

  it("tells that a session is gone that was deleted while the line was down", async () => {
    const server = await serve();
    const proxy = await startProxy(Number(server.address.split(":")[1]));
    closers.push(() => proxy.stop());
    const direct = client(server.url);
    const { id } = await direct.createSession("watch");
    const log: string[] = [];
    for await (const event of client(`agentstore://127.0.0.1:${proxy.port}`).watchSession(id)) {
      log.push(event.kind);
      if (event.kind === "caught_up") {
        proxy.losingAnswers = true;
        await direct.deleteSession(id);
        proxy.cut();
        proxy.losingAnswers = false;
      }
    }
    expect(log).toEqual(["caught_up", "interrupted", "session_deleted"]);
  });

  it("throws typed errors for what will not pass", async () => {
    const store = client((await serve()).url);
    const { id } = await store.createSession("watch");
    const thrown = (options: { id?: bigint; after?: bigint }) =>
      store
        .watchSession(options.id ?? id, { after: options.after })
        .next()
        .catch((error: unknown) => error);
    expect(await thrown({ id: 4_000_000_000n })).toBeInstanceOf(SessionNotFoundError);
    expect(await thrown({ id: 0n })).toBeInstanceOf(InvalidFieldError);
    expect(await thrown({ after: -1n })).toBeInstanceOf(InvalidFieldError);
    const ahead = await thrown({ after: 99n });
    expect(ahead).toBeInstanceOf(RevisionAheadError);
    expect(ahead).toMatchObject({ conversationId: id, revision: 1n });
  });
});

describe("watchSessions", () => {
  /** The contents that are told, up to the last one that is waited for. */
  async function contents(
    watch: AsyncIterable<SessionEventBatch>,
    last: string,
  ): Promise<{ told: string[]; position: string }> {
    const told: string[] = [];
    for await (const { events, position } of watch) {
      told.push(
        ...events.flatMap((event) =>
          event.kind === "message_appended" ? [event.message.content] : [],
        ),
      );
      if (told.includes(last)) return { told, position };
    }
    throw new Error("a watch of sessions does not end");
  }

  it("tells of the sessions that have the labels, and goes on from a position kept elsewhere", async () => {
    const database = await databaseUrl();
    const first = await startServer({ databaseUrl: database });
    const port = Number(first.address.split(":")[1]);
    const store = client(first.url);
    const labels = { ownerId: "alice", tags: ["a", "b"] };
    const { id } = await store.createSession("watch", labels);
    const others = [
      await store.createSession("other", labels),
      await store.createSession("watch", { ...labels, ownerId: "bob" }),
      await store.createSession("watch", { ...labels, tags: ["a"] }),
    ];
    const say = async (content: string): Promise<void> => {
      for (const session of others) await store.addMessage(session.id, "user", `not ${content}`);
      await store.addMessage(id, "user", content);
    };
    await say("one");
    const chosen: WatchSessionsOptions = { modelId: "watch", ownerId: "alice", tags: ["b"] };
    const history = await contents(store.watchSessions({ ...chosen, after: "" }), "one");
    expect(history.told).toEqual(["one"]);
    await say("two");
    await first.stop();
    await serve({ databaseUrl: database, port });
    await say("three");
    const { position: after } = history;
    const later = await contents(store.watchSessions({ ...chosen, after }), "three");
    expect(later.told).toEqual(["two", "three"]);

    const altered = store.watchSessions({ ...chosen, modelId: "other", after });
    await expect(altered.next()).rejects.toBeInstanceOf(InvalidPageTokenError);
  });

  it("loses nothing and doubles nothing when it is cut off again and again", async () => {
    const server = await serve();
    const proxy = await startProxy(Number(server.address.split(":")[1]));
    closers.push(() => proxy.stop());
    const direct = client(server.url);
    const sessions = await Promise.all([1, 2, 3].map(() => direct.createSession("watch")));
    const told = new Map(sessions.map(({ id }) => [id, [] as Version[]]));
    let writing: Promise<unknown> | undefined;
    let done = false;
    let cuts = 0;
    let nextCut = 10;
    let count = 0;
    const expected = new Map<bigint, bigint>();
    const finished = (): boolean =>
      expected.size === 3 &&
      [...expected].every(([id, revision]) => told.get(id)!.some(([at]) => at === revision));
    const store = client(`agentstore://127.0.0.1:${proxy.port}`);
    for await (const { events } of store.watchSessions()) {
      for (const event of events) {
        if (event.kind === "caught_up") {
          writing ??= Promise.all(
            sessions.map(async ({ id }) => {
              await writeWhile(direct, id, () => !done);
              const { revision } = await direct.addMessage(id, "user", "the end");
              expected.set(id, revision);
            }),
          );
        }
        told.get(event.conversationId)?.push(...toldBy(event));
        count++;
      }
      if (cuts === 5) done = true;
      else if (count > nextCut) {
        nextCut = count + 15;
        cuts++;
        proxy.cut();
      }
      if (finished()) break;
    }
    await writing;
    for (const [id, log] of told) expect(log).toEqual(await history(direct, id));
  });
});
