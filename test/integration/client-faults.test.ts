// The client against the real server over a line that breaks: nothing is lost, nothing is doubled.
import { afterEach, describe, expect, it } from "vitest";
import { type AgentMessage, AgentStoreClient, type WriteInfo } from "../../client/index.js";
import { createDatabase } from "../harness/postgres.js";
import { startServer } from "../harness/server.js";
import { type Proxy, startProxy } from "../unit/client/proxy.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A server with a client straight to it and one through a line that can break. */
async function start(): Promise<{
  direct: AgentStoreClient;
  store: AgentStoreClient;
  proxy: Proxy;
}> {
  const server = await startServer();
  closers.push(() => server.stop());
  const proxy = await startProxy(Number(server.address.split(":")[1]));
  closers.push(() => proxy.stop());
  const direct = new AgentStoreClient(server.url);
  const store = new AgentStoreClient(`agentstore://127.0.0.1:${proxy.port}`);
  closers.push(
    () => direct.close(),
    () => store.close(),
  );
  await store.waitForReady();
  return { direct, store, proxy };
}

describe("an append whose answer is lost after it was committed", () => {
  it("succeeds as a replay, even where it expected a last_seq", async () => {
    const { direct, store, proxy } = await start();
    const { id } = await store.createSession("faults");
    const infos: WriteInfo[] = [];
    for (const lastSeq of [0n, 1n]) {
      proxy.losingAnswers = true;
      const adding = store.addMessage(id, "user", `message ${lastSeq + 1n}`, {
        expectedLastSeq: lastSeq,
        onWritten: (info) => infos.push(info),
      });
      while ((await direct.getSession(id)).lastSeq === lastSeq);
      proxy.losingAnswers = false;
      proxy.cut();
      expect((await adding).seq).toBe(lastSeq + 1n);
    }
    expect(infos).toMatchObject([{ replayed: true }, { replayed: true }]);
    for (const { attempts } of infos) expect(attempts).toBeGreaterThan(1);
    const { messages } = await direct.getMessages(id);
    expect(messages.map(({ content }) => content)).toEqual(["message 1", "message 2"]);
  });
});

describe("a line that breaks again and again", () => {
  it("neither loses nor doubles concurrent appends", async () => {
    const { direct, store, proxy } = await start();
    const sessions = await Promise.all([1, 2, 3].map(() => direct.createSession("faults")));
    const acknowledged = new Map(sessions.map(({ id }) => [id, [] as string[]]));
    let writers = 6;
    const write = async (writer: number): Promise<void> => {
      const { id } = sessions[writer % 3]!;
      try {
        for (let n = 0; n < 30; n++) {
          const content = `${writer}/${n}`;
          const message = await store.addMessage(id, "user", content);
          expect(message.content).toBe(content);
          acknowledged.get(id)?.push(content);
        }
      } finally {
        writers--;
      }
    };
    const writing = Promise.all(Array.from({ length: 6 }, (_, writer) => write(writer)));
    let cuts = 0;
    const committed = async (): Promise<bigint> => {
      const read = await Promise.all(sessions.map(({ id }) => direct.getSession(id)));
      return read.reduce((sum, { lastSeq }) => sum + lastSeq, 0n);
    };
    // The line breaks after every few appends, half of the time with answers lost before.
    while (writers > 0) {
      const from = await committed();
      while (writers > 0 && (await committed()) < from + 8n);
      if (cuts % 2 === 0) {
        proxy.losingAnswers = true;
        const lost = await committed();
        // Not for ever: every writer may already be waiting for an answer that is lost.
        for (let tries = 0; tries < 20 && (await committed()) < lost + 2n; tries++);
        proxy.losingAnswers = false;
      }
      proxy.cut();
      cuts++;
    }
    await writing;
    expect(cuts).toBeGreaterThan(3);
    for (const [id, contents] of acknowledged) {
      const { messages } = await direct.getMessages(id, { pageSize: 1_000 });
      expect(messages.map(({ seq }) => seq)).toEqual(messages.map((_, index) => BigInt(index + 1)));
      expect(messages.map(({ content }) => content).sort()).toEqual(contents.sort());
    }
  });

  it.each(["oldest_first", "newest_first"] as const)(
    "leaves no gap in a stream, %s",
    async (order) => {
      const { direct, store, proxy } = await start();
      const { id } = await direct.createSession("faults");
      const batch = Array.from({ length: 1_000 }, (_, n) => ({
        role: "user" as const,
        content: `${n} `.repeat(100),
      }));
      for (let n = 0; n < 4; n++) await direct.addMessages(id, batch);
      const seqs: bigint[] = [];
      for await (const { seq } of store.streamMessages(id, { order, lastN: 3_500 })) {
        seqs.push(seq);
        if (seqs.length % 700 === 0) {
          proxy.cut();
          await direct.addMessage(id, "user", "appended meanwhile");
        }
      }
      const expected = Array.from({ length: 3_500 }, (_, n) => BigInt(501 + n));
      expect(seqs).toEqual(order === "newest_first" ? expected.reverse() : expected);
    },
  );
});

describe("a server that stops and starts again", () => {
  it("is waited for by calls, and a stream goes on behind its last page", async () => {
    const database = await createDatabase();
    closers.push(() => database.drop());
    const first = await startServer({ databaseUrl: database.url });
    const store = new AgentStoreClient(first.url);
    closers.push(() => store.close());
    const { id } = await store.createSession("faults");
    const contents = Array.from({ length: 300 }, (_, n) => `message ${n}`);
    await store.addMessages(
      id,
      contents.map((content) => ({ role: "user", content: content.repeat(5_000) })),
    );
    const seen: string[] = [];
    let appending: Promise<AgentMessage> | undefined;
    for await (const { content } of store.streamMessages(id, { lastN: 300, pageSize: 10 })) {
      seen.push(content);
      if (seen.length === 15) {
        await first.stop();
        appending = store.addMessage(id, "user", "appended meanwhile");
        const port = Number(first.address.split(":")[1]);
        const second = await startServer({ databaseUrl: database.url, port });
        closers.push(() => second.stop());
      }
    }
    expect(seen).toEqual(contents.map((content) => content.repeat(5_000)));
    expect((await appending)?.seq).toBe(301n);
  });
});
