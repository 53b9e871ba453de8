// `agentstore import` against a real server: all of it, once, however often and wherever it is cut.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConversation } from "../../cli/import/conversation.js";
import { storeConversation } from "../../cli/import/store.js";
import { sourceEnvelope } from "../../cli/show/json-line.js";
import { type AgentMessage, AgentStoreClient } from "../../client/index.js";
import { projectRoot } from "../../server/paths.js";
import { startServer, type TestServer } from "../harness/server.js";
import { importJson, line, readByStream, sessionIds } from "./cli-importer.js";
import { type Ended, run } from "./cli-run.js";

const FIXTURES = join(projectRoot, "test/fixtures");
let server: TestServer;
let store: AgentStoreClient;
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "agentstore-import-"));
  server = await startServer();
  store = new AgentStoreClient(server.url);
});

afterAll(async () => {
  store?.close();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const agentstore = (args: string[], input?: string | Buffer): Promise<Ended> =>
  run(args, { AGENTSTORE_URL: server.url }, input);

function file(name: string, content: string | Buffer): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

async function readByPages(id: bigint): Promise<AgentMessage[]> {
  const messages: AgentMessage[] = [];
  for await (const message of store.iterateMessages(id, { pageSize: 7 })) messages.push(message);
  return messages;
}

const DATA = process.env["AGENTSTORE_TEST_DATA"];
const dataFiles = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".jsonl") && name !== "odd.jsonl")
    .map((name) => join(folder, name));

// The whole recordings are not part of the repository: AGENTSTORE_TEST_DATA names their folder.
const recordings = [...dataFiles(FIXTURES), ...(DATA ? dataFiles(DATA) : [])];

describe("recorded conversations", () => {
  it.each(recordings)(
    "%s: every message is read back equal, by page, by stream and by show",
    async (path) => {
      const sources = readFileSync(path, "utf8").trimEnd().split("\n");
      const { code, reports, summary, stderr } = await importJson(server.url, [
        "--model",
        path,
        path,
      ]);
      expect(stderr).toBe("");
      expect(code).toBe(0);
      expect(summary).toMatchObject({ complete: true, imported: sources.length, bad: 0 });
      expect(reports.map((report) => report.line)).toEqual(sources.map((_, index) => index + 1));
      expect(new Set(await sessionIds(store, path)).size).toBe(sources.length);

      const ids = reports.map((report) => BigInt(report.conversationId));
      for (const [index, id] of ids.entries()) {
        const source = JSON.parse(sources[index] ?? "") as { messages?: unknown[] };
        const conversation = readConversation(Buffer.from(sources[index] ?? ""));
        const pages = await readByPages(id);
        expect(pages.map((message) => message.seq)).toEqual(
          conversation.messages.map((_, place) => BigInt(place + 1)),
        );
        expect(pages).toMatchObject(conversation.messages);
        expect(await readByStream(store, id)).toEqual(pages);
        const envelope = sourceEnvelope(await store.getSession(id));
        const shown = pages.map((message) => envelope.message(message)).join(",");
        expect(JSON.parse(envelope.before + shown + envelope.after)).toEqual(source);
        if (source.messages) checkAgainstOpenAi(pages, source.messages);
      }
      // A process for each session takes a while: first, middle and last stand for all, whose
      // lines were made as show makes them.
      const shown = new Set([0, Math.floor(ids.length / 2), ids.length - 1]);
      for (const index of shown) {
        const id = String(ids[index]);
        const source = JSON.parse(sources[index] ?? "") as Record<string, unknown[]>;
        const inSource = await agentstore(["show", id, "--format", "source"]);
        expect(JSON.parse(inSource.stdout)).toEqual(source);
        if (source["messages"]) {
          const openAi = await agentstore(["show", id, "--format", "openai"]);
          expect(JSON.parse(openAi.stdout)).toEqual({ messages: source["messages"] });
        } else {
          const exact = `{"conversations":${JSON.stringify(source["conversations"])}`;
          expect(inSource.stdout.replaceAll(/("(?:[^"\\]|\\.)*")|\s/g, "$1")).toContain(exact);
        }
      }

      const again = await importJson(server.url, ["--model", path, path]);
      expect(again.code).toBe(0);
      expect(again.summary).toMatchObject({
        imported: 0,
        resumed: 0,
        alreadyThere: sources.length,
      });
      expect(again.reports.map((report) => BigInt(report.conversationId))).toEqual(ids);
    },
    120_000,
  );
});

/** Holds stored messages against OpenAI's, without the importer's help. */
function checkAgainstOpenAi(stored: readonly AgentMessage[], source: readonly unknown[]): void {
  interface Call {
    id: string;
    function: { name: string; arguments: string };
  }
  for (const [index, item] of source.entries()) {
    const given = item as {
      role: string;
      content: string | null;
      name?: string;
      tool_call_id?: string;
      tool_calls?: Call[];
    };
    expect(stored[index]).toMatchObject({
      role: given.role,
      content: given.content ?? "",
      name: given.name ?? "",
      toolCallId: given.tool_call_id ?? "",
      toolCalls: (given.tool_calls ?? []).map((call) => ({ id: call.id, ...call.function })),
    });
  }
}

describe("odd.jsonl", () => {
  const path = join(FIXTURES, "odd.jsonl");

  it("brings in the good lines and names the bad ones by number", async () => {
    const { code, stderr, reports, summary } = await importJson(server.url, [path]);
    expect(code).toBe(1);
    expect(summary).toEqual({
      complete: true,
      imported: 10,
      resumed: 0,
      alreadyThere: 0,
      bad: 7,
      messages: 33,
      warnings: 3,
    });
    const bad = reports.filter((report) => report.status === "bad");
    expect(bad.map((report) => report.line)).toEqual([11, 12, 13, 14, 15, 16, 17]);
    for (const { line: number, error } of bad) {
      expect(stderr).toContain(`${path}:${number}: ${error}\n`);
    }
    expect(reports.find((report) => report.line === 1)?.model).toBe("gpt-4o");

    const sources = readFileSync(path, "latin1").split("\n");
    for (const report of reports.filter(({ status }) => status !== "bad")) {
      const { stdout } = await agentstore(["show", report.conversationId, "--format", "source"]);
      const bytes = Buffer.from(sources[report.line - 1] ?? "", "latin1");
      const source = bytes.toString().replace(/^\ufeff/, "");
      expect(JSON.parse(stdout)).toEqual(JSON.parse(source));
    }
  });

  it("keeps what JSON.parse would lose", async () => {
    const { reports } = await importJson(server.url, [path]);
    const show = async (number: number, format: string): Promise<string> => {
      const id = reports.find((report) => report.line === number)?.conversationId ?? "";
      return (await agentstore(["show", id, "--format", format])).stdout;
    };
    expect(await show(1, "source")).toContain('"id":9007199254740993');
    expect(await show(1, "openai")).toContain('"seed": 12345678901234567890');
    expect(await show(6, "openai")).toContain('"arguments":{ "n" : 1e400,  "n":2.50 }');
    expect(await show(7, "openai")).toContain('"half \\ud800 pair"');
    expect(JSON.parse(await show(7, "openai"))).toMatchObject({
      messages: [{ content: "nul \u0000 here" }, {}, {}],
    });
    expect(await show(7, "source")).toContain('"note":"\\u0000"');
    expect(JSON.parse(await show(9, "openai"))).toMatchObject({
      messages: [
        { role: "system" },
        { role: "user" },
        {
          role: "assistant",
          content: null,
          tool_calls: [
            { id: "call_1", function: { name: "a", arguments: '{ "q" : [1, 2.0] }' } },
            { id: "call_2", function: { name: "b", arguments: '{"city": "Bern"}' } },
          ],
        },
        { role: "tool", tool_call_id: "call_1", content: "one" },
        { role: "tool", tool_call_id: "call_2", content: "two" },
        { role: "tool", content: "three" },
        { role: "assistant", content: "Done" },
        { role: "user", name: "critic", content: "Hm." },
      ],
    });
  });
});

describe("an import", () => {
  it("tells equal lines of one file apart, and the same file by another name not", async () => {
    const content = `${line("twice", 1)}\n${line("twice", 1)}\n`;
    await importJson(server.url, [file("twice-a.jsonl", content)]);
    const { summary } = await importJson(server.url, [file("twice-b.jsonl", content)]);
    expect(summary).toMatchObject({ imported: 0, alreadyThere: 2 });
    const longer = await importJson(server.url, [
      file("twice-c.jsonl", content + line("twice", 1)),
    ]);
    expect(longer.summary).toMatchObject({ imported: 1, alreadyThere: 2 });
    expect(await sessionIds(store, "twice")).toHaveLength(3);
  });

  it("keeps models apart", async () => {
    const path = file("models.jsonl", '[{"role":"user","content":"models"}]');
    const first = await importJson(server.url, [path]);
    const second = await importJson(server.url, [path, "--model", "other-model"]);
    expect(first.reports[0]).toMatchObject({ model: "imported", status: "imported" });
    expect(second.reports[0]).toMatchObject({ model: "other-model", status: "imported" });
  });

  it("brings back a conversation that was deleted since, once", async () => {
    const path = file("deleted.jsonl", `${line("deleted", 3)}\n${line("deleted", 0)}`);
    const first = await importJson(server.url, [path]);
    for (const { conversationId } of first.reports) {
      await store.deleteSession(BigInt(conversationId));
    }
    const second = await importJson(server.url, [path]);
    expect(second.summary).toMatchObject({ imported: 2, messages: 3 });
    const third = await importJson(server.url, [path]);
    expect(third.summary).toMatchObject({ imported: 0, alreadyThere: 2 });
    expect(third.reports).toMatchObject(
      second.reports.map(({ conversationId }) => ({ conversationId })),
    );
  });

  it("leaves nothing of a conversation with a message beyond the store's limit", async () => {
    const model = "too-large";
    const large = { role: "user", content: "x".repeat(5 * 1024 * 1024) };
    const turns = Array.from({ length: 1001 }, () => ({ role: "user", content: "y" }));
    const path = file(
      "too-large.jsonl",
      [
        line(model, 2),
        JSON.stringify({ model, messages: [large] }),
        JSON.stringify({ model, messages: [...turns, large] }),
        line(model, 3),
      ].join("\n"),
    );
    for (const status of ["imported", "already_there"]) {
      const { code, reports, stderr } = await importJson(server.url, [path]);
      expect(code).toBe(1);
      expect(reports.map((report) => report.status)).toEqual([status, "bad", "bad", status]);
      expect(stderr).toMatch(/too-large\.jsonl:2: is not accepted by the store: .*4194304/);
      expect(await sessionIds(store, model)).toHaveLength(2);
    }
  });

  it("does not delete what somebody else has appended to", async () => {
    const conversation = readConversation(Buffer.from(line("shared", 1)));
    const identity = { model: "shared", digest: Buffer.alloc(32), occurrence: 1 };
    const { signal } = new AbortController();
    const { conversationId } = await storeConversation(store, conversation, identity, signal);
    await store.addMessage(conversationId, "user", "mine");
    const messages = Array.from({ length: 1001 }, () => ({ role: "user" as const, content: "1" }));
    const longer = { ...conversation, messages };
    await expect(storeConversation(store, longer, identity, signal)).rejects.toThrow(
      `session ${conversationId} is left as it is`,
    );
    expect((await store.getSession(conversationId)).lastSeq).toBe(2n);
  });

  it("speaks to people on stdout and reports bad lines on stderr", async () => {
    const path = file("people.jsonl", `${line("people", 2)}\nbad\n`);
    const { code, stdout, stderr } = await agentstore(["import", path]);
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /^1 conversation with 2 messages: 1 imported, 0 resumed, 0 already there\. 1 bad line\./,
    );
    expect(stderr).toContain(`${path}:2: is not valid JSON`);
  });

  it("checks all files before it begins", async () => {
    const path = file("never.jsonl", line("never", 1));
    const { code, stderr } = await agentstore(["import", path, join(directory, "missing.jsonl")]);
    expect(code).toBe(2);
    expect(stderr).toContain("missing.jsonl is not there");
    expect((await agentstore(["import", directory])).code).toBe(2);
    expect((await agentstore(["import", "-", "-"])).code).toBe(2);
    expect(await sessionIds(store, "never")).toEqual([]);
  });
});
