// The demo does what it says, on a fresh machine and again, and the README shows what it shows.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { text as readAll } from "node:stream/consumers";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AgentMessage, AgentStoreClient } from "../../client/index.js";
import { projectRoot } from "../../server/paths.js";
import { postmasterOf } from "../harness/chaos.js";
import { spawnServer, startServer } from "../harness/server.js";

const example = path.join(projectRoot, "examples/persistent-agent");
const TRADING = "Trading BTC";

let directory: string;

beforeAll(async () => {
  // What `npm run demo` does after `npm run build`, which has run: tests read its output.
  const run = promisify(execFile);
  await run("npm", ["run", "--silent", "build", "-w", "client"], { cwd: projectRoot });
  const tsc = path.join(projectRoot, "node_modules/typescript/bin/tsc");
  await run(process.execPath, [tsc, "-p", path.join(example, "tsconfig.build.json")]);
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-demo-"));
  // Where root runs this, Postgres runs as another user, who has to get in.
  await chmod(directory, 0o755);
});

afterAll(() => rm(directory, { recursive: true, force: true }));

it("is run by a script that builds all that it needs", async () => {
  const manifest = await readFile(path.join(projectRoot, "package.json"), "utf8");
  const { scripts } = JSON.parse(manifest) as { scripts: Record<string, string> };
  expect(await readmeSection()).toContain("```sh\nnpm ci && npm run demo\n```");
  expect(scripts["demo"]?.split(" && ")).toEqual([
    "npm run --silent build",
    "npm run --silent build -w client",
    "tsc -p examples/persistent-agent/tsconfig.build.json",
    "exec node examples/persistent-agent/dist/main.js",
  ]);
});

describe("with a server of its own", () => {
  it("trades, resumes, searches and deletes, and the next run goes on", async () => {
    const dataDir = path.join(directory, "own");
    const first = await demo(["--data-dir", dataDir]);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    const [session, ...others] = await trading(dataDir);
    expect(others).toEqual([]);
    const after = session!.messages;
    expect(after.map(({ role }) => role).join(" ")).toBe(
      "system user assistant tool assistant tool assistant " +
        "user assistant user assistant tool tool assistant",
    );
    expect(after.map(({ seq }) => seq)).toEqual(after.map((_, index) => BigInt(index + 1)));
    expect(after.every(answersItsCall)).toBe(true);
    // What the store says was bought is what the tools' file says, and what the model decided from.
    const { trades, cash } = await portfolio(dataDir);
    const { price, paid } = { ...resultOf(after, "get_price"), ...resultOf(after, "buy") };
    expect(trades).toMatchObject([{ coin: "BTC", amount: 0.1, price }]);
    expect(price).toBeLessThan(70_000);
    expect(cash).toBeCloseTo(50_000 - paid!);
    expect(after[8]?.content).toContain("Last, I bought 0.1 BTC");
    expect(processes(first.stdout)).toHaveLength(2);

    const second = await demo(["--data-dir", dataDir]);
    expect(second).toMatchObject({ code: 0, stderr: "" });
    const [resumed, ...further] = await trading(dataDir, async (pid) => {
      // While someone else has the data directory.
      const refused = await demo(["--data-dir", dataDir]);
      expect(refused).toMatchObject({ code: 1, stdout: "" });
      expect(refused.stderr).toContain(`in use by another server (process ${pid})`);
      expect(refused.stderr).toContain("leaves its server behind");
    });
    expect(further).toEqual([]);
    expect(resumed!.id).toBe(session!.id);
    expect(resumed!.messages.slice(0, after.length)).toEqual(after);
    const added = resumed!.messages.slice(after.length);
    expect(added.map(({ role }) => role).join(" ")).toBe(
      "user assistant tool assistant user assistant user assistant tool tool assistant",
    );
    expect(resultOf(added, "get_price").price).toBeGreaterThanOrEqual(70_000);
    expect(await portfolio(dataDir)).toMatchObject({ trades, cash });

    await expectShown([first.stdout, second.stdout]);

    const third = start(["--data-dir", dataDir]);
    await third.shows("2  Resumed by a new process");
    third.child.kill("SIGTERM");
    expect(await third.ended).toMatchObject({ code: 130, stderr: "" });
    expect(postmasterOf(path.join(dataDir, "store"))).toBeUndefined();
  });
});

describe("with a server that runs already", () => {
  let server: Awaited<ReturnType<typeof startServer>>;
  let store: AgentStoreClient;

  beforeAll(async () => {
    server = await startServer();
    store = new AgentStoreClient(server.url);
  });

  afterAll(async () => {
    store.close();
    await server.stop();
  });

  it("does not repeat a purchase whose outcome is not known", async () => {
    const dataDir = path.join(directory, "pending");
    const { id } = await store.createSession("scripted", { title: TRADING });
    const call = { id: "call_1", name: "buy", arguments: '{"coin":"BTC","amount":0.2}' };
    await store.addMessages(id, [
      { role: "user", content: "Buy 0.2 BTC" },
      { role: "assistant", toolCalls: [call] },
    ]);
    const { code, stdout } = await demo(["--data-dir", dataDir], { AGENTSTORE_URL: server.url });
    expect(code).toBe(0);
    expect(stdout).toContain("1 tool call (buy) whose outcome is not known");
    const { messages } = await store.getMessages(id);
    expect(messages[2]).toMatchObject({
      role: "tool",
      toolCallId: call.id,
      metadata: { interrupted: true },
    });
    expect(messages[3]).toMatchObject({ role: "assistant", toolCalls: [] });
    expect(await portfolio(dataDir)).toMatchObject({ trades: [{ amount: 0.1 }] });
  });

  it("lets a real model play the assistant where there is a key", async () => {
    const asked: { model: string; tools: { function: { name: string } }[] }[] = [];
    const endpoint = createServer((request: IncomingMessage, response) => {
      void readAll(request).then((body) => {
        asked.push(JSON.parse(body) as (typeof asked)[number]);
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.end(`${answer(`Answer ${asked.length}`).join("\n\n")}\n\n`);
      });
    }).listen(0, "127.0.0.1");
    await once(endpoint, "listening");
    const { port } = endpoint.address() as AddressInfo;
    const { code, stdout } = await demo(["--data-dir", path.join(directory, "model")], {
      AGENTSTORE_URL: server.url,
      OPENAI_API_KEY: "a key",
      OPENAI_MODEL: "a-model",
      OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1`,
    });
    endpoint.close();
    expect(code).toBe(0);
    expect(stdout).not.toContain("a script");
    expect(asked).toHaveLength(4);
    for (const { model, tools } of asked) {
      expect(model).toBe("a-model");
      expect(tools.map((tool) => tool.function.name)).toEqual([
        "get_price",
        "buy",
        "get_portfolio",
      ]);
    }
    const { sessions } = await store.listSessions("a-model");
    expect(sessions).toHaveLength(1);
    const { messages } = await store.getMessages(sessions[0]!.session.id);
    const answers = messages.filter(({ role }) => role === "assistant");
    expect(answers.map(({ content }) => content)).toEqual(["Answer 1", "Answer 2", "Answer 3"]);
    expect(answers[0]?.usage).toMatchObject({ inputTokens: 11n, outputTokens: 3n });
  });
});

it("says what to do when the server is away", async () => {
  const { code, stderr } = await demo(["--data-dir", path.join(directory, "away")], {
    AGENTSTORE_URL: "agentstore://127.0.0.1:1",
  });
  expect(code).toBe(1);
  expect(stderr).toContain("127.0.0.1:1");
  expect(stderr).toContain("Without it, the demo starts a server itself.");
});

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

async function demo(args: string[], env: Record<string, string> = {}): Promise<Ended> {
  return start(args, env).ended;
}

/** Starts the demo, with none of this process' keys and addresses in its environment. */
function start(
  args: string[],
  env: Record<string, string> = {},
): { child: ChildProcess; ended: Promise<Ended>; shows: (text: string) => Promise<void> } {
  const { PATH = "", HOME = "" } = process.env;
  const child = spawn(process.execPath, [path.join(example, "dist/main.js"), ...args], {
    env: { PATH, HOME, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child, "close").then(([code]) => ({
    code: code as number | null,
    stdout,
    stderr,
  }));
  const shows = (text: string) =>
    new Promise<void>((resolve, reject) => {
      child.stdout.on("data", () => stdout.includes(text) && resolve());
      child.once("close", () => reject(new Error(`it ended without showing ${text}: ${stderr}`)));
    });
  return { child, ended, shows };
}

/** The trading sessions that the demo's own server has kept, with their messages. */
async function trading(
  dataDir: string,
  meanwhile?: (serverPid: number | undefined) => Promise<void>,
): Promise<{ id: bigint; messages: AgentMessage[] }[]> {
  const server = await spawnServer(["--data-dir", path.join(dataDir, "store")]);
  const store = new AgentStoreClient(server.url);
  try {
    await meanwhile?.(server.child.pid);
    const { sessions } = await store.listSessions("");
    return await Promise.all(
      sessions.map(async ({ session: { id, title } }) => {
        expect(title).toBe(TRADING);
        return { id, messages: (await store.getMessages(id)).messages };
      }),
    );
  } finally {
    store.close();
    await server.end("SIGTERM");
  }
}

interface Portfolio {
  cash: number;
  trades: { coin: string; amount: number; price: number }[];
}

async function portfolio(dataDir: string): Promise<Portfolio> {
  return JSON.parse(await readFile(path.join(dataDir, "portfolio.json"), "utf8")) as Portfolio;
}

/** Whether a message, if it is a tool's, answers a call of an assistant message before it. */
function answersItsCall({ role, toolCallId }: AgentMessage, at: number, all: AgentMessage[]) {
  const calls = all.slice(0, at).flatMap(({ toolCalls }) => toolCalls);
  return role !== "tool" || calls.some(({ id }) => id === toolCallId);
}

/** The first result of a tool. */
function resultOf(messages: AgentMessage[], tool: string): { price?: number; paid?: number } {
  const message = messages.find(({ role, name }) => role === "tool" && name === tool);
  return JSON.parse(message?.content ?? "{}") as { price?: number; paid?: number };
}

/** The processes that an output names. */
function processes(output: string): string[] {
  return [...new Set([...output.matchAll(/process +(\d+)/g)].map(([, pid = ""]) => pid))];
}

/** An answer of one message, as an OpenAI endpoint streams it. */
function answer(content: string): string[] {
  const chunk = { id: "chat-1", object: "chat.completion.chunk", created: 1, model: "a-model" };
  const choice = (delta: object, finish_reason: string | null) => ({
    ...chunk,
    choices: [{ index: 0, delta, finish_reason }],
  });
  const usage = { prompt_tokens: 11, completion_tokens: 3, total_tokens: 14 };
  const chunks = [
    choice({ role: "assistant", content }, null),
    choice({}, "stop"),
    { ...chunk, choices: [], usage },
  ];
  return [...chunks.map((each) => `data: ${JSON.stringify(each)}`), "data: [DONE]"];
}

async function readmeSection(): Promise<string> {
  const readme = await readFile(path.join(projectRoot, "README.md"), "utf8");
  const from = readme.indexOf("## A persistent agent\n");
  expect(from).toBeGreaterThan(0);
  return readme.slice(from, readme.indexOf("\n## ", from));
}

/**
 * Expects the blocks of text in the README to be what was shown, one block for each output. A line
 * of "…" in a block stands for any lines.
 */
async function expectShown(outputs: string[]): Promise<void> {
  const section = await readmeSection();
  const blocks = [...section.matchAll(/^```text\n([\s\S]*?)^```$/gm)].map(([, text = ""]) => text);
  expect(blocks).toHaveLength(outputs.length);
  for (const [index, block] of blocks.entries()) {
    let rest = anonymous(outputs[index]!);
    for (const part of anonymous(block).split(/^…\n/m)) {
      expect(rest).toContain(part.trim());
      rest = rest.slice(rest.indexOf(part.trim()) + part.trim().length);
    }
  }
}

/** Takes out what differs from run to run and from machine to machine. */
function anonymous(text: string): string {
  return text
    .replaceAll(/127\.0\.0\.1:\d+/g, "ADDRESS")
    .replaceAll(/PostgreSQL [\d.]+/g, "POSTGRES")
    .replaceAll(/^ {2}data .*/gm, "  data     DIRECTORY")
    .replaceAll(/^( {2}process +)\d+/gm, "$1PID")
    .replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d/g, "TIME");
}
