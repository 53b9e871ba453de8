// `agentstore export`, `agentstore import` of what it wrote, and `agentstore audit`.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "csv-parse/sync";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import { withClient } from "../harness/postgres.js";
import { startServer, type TestServer } from "../harness/server.js";
import { type Ended, jsonLines, run } from "./cli-run.js";

let server: TestServer;
let target: TestServer;
let store: AgentStoreClient;
let directory: string;
const ids: bigint[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "agentstore-cli-transfer-"));
  server = await startServer();
  target = await startServer();
  store = new AgentStoreClient(server.url);
  for (let n = 0; n < 3; n++) {
    const { id } = await store.createSession(`model-${n % 2}`, { tags: [`n${n}`], ownerId: "o" });
    await store.addMessages(id, [
      { role: "user", content: `=${n} 👋` },
      { role: "assistant", content: "yes\nno" },
    ]);
    ids.push(id);
  }
});

afterAll(async () => {
  store?.close();
  await server?.stop();
  await target?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const agentstore = (...args: string[]): Promise<Ended> => run(args, { AGENTSTORE_URL: server.url });
const elsewhere = (...args: string[]): Promise<Ended> => run(args, { AGENTSTORE_URL: target.url });
const file = (name: string) => join(directory, name);

describe("agentstore export", () => {
  it("writes a file and says what is in it", async () => {
    const { code, stdout, stderr } = await agentstore("export", "-o", file("all.jsonl"));
    expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
    expect(stderr).toMatch(/^3 sessions, 0\.0 MiB in .*all\.jsonl\n$/);
    const lines = jsonLines<Record<string, unknown>>(readFileSync(file("all.jsonl"), "utf8"));
    expect(lines.filter((line) => "session" in line)).toHaveLength(3);
  });

  it("writes chosen sessions in each form to stdout", async () => {
    const openai = await agentstore("export", String(ids[2]), String(ids[0]), "--format", "openai");
    expect(jsonLines<{ messages: { content: string }[] }>(openai.stdout)).toMatchObject([
      { messages: [{ content: "=0 👋" }, {}] },
      { messages: [{ content: "=2 👋" }, {}] },
    ]);
    const csv = await agentstore("export", "--model", "model-0", "--format", "csv");
    const rows = parse<Record<string, string>>(csv.stdout, { columns: true });
    expect(rows.map(({ content }) => content)).toEqual(["'=0 👋", "yes\nno", "'=2 👋", "yes\nno"]);
    const json = await agentstore("export", "--tag", "n1", "--owner", "o", "--format", "json");
    expect(JSON.parse(json.stdout)).toMatchObject([{ session: { id: String(ids[1]) } }]);
  });

  it.each([
    [["export", "1", "--model", "m"], 2, "do not go with"],
    [["export", "--format", "xml"], 2, "xml"],
    [["export", "-o", "/nonexistent/file"], 2, "cannot be written"],
    [["export", "999999999"], 1, "session 999999999 is not there"],
    [["export", "none"], 2, "session's id"],
  ])("%j ends with %i", async (args, expected, text) => {
    const { code, stderr } = await agentstore(...args);
    expect(code).toBe(expected);
    expect(stderr).toContain(text);
  });
});

describe("agentstore import of an export", () => {
  it("is told apart by its first line, and imports each session once", async () => {
    await agentstore("export", "-o", file("again.jsonl"));
    const first = await elsewhere("import", file("again.jsonl"));
    expect(first.stderr).toBe("");
    expect(first.stdout).toContain("3 conversations with 6 messages: 3 imported");
    const again = await elsewhere("import", file("again.jsonl"), "--json");
    const lines = jsonLines<Record<string, unknown>>(again.stdout);
    expect(lines.slice(0, 3)).toEqual(
      ids.map((id) => ({
        file: file("again.jsonl"),
        status: "already_there",
        sourceConversationId: String(id),
        conversationId: expect.any(String),
      })),
    );
    expect(lines[3]).toMatchObject({ summary: { imported: 0, alreadyThere: 3, bad: 0 } });
    const other = await elsewhere("import", file("again.jsonl"), "--import-id", "other");
    expect(other.stdout).toContain("3 imported");
  });

  it("comes from stdin too, beside conversations of other programs", async () => {
    const { stdout: exported } = await agentstore("export");
    writeFileSync(file("chat.jsonl"), '{"messages":[{"role":"user","content":"Hi"}]}\n');
    const env = { AGENTSTORE_URL: target.url };
    const { code, stdout } = await run(["import", file("chat.jsonl"), "-"], env, exported);
    expect(code).toBe(0);
    expect(stdout).toContain("4 conversations with 7 messages: 4 imported");
  });

  it("names the line of the file that is wrong, blank lines counted", async () => {
    const { stdout } = await agentstore("export", String(ids[0]), String(ids[1]));
    const lines = stdout.split("\n");
    lines.splice(1, 0, "", "");
    lines[8] = lines[8]!.replace("ROLE_USER", "ROLE_KING");
    expect(lines[8]).toContain("ROLE_KING");
    writeFileSync(file("bad.jsonl"), lines.join("\n"));
    const { code, stderr } = await elsewhere("import", file("bad.jsonl"));
    expect(code).toBe(1);
    expect(stderr).toContain(`${file("bad.jsonl")}:9: Role has a value`);
    expect(stderr).toContain("The sessions before it are imported.");
  });

  it("that was cut off says at which line, and goes on with the whole file", async () => {
    const { stdout } = await agentstore("export");
    writeFileSync(file("cut.jsonl"), stdout.slice(0, stdout.length - 10));
    const cut = await elsewhere("import", file("cut.jsonl"));
    expect(cut.code).toBe(1);
    expect(cut.stderr).toMatch(/cut\.jsonl:13: is not valid JSON/);
    writeFileSync(file("cut.jsonl"), stdout);
    const whole = await elsewhere("import", file("cut.jsonl"));
    expect(whole.stdout).toContain("1 imported, 0 resumed, 2 already there");
  });

  it.each([
    [["--model", "m"], "is an export"],
    [["--format", "xml"], "xml"],
  ])("%j is wrong usage", async (args, text) => {
    const { stdout } = await agentstore("export");
    writeFileSync(file("usage.jsonl"), stdout);
    const { code, stderr } = await elsewhere("import", file("usage.jsonl"), ...args);
    expect(code).toBe(2);
    expect(stderr).toContain(text);
  });

  it("can be forced to be read as something else, line by line", async () => {
    const { stdout } = await agentstore("export");
    writeFileSync(file("forced.jsonl"), stdout);
    const args = [file("forced.jsonl"), "--format", "conversations"];
    const { code, stdout: told } = await elsewhere("import", ...args);
    expect(code).toBe(1);
    expect(told).toContain("13 bad lines");
  });
});

describe("agentstore audit", () => {
  it("lists changes, newest first, and narrows them", async () => {
    const all = await agentstore("audit", "list");
    expect(all.code).toBe(0);
    expect(all.stdout).toMatch(/^POSITION +TIME +PRINCIPAL/);
    expect(all.stdout.trimEnd().split("\n")).toHaveLength(4);
    const json = await agentstore("audit", "list", "--session", String(ids[1]), "--json");
    expect(jsonLines<Record<string, unknown>>(json.stdout)).toEqual([
      expect.objectContaining({
        position: "2",
        rpc: "CreateSession",
        conversationId: String(ids[1]),
        hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      }),
    ]);
    const limited = await agentstore("audit", "list", "--limit", "2", "--json");
    expect(jsonLines<{ position: string }>(limited.stdout).map((line) => line.position)).toEqual([
      "3",
      "2",
    ]);
    const none = await agentstore("audit", "list", "--until", "2020-01-01T00:00:00Z");
    expect(none.stdout).toBe("There are no such changes.\n");
    expect((await agentstore("audit", "list", "--since", "yesterday")).code).toBe(2);
  });

  it("verifies, says what to keep, and fails on a log that was changed", async () => {
    const first = await agentstore("audit", "verify");
    expect(first.code).toBe(0);
    expect(first.stdout).toContain("The audit log is intact: 3 events checked.");
    const anchor = /--after: (\d+:[0-9a-f]{64})/.exec(first.stdout)![1]!;
    await store.createSession("later");
    const later = await agentstore("audit", "verify", "--after", anchor, "--json");
    expect(jsonLines(later.stdout)).toEqual([
      { intact: true, checked: "1", end: expect.stringMatching(/^4:/) },
    ]);
    await withClient(server.databaseUrl, (client) =>
      client.query("UPDATE audit_events SET rpc = 'x' WHERE position = 2"),
    );
    const changed = await agentstore("audit", "verify");
    expect(changed.code).toBe(1);
    expect(changed.stdout).toContain("NOT intact: position 2: the event is not what its hash says");
    expect((await agentstore("audit", "verify", "--after", "x")).code).toBe(2);
  });

  it("is an operator's", async () => {
    const tokensFile = file("tokens");
    const hash = createHash("sha256").update("t").digest("hex");
    writeFileSync(tokensFile, `acme alice ${hash}\n`);
    const guarded = await startServer({ tokensFile });
    try {
      const env = { AGENTSTORE_URL: guarded.url, AGENTSTORE_TOKEN: "t" };
      const { code, stderr } = await run(["audit", "list"], env);
      expect(code).toBe(1);
      expect(stderr).toContain("does not take the token for an operator's");
    } finally {
      await guarded.stop();
    }
  });
});
