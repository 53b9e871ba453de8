// The README is true: every code block in it is run, and what it promises to show is shown.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { access, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startServer } from "../harness/server.js";

const root = path.resolve(import.meta.dirname, "../..");
const run = promisify(execFile);
const GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4";

interface Block {
  language: string;
  text: string;
}

const readme = await readFile(path.join(root, "README.md"), "utf8");
const blocks: Block[] = [...readme.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(
  ([, language = "", text = ""]) => ({ language, text }),
);

describe("the README", () => {
  it("has no block that is not run here", () => {
    const kinds = blocks.map(({ language, text }) => `${language} ${text.split(/\s/)[0]}`);
    expect(kinds).toEqual([
      "sh npm",
      "text AgentStore",
      "sh npm",
      "ts import",
      "text 1",
      "sh npx",
      "sh curl",
      "sh grpcurl",
      // These stand in demo.test.ts.
      "sh npm",
      "text AgentStore:",
      "text 1",
    ]);
  });

  it("starts and tests with scripts that are there", async () => {
    const { scripts } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    expect(blocks[0]?.text).toBe("npm ci && npm start\n");
    expect(blocks[2]?.text).toBe("npm ci && npm test\n");
    expect(scripts["start"]).toMatch(/\bnode dist\/cli\/main\.js serve$/);
    expect(scripts["test"]).toMatch(/\bvitest run$/);
  });

  it("lists the commands that there are", async () => {
    const { stdout } = await agentstore("--help");
    const commands = /^Commands:\n((?: {2}.*\n)+)/m.exec(stdout)?.[1] ?? "";
    const there = [...commands.matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name);
    const listed = [...readme.matchAll(/^\| `npx agentstore (\w+)/gm)].map(([, name]) => name);
    expect(new Set(listed)).toEqual(new Set(there.filter((name) => name !== "help")));
  });

  it("shows what a start shows", async () => {
    const directory = await mkdtemp(path.join(tmpdir(), "agentstore-readme-"));
    // A start by root runs Postgres as another user, who has to get into the directory.
    await chmod(directory, 0o755);
    const server = spawn(
      process.execPath,
      [
        path.join(root, "dist/cli/main.js"),
        "serve",
        "--port=0",
        "--http-port=0",
        "--log-level=warn",
      ],
      {
        cwd: directory,
        env: { ...process.env, DATABASE_URL: undefined },
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    try {
      const expected = anonymous(blocks[1]!.text);
      let shown = "";
      for await (const line of createInterface({ input: server.stdout })) {
        shown += `${line}\n`;
        if (shown.split("\n").length >= expected.split("\n").length) break;
      }
      expect(anonymous(shown)).toBe(expected);
    } finally {
      server.kill("SIGTERM");
      if (server.exitCode === null) await once(server, "exit");
      await rm(directory, { recursive: true });
    }
  });
});

// In the README's order, on one server: what a block shows may come from the one before.
describe("the README's first conversation", () => {
  let server: Awaited<ReturnType<typeof startServer>>;

  beforeAll(async () => {
    server = await startServer({ httpPort: 0 });
  });

  afterAll(() => server.stop());

  it("compiles and runs in TypeScript", async () => {
    await mkdir(path.join(root, "dist"), { recursive: true });
    const directory = await mkdtemp(path.join(root, "dist", "readme-"));
    try {
      const source = block("ts", "import");
      expect(source).toContain('from "@agentstore/client"');
      await writeFile(
        path.join(directory, "conversation.ts"),
        here(source).replace('"@agentstore/client"', '"../../client/index.js"'),
      );
      await writeFile(
        path.join(directory, "tsconfig.json"),
        JSON.stringify({
          extends: "../../tsconfig.json",
          compilerOptions: { noEmit: false, rootDir: "../..", outDir: "out" },
          include: ["conversation.ts"],
          exclude: [],
        }),
      );
      await run(path.join(root, "node_modules/.bin/tsc"), ["-p", directory]);
      const compiled = path.join(
        directory,
        "out",
        path.relative(root, directory),
        "conversation.js",
      );
      const { stdout } = await run(process.execPath, [compiled]);
      expect(stdout).toBe(block("text", "1"));
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it("runs with buf curl", async () => {
    const answers = await shell(here(block("sh", "npx")));
    expect(answers).toMatchObject([
      { session: { id: expect.stringMatching(/^\d+$/), modelId: "gpt-4" } },
      { message: { conversationId: "1", role: "ROLE_USER", content: "Hello" } },
      { messages: expect.arrayContaining([expect.objectContaining({ content: "Hello" })]) },
    ]);
  });

  it("runs with curl", async () => {
    const answers = await shell(here(block("sh", "curl")));
    expect(answers).toMatchObject([{ session: { modelId: "gpt-4" } }]);
  });

  it("runs with grpcurl", { timeout: 300_000 }, async ({ skip }) => {
    const directory = await grpcurlDirectory();
    if (directory === undefined) {
      skip("there is no grpcurl, and no Go toolchain that could install one");
      return;
    }
    const answers = await shell(here(block("sh", "grpcurl")), directory);
    expect(answers).toMatchObject([
      { session: { modelId: "gpt-4" } },
      { messages: expect.arrayContaining([expect.objectContaining({ content: "Hello" })]) },
    ]);
  });

  /** Puts the test server's addresses where the README has the default ones. */
  function here(text: string): string {
    expect(text).toMatch(/127\.0\.0\.1:5005[12]/);
    return text
      .replaceAll("127.0.0.1:50051", server.address)
      .replaceAll("http://127.0.0.1:50052", server.httpUrl);
  }
});

/** Finds the block of a language that begins with a word. */
function block(language: string, word: string): string {
  const found = blocks.find((each) => each.language === language && each.text.startsWith(word));
  if (!found) throw new Error(`the README has no ${language} block that begins with ${word}`);
  return found.text;
}

/** Takes out what differs from start to start: the port, and the version of Postgres. */
function anonymous(text: string): string {
  return text.replaceAll(/127\.0\.0\.1:\d+/g, "ADDRESS").replace(/PostgreSQL [\d.]+/, "PostgreSQL");
}

async function agentstore(...args: string[]): Promise<{ stdout: string }> {
  return run(process.execPath, [path.join(root, "dist/cli/main.js"), ...args]);
}

/** Runs shell commands, stopping at the first that fails, and returns the JSON that they wrote. */
async function shell(script: string, directory = ""): Promise<unknown[]> {
  const PATH = `${directory}${path.delimiter}${process.env["PATH"]}`;
  const { stdout } = await run("bash", ["-euc", script], {
    cwd: root,
    env: { ...process.env, PATH },
  });
  return JSON.parse(`[${stdout.replaceAll(/^\}\s*^\{/gm, "},{")}]`) as unknown[];
}

/** Finds the directory of a grpcurl, installing one outside of the repository where Go is. */
async function grpcurlDirectory(): Promise<string | undefined> {
  const cache = process.env["XDG_CACHE_HOME"] ?? path.join(homedir(), ".cache");
  const directories = (process.env["PATH"] ?? "").split(path.delimiter);
  const own = path.join(cache, "agentstore", "bin");
  for (const directory of [...directories, own]) {
    if (await exists(path.join(directory, "grpcurl"))) return directory;
  }
  try {
    await run("go", ["install", GRPCURL], { env: { ...process.env, GOBIN: own } });
    return own;
  } catch {
    return undefined;
  }
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
