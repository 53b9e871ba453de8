// The commands that read and remove sessions, and how the command behaves on a command line.
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import { createDatabase, createEmptyDatabase } from "../harness/postgres.js";
import { startServer, type TestServer } from "../harness/server.js";
import { type Ended, jsonLines, run, start } from "./cli-run.js";

let server: TestServer;
let store: AgentStoreClient;
let directory: string;
/** A session with a turn of each role. */
let id: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "agentstore-cli-"));
  server = await startServer();
  store = new AgentStoreClient(server.url);
  const session = await store.createSession("gpt-4", { title: "发票\u001b[31m" });
  id = String(session.id);
  await store.addMessages(session.id, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Weather in Bern? \u001b[2J", timestampMs: 1_715_785_200_000 },
    {
      role: "assistant",
      toolCalls: [{ id: "call_1", name: "weather", arguments: '{"city": "Bern"}' }],
      usage: { inputTokens: 2n ** 40n },
    },
    { role: "tool", name: "weather", toolCallId: "call_1", content: "Sunny 🌞" },
    { role: "assistant", content: "It is sunny." },
  ]);
});

afterAll(async () => {
  store?.close();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const agentstore = (...args: string[]): Promise<Ended> => run(args, { AGENTSTORE_URL: server.url });

describe("agentstore show", () => {
  it("prints a transcript whose content cannot move the cursor", async () => {
    const { code, stdout } = await agentstore("show", id);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^Session ${id} · gpt-4 · 5 messages · created `));
    expect(stdout).toContain("[2] user  2024-05-15 15:00:00Z\nWeather in Bern? ␛[2J\n");
    expect(stdout).toContain('→ weather({"city": "Bern"})  call_1\n');
    expect(stdout).toContain("[4] tool (weather) answers call_1");
    expect(stdout).not.toContain("\u001b");
  });

  it("prints OpenAI's form, also of messages that did not come in it", async () => {
    const { stdout } = await agentstore("show", id, "--format", "openai");
    expect(stdout.trimEnd()).not.toContain("\n");
    expect(JSON.parse(stdout)).toMatchObject({
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user" },
        {
          role: "assistant",
          content: null,
          tool_calls: [
            {
              id: "call_1",
              type: "function",
              function: { name: "weather", arguments: '{"city": "Bern"}' },
            },
          ],
        },
        { role: "tool", name: "weather", tool_call_id: "call_1", content: "Sunny 🌞" },
        { role: "assistant", content: "It is sunny." },
      ],
    });
    const source = await agentstore("show", id, "--format", "source");
    expect(JSON.parse(source.stdout)).toEqual(JSON.parse(stdout));
  });

  it("stays one line of JSON whatever was stored as a payload", async () => {
    const { id: odd } = await store.createSession("payloads");
    const payloadType = "openai.chat.message";
    await store.addMessages(odd, [
      {
        role: "user",
        content: "spread",
        payload: '{\n  "role": "user",\r\n  "n": 1.0 }',
        payloadType,
      },
      { role: "user", content: "not JSON", payload: "{", payloadType },
      { role: "user", content: "other", payload: '{"kind":1}', payloadType: "other" },
    ]);
    const openAi = await agentstore("show", String(odd), "--format", "openai");
    expect(openAi.stdout).toBe(
      '{"messages":[{   "role": "user",    "n": 1.0 },' +
        '{"role":"user","content":"not JSON"},{"role":"user","content":"other"}]}\n',
    );
    const source = await agentstore("show", String(odd), "--format", "source");
    expect(JSON.parse(source.stdout)).toMatchObject({ messages: [{ n: 1 }, {}, { kind: 1 }] });
  });

  it("prints a JSON line for each message, or for the last ones", async () => {
    const { stdout } = await agentstore("show", id, "--json");
    const messages = jsonLines<{ seq: string; usage?: { inputTokens: string } }>(stdout);
    expect(messages.map((message) => message.seq)).toEqual(["1", "2", "3", "4", "5"]);
    expect(messages[2]?.usage?.inputTokens).toBe("1099511627776");
    const last = await agentstore("show", id, "--last", "2", "--format", "json");
    expect(jsonLines(last.stdout)).toMatchObject([
      { seq: "4", role: "tool", conversationId: id },
      { seq: "5", content: "It is sunny.", toolCalls: [] },
    ]);
  });

  it("prints an empty session", async () => {
    const empty = await store.createSession("empty");
    const { stdout } = await agentstore("show", String(empty.id), "--format", "openai");
    expect(stdout).toBe('{"messages":[]}\n');
  });

  it("ends quietly when its reader has gone", async () => {
    const long = await store.createSession("long");
    const messages = Array.from({ length: 1000 }, () => ({
      role: "user" as const,
      content: "x".repeat(1000),
    }));
    await store.addMessages(long.id, messages);
    const { child, ended } = start(["show", String(long.id)], { AGENTSTORE_URL: server.url });
    child.stdout.once("data", () => child.stdout.destroy());
    const { code, stderr } = await ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  it("says so when the session is not there, before it prints anything", async () => {
    for (const format of ["text", "openai", "source", "json"]) {
      const { code, stdout, stderr } = await agentstore("show", "999999", "--format", format);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toMatch(/^error: session 999999 is not there\n {2}\S/);
    }
  });
});

describe("agentstore sessions", () => {
  it("lists as many as asked for, newest first", async () => {
    for (let index = 0; index < 5; index++) {
      const session = await store.createSession("listed", { title: `t${index}` });
      await store.addMessage(session.id, "user", `m${index}`, { timestampMs: index + 1 });
    }
    const { stdout } = await agentstore("sessions", "--model", "listed", "--limit", "3");
    const [header, ...rows] = stdout.trimEnd().split("\n");
    expect(header).toMatch(/^ *ID +MODEL +TITLE +MESSAGES +LAST ACTIVITY +FIRST MESSAGE$/);
    expect(rows.map((row) => row.split(/ {2,}/).slice(-1)[0])).toEqual(["m4", "m3", "m2"]);
    const json = await agentstore("sessions", "--model", "listed", "--json");
    const sessions = jsonLines<{ session: { id: string }; messageCount: string }>(json.stdout);
    expect(sessions).toHaveLength(5);
    expect(sessions[0]).toMatchObject({
      session: { modelId: "listed", title: "t4", lastSeq: "1" },
      messageCount: "1",
      firstMessage: "m4",
      lastMessageTime: "1970-01-01T00:00:00.005Z",
    });
    expect(sessions[0]?.session.id).toMatch(/^\d+$/);
  });

  it("says what to do when there are none", async () => {
    const { code, stdout } = await agentstore("sessions", "--model", "nobody");
    expect(code).toBe(0);
    expect(stdout).toContain("agentstore import");
    expect((await agentstore("sessions", "--model", "nobody", "--json")).stdout).toBe("");
  });
});

describe("agentstore search", () => {
  it("finds text in any case and shows where it is", async () => {
    const { stdout } = await agentstore("search", "SUNNY 🌞");
    expect(stdout).toMatch(new RegExp(` ${id} +4 +tool .*Sunny 🌞`));
    const { stdout: json } = await agentstore("search", "is sunny", "--json", "--limit", "1");
    expect(jsonLines(json)).toMatchObject([{ conversationId: id, seq: "5" }]);
    expect((await agentstore("search", "is sunny", "--model", "other")).stdout).toMatch(/^No /);
    expect((await agentstore("search", "")).code).toBe(2);
  });

  it("finds words in their forms, with what was said around them, by filters", async () => {
    const found = await agentstore("search", "be sunnier", "--mode", "full-text", "--context", "1");
    expect(found.code).toBe(0);
    const flags = ["--mode", "full-text", "--newest", "--json", "--context", "1"];
    const { stdout } = await agentstore("search", "sunny", ...flags, "--role", "tool");
    const [first] = jsonLines<{ snippet: object; before: object[] }>(stdout);
    expect(first).toMatchObject({ seq: "4", before: [{ seq: "3" }], after: [{ seq: "5" }] });
    expect(first!.snippet).toMatchObject({ hits: [{ length: 5 }] });
    const none = ["--session", "999999", "--owner", "nobody", "--tag", "none"];
    expect((await agentstore("search", "sunny", ...none)).stdout).toMatch(/^No /);
    expect((await agentstore("search", "x", "--since", "soon")).code).toBe(2);
  });
});

describe("agentstore sessions, state and tags", () => {
  it("choose by tag, owner, metadata, state and time, and show what is kept", async () => {
    const kept = await store.createSession("chosen", {
      tags: ["urgent", "a\u001b[31m"],
      ownerId: "alice",
      metadata: { env: "prod", n: 1 },
    });
    const other = await store.createSession("chosen", { tags: ["calm"], expiresAt: new Date(5) });
    await store.addMessage(kept.id, "user", "Hi", {
      timestampMs: Date.parse("2026-03-01T12:00:00Z"),
      state: { state: ' {"step": 2}' },
    });
    const chosen = async (...flags: string[]) => {
      const { code, stdout } = await agentstore(
        "sessions",
        "--model",
        "chosen",
        "--json",
        ...flags,
      );
      expect(code).toBe(0);
      return jsonLines<{ session: { id: string } }>(stdout).map(({ session }) => session.id);
    };
    for (const flags of [
      ["--tag", "urgent", "--owner", "alice"],
      ["--any-tag", "urgent", "--any-tag", "nobody's"],
      ["--metadata", '{"env":"prod"}', "--state", "active"],
      ["--since", "2026-03-01T12:00:00Z", "--until", "2026-03-01T12:00:01Z"],
    ]) {
      expect(await chosen(...flags)).toEqual([String(kept.id)]);
    }
    expect(await chosen("--state", "expired")).toEqual([String(other.id)]);
    expect(await chosen("--tag", "urgent", "--tag", "calm")).toEqual([]);
    const none = await agentstore("sessions", "--model", "chosen", "--owner", "nobody");
    expect(none.stdout).toBe("No session of the model chosen is as asked for.\n");

    const tags = await agentstore("tags");
    expect(tags.stdout).toMatch(/^urgent +1$/m);
    expect(tags.stdout).not.toContain("\u001b");
    const json = jsonLines<{ tag: string }>((await agentstore("tags", "--json")).stdout);
    expect(json).toContainEqual({ tag: "calm", sessionCount: "1" });

    expect((await agentstore("state", String(kept.id))).stdout).toBe(' {"step": 2}\n');
    const state = await agentstore("state", String(kept.id), "--json");
    expect(JSON.parse(state.stdout)).toMatchObject({ state: ' {"step": 2}', revision: "2" });
    const stateless = await agentstore("state", String(other.id));
    expect(stateless.stdout).toBe(`The session ${other.id} has no state.\n`);
  });

  it.each([
    [["--metadata", "{"]],
    [["--metadata", "[1]"]],
    [["--since", "yesterday"]],
    [["--state", "gone"]],
    [["--tag", ""]],
  ])("refuse %j", async (flags) => {
    expect((await agentstore("sessions", ...flags)).code).toBe(2);
  });
});

describe("agentstore erase", () => {
  it("removes all of one owner, says what it was, and asks first", async () => {
    const mine = await store.createSession("erased", { ownerId: "carol" });
    const other = await store.createSession("erased", { ownerId: "dave" });
    await store.addMessage(mine.id, "user", "Hi");
    const unasked = await agentstore("erase", "carol");
    expect(unasked.code).toBe(2);
    expect(unasked.stderr).toContain("--yes");
    expect((await agentstore("erase", "")).code).toBe(2);
    const { code, stdout } = await agentstore("erase", "carol", "--yes");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^sessions removed +1\nmessages removed +1\n/);
    const again = await agentstore("erase", "carol", "--yes", "--json");
    expect(JSON.parse(again.stdout)).toMatchObject({ sessions: "0", keptAnswers: "0" });
    expect((await store.getSession(other.id)).ownerId).toBe("dave");
  });
});

describe("agentstore stats", () => {
  it("counts by role and sums what was used", async () => {
    const { stdout } = await agentstore("stats", id, "--json");
    expect(JSON.parse(stdout)).toMatchObject({
      conversationId: id,
      totalMessages: "5",
      systemMessages: "1",
      userMessages: "1",
      assistantMessages: "2",
      toolMessages: "1",
      totalUsage: { inputTokens: "1099511627776", costMicros: "0" },
    });
    const { stdout: text } = await agentstore("stats", id);
    expect(text).toMatch(/^messages +5$/m);
    expect(text).toMatch(/^input tokens +1,099,511,627,776$/m);
  });
});

describe("agentstore repair", () => {
  it("closes the tool calls that were interrupted, once", async () => {
    const { id } = await store.createSession("broken");
    const toolCalls = ["a", "b"].map((call) => ({ id: call, name: "look", arguments: "{}" }));
    await store.addMessage(id, "assistant", "", { toolCalls });
    const json = await agentstore("repair", String(id), "--json");
    expect({ code: json.code, stderr: json.stderr }).toEqual({ code: 0, stderr: "" });
    expect(jsonLines(json.stdout)).toMatchObject([
      { seq: "2", role: "tool", toolCallId: "a" },
      { seq: "3", role: "tool", toolCallId: "b" },
    ]);
    const again = await agentstore("repair", String(id));
    expect(again.stdout).toBe(`Session ${id}: nothing to repair.\n`);
    await store.addMessage(id, "assistant", "", { toolCalls });
    const text = await agentstore("repair", String(id));
    expect(text.stdout).toBe(`Session ${id}: 2 interrupted tool calls closed.\n`);
  });

  it("leaves a session alone that an agent holds", async () => {
    const { id } = await store.createSession("held");
    const toolCalls = [{ id: "a", name: "look", arguments: "{}" }];
    await store.addMessage(id, "assistant", "", { toolCalls });
    await store.acquireLease(id, "an agent at work");
    const { code, stderr } = await agentstore("repair", String(id));
    expect(code).toBe(1);
    expect(stderr).toContain("an agent at work");
    expect((await store.getSession(id)).lastSeq).toBe(1n);
  });
});

describe("agentstore delete", () => {
  it("removes sessions and says which were not there", async () => {
    const session = await store.createSession("doomed");
    const args = ["delete", String(session.id), "999999", "--yes"];
    const { code, stdout } = await agentstore(...args);
    expect(code).toBe(0);
    expect(stdout).toBe(`Session ${session.id} deleted.\nSession 999999 was not there.\n`);
    const { stdout: json } = await agentstore(...args, "--json");
    expect(jsonLines(json)).toEqual([
      { conversationId: String(session.id), deleted: false },
      { conversationId: "999999", deleted: false },
    ]);
  });

  it("removes nothing without --yes where it cannot ask", async () => {
    const session = await store.createSession("kept");
    const { code, stderr } = await agentstore("delete", String(session.id));
    expect(code).toBe(2);
    expect(stderr).toContain("--yes");
    expect((await store.getSession(session.id)).id).toBe(session.id);
  });
});

describe("agentstore migrate", () => {
  it("says from which version to which the schema went", async () => {
    const empty = await createEmptyDatabase();
    const current = await createDatabase();
    try {
      const first = await run(["migrate", "--database-url", empty.url]);
      expect(first.stderr).toBe("");
      expect(first.stdout).toMatch(/^The schema went from version 0 to version \d+\.\n$/);
      const second = await run(["migrate"], { DATABASE_URL: current.url });
      expect(second.stdout).toMatch(/^The schema is up to date at version \d+\.\n$/);
      expect([first.code, second.code]).toEqual([0, 0]);
    } finally {
      await empty.drop();
      await current.drop();
    }
  });
});

describe("the command line", () => {
  const COMMANDS = [
    "serve",
    "migrate",
    "import",
    "show",
    "history",
    "fork",
    "snapshots",
    "sessions",
    "search",
    "stats",
    "state",
    "tags",
    "repair",
    "delete",
    "erase",
  ];

  it.each(COMMANDS)(
    "%s --help says what it is, with examples and the environment",
    async (name) => {
      const { code, stdout, stderr } = await run([name, "--help"]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toMatch(new RegExp(`^Usage: agentstore ${name} `));
      expect(stdout).toContain("\nExamples:\n  ");
      expect(stdout).toMatch(/\nEnvironment:\n(.*\n)*? {2}(DATABASE_URL|AGENTSTORE_URL) /);
    },
  );

  it("--help names every command, --version the version", async () => {
    const { code, stdout } = await run(["--help"]);
    expect(code).toBe(0);
    for (const name of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${name} `, "m"));
    const version = await run(["--version"]);
    expect(version.code).toBe(0);
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+/);
  });

  it.each([
    [[]],
    [["nonsense"]],
    [["show"]],
    [["show", "abc"]],
    [["show", "0"]],
    [["show", "9223372036854775808"]],
    [["show", "1", "--format", "xml"]],
    [["show", "1", "--json", "--format", "openai"]],
    [["show", "1", "--last", "0"]],
    [["sessions", "--limit", "1e3"]],
    [["sessions", "--nonsense"]],
    [["sessions", "--url", "http://127.0.0.1:1"]],
    [["search", "x", "--limit", "1001"]],
    [["import"]],
    [["import", "-", "--model", ""]],
    [["serve", "--port", "65536"]],
    [["serve", "--pool-size", "0"]],
    [["serve", "--log-level", "loud"]],
    [["serve", "--tls-cert", "cert.pem"]],
    [["serve", "--data-dir", "a", "--database-url", "b"]],
  ])("%j is wrong usage: exit code 2, and nothing on stdout", async (args) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).not.toBe("");
  });

  it("says how to start a server that cannot be reached", async () => {
    // Nothing listens on port 1.
    for (const args of [["sessions"], ["show", "1"], ["import", "-"]]) {
      const env = { AGENTSTORE_URL: "agentstore://127.0.0.1:1" };
      const { code, stderr } = await run(args, env, '[{"role":"user","content":"x"}]');
      expect(code).toBe(1);
      expect(stderr).toContain("error: no server can be reached at 127.0.0.1:1\n");
      expect(stderr).toMatch(/agentstore serve.*npm start/);
    }
  });

  it("sends the token of the environment or of --token, and says when it is not accepted", async () => {
    const token = "a-token-for-tests";
    const tokensFile = join(directory, "tokens");
    const hash = createHash("sha256").update(token).digest("hex");
    writeFileSync(tokensFile, `default tester ${hash}\n`);
    const guarded = await startServer({ tokensFile });
    try {
      const args = ["sessions", "--url", guarded.url];
      expect((await run(args, { AGENTSTORE_TOKEN: token })).code).toBe(0);
      expect((await run([...args, "--token", token])).code).toBe(0);
      for (const env of [{}, { AGENTSTORE_TOKEN: "wrong" }] as Record<string, string>[]) {
        const { code, stderr } = await run(args, env);
        expect(code).toBe(1);
        expect(stderr).toContain("AGENTSTORE_TOKEN");
      }
    } finally {
      await guarded.stop();
    }
  });
});
