// `agentstore import` that is cut off, by whatever and wherever: it goes on and doubles nothing.
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConversation } from "../../cli/import/conversation.js";
import { storeConversation } from "../../cli/import/store.js";
import { AgentStoreClient } from "../../client/index.js";
import { startServer, type TestServer } from "../harness/server.js";
import { importJson, line, type Report, readByStream, sessionIds } from "./cli-importer.js";
import { start } from "./cli-run.js";

let server: TestServer;
let store: AgentStoreClient;
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "agentstore-resume-"));
  server = await startServer();
  store = new AgentStoreClient(server.url);
});

afterAll(async () => {
  store?.close();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

describe("an import that was cut off", () => {
  // 2,600 messages go in three requests; with the session that makes four writes.
  const text = line("cut", 2600);
  const identity = (occurrence: number) => ({
    model: "cut",
    digest: createHash("sha256").update(text).digest(),
    occurrence,
  });

  it.each([1, 2, 3, 4])("behind its write %i of 4 goes on from there", async (writes) => {
    // The write is carried out, and its answer never heard: what kill -9 does at the worst time.
    let left = writes;
    const cut = new Proxy(store, {
      get: (target, property) => {
        const method: unknown = Reflect.get(target, property, target);
        if (typeof method !== "function") return method;
        return async (...args: unknown[]) => {
          const answer: unknown = await Reflect.apply(method, target, args);
          if (property !== "createSession" && property !== "addMessages") return answer;
          left -= 1;
          if (left === 0) throw new Error("cut off");
          return answer;
        };
      },
    });
    const conversation = readConversation(Buffer.from(text));
    const { signal } = new AbortController();
    await expect(storeConversation(cut, conversation, identity(writes), signal)).rejects.toThrow(
      "cut off",
    );

    const before = await sessionIds(store, "cut");
    const { status, conversationId } = await storeConversation(
      store,
      conversation,
      identity(writes),
      signal,
    );
    expect(status).toBe(writes === 4 ? "already there" : "resumed");
    expect(await sessionIds(store, "cut")).toHaveLength(before.length);
    const contents = (await readByStream(store, conversationId)).map((message) => message.content);
    expect(contents).toEqual(conversation.messages.map((message) => message.content));
  });

  it("by kill -9, again and again, loses and doubles nothing", async () => {
    const model = "killed";
    const count = 120;
    const sources = Array.from({ length: count }, (_, index) =>
      line(model, index % 10 === 0 ? 1500 : 4, { index: index % 50 }),
    );
    const path = join(directory, "killed.jsonl");
    writeFileSync(path, sources.join("\n"));
    for (const reports of [1, 30, 60]) {
      const { child, lines, ended } = start(["import", "--json", path], {
        AGENTSTORE_URL: server.url,
      });
      for (let seen = 0; seen < reports; seen++) await lines.next();
      child.kill("SIGKILL");
      expect((await ended).signal).toBe("SIGKILL");
    }
    const { code, summary, reports } = await importJson(server.url, [path]);
    expect(code).toBe(0);
    expect(summary.imported + summary.resumed + summary.alreadyThere).toBe(count);
    expect(summary.alreadyThere).toBeGreaterThanOrEqual(60);
    expect(await sessionIds(store, model)).toHaveLength(count);
    for (const [index, { conversationId, messages }] of reports.entries()) {
      const contents = (await readByStream(store, BigInt(conversationId))).map(
        ({ content }) => content,
      );
      expect(messages).toBe(index % 10 === 0 ? 1500 : 4);
      expect(contents).toEqual(Array.from({ length: messages }, (_, place) => `${place + 1}`));
    }
  });

  it("by Ctrl-C says how to go on", async () => {
    const { child, lines, ended } = start(["import", "-", "--json"], {
      AGENTSTORE_URL: server.url,
    });
    child.stdin.write(`${line("interrupted", 2)}\n`);
    // The line is reported although stdin stays open.
    const report = JSON.parse((await lines.next()).value as string) as Report;
    expect(report).toMatchObject({ file: "stdin", line: 1, status: "imported" });
    child.kill("SIGINT");
    const { code, stdout, stderr } = await ended;
    expect(code).toBe(130);
    expect(stdout).toContain('"complete":false');
    expect(stderr).toMatch(/interrupted\n.*Run the same command/);
  });

  it("by a server that goes away says so and how to go on", async () => {
    const other = await startServer();
    const { child, lines, ended } = start(["import", "-", "--json"], {
      AGENTSTORE_URL: `${other.url}?timeout=1500`,
    });
    child.stdin.write(`${line("gone", 2)}\n`);
    await lines.next();
    await other.stop();
    child.stdin.write(`${line("gone", 3)}\n`);
    const { code, stderr } = await ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: .*\n.*Run the same command/);
  });
});
