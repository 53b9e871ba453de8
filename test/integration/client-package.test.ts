// The client package as a stranger gets it: packed, installed in an empty project, typechecked, run.
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { projectRoot } from "../../server/paths.js";
import { startServer, type TestServer } from "../harness/server.js";

const run = promisify(execFile);
const env = {
  ...process.env,
  npm_config_yes: "true",
  npm_config_audit: "false",
  npm_config_fund: "false",
  npm_config_update_notifier: "false",
  npm_config_loglevel: "error",
};
const tsc = path.join(projectRoot, "node_modules/typescript/bin/tsc");
const program = `
import { AgentStoreClient, AgentStoreError, SessionNotFoundError, type AgentMessage, type AgentSession, type Role, type SessionEvent } from "@agentstore/client";
import { type ChatFunction, type DialogueResult, PersistentDialogue } from "@agentstore/client/agent";

const store = new AgentStoreClient({ url: URL_OF_SERVER, timeoutMs: 10_000 });
const session: AgentSession = await store.createSession("gpt-4", { metadata: { a: [1, null] } });
const role: Role = "user";
const stored: AgentMessage = await store.addMessage(session.id, role, "Hello", { timestampMs: 5 });
const seq: bigint = stored.seq;
// @ts-expect-error no role of that name
await store.addMessage(session.id, "narrator", "Hello").catch((error: AgentStoreError) => error.code);
for await (const message of store.streamMessages(session.id)) console.log(message.content, seq);
for await (const event of store.watchSession(session.id, { after: 0 })) {
  // @ts-expect-error not every event has a message
  void event.message;
  const kind: SessionEvent["kind"] = event.kind;
  if (event.kind === "message_appended") console.log(kind, event.message.content, event.revision);
  if (event.kind === "caught_up") break;
}
try {
  await store.getSession(4_000_000_000);
} catch (error) {
  if (error instanceof SessionNotFoundError) console.log(error.name, error.conversationId);
}
const chat: ChatFunction = async () => ({ message: { role: "assistant", content: "Hi" } });
const dialogue = await PersistentDialogue.resume(store, session.id, { chat });
const { response }: DialogueResult = await dialogue.continue();
console.log(response);
await dialogue.close();
await store[Symbol.asyncDispose]();
`;

let server: TestServer;
let project: string;

beforeAll(async () => {
  server = await startServer();
  project = await mkdtemp(path.join(tmpdir(), "agentstore-package-"));
  await writeFile(path.join(project, "package.json"), '{ "private": true, "type": "module" }');
  // Packed from a copy, because packing builds, and other tests read what is built.
  const source = path.join(project, "source");
  await mkdir(source);
  for (const part of ["client", "gen", "tsconfig.json"]) {
    const filter = (from: string) => !/\/client\/(dist|node_modules)$/.test(from);
    await cp(path.join(projectRoot, part), path.join(source, part), { recursive: true, filter });
  }
  await symlink(path.join(projectRoot, "node_modules"), path.join(source, "node_modules"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], {
    cwd: path.join(source, "client"),
    env,
  });
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf("["))) as { filename: string }[];
  await run("npm", ["install", path.join(project, packed?.filename ?? "")], { cwd: project, env });
}, 240_000);

afterAll(async () => {
  await server.stop();
  await rm(project, { recursive: true, force: true });
});

async function check(name: string, source: string, options: object): Promise<string> {
  const directory = path.join(project, name);
  await mkdir(directory);
  await writeFile(path.join(directory, "main.ts"), source);
  await writeFile(
    path.join(directory, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "ES2022",
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        noEmitOnError: true,
        outDir: "out",
        ...options,
      },
    }),
  );
  await run(process.execPath, [tsc, "-p", directory]).catch((error: { stdout: string }) => {
    throw new Error(error.stdout);
  });
  const { stdout } = await run(process.execPath, [path.join(directory, "out/main.js")], {
    cwd: project,
    env: { ...env, AGENTSTORE_URL: server.url },
  });
  return stdout;
}

describe("the packed client", () => {
  it.each([
    ["nodenext", { module: "NodeNext", moduleResolution: "NodeNext" }],
    ["bundler", { module: "ESNext", moduleResolution: "Bundler" }],
  ])("typechecks without Node's types and runs: %s", async (name, options) => {
    const source = program.replace("URL_OF_SERVER", JSON.stringify(server.url));
    const output = await check(name, source, { ...options, types: [] });
    expect(output).toBe(
      "Hello 1n\nmessage_appended Hello 2n\nSessionNotFoundError 4000000000n\nHi\n",
    );
  });

  it("brings gRPC and protobuf and nothing of the server", async () => {
    const { stdout } = await run("npm", ["ls", "--all", "--json"], { cwd: project, env });
    const tree = JSON.parse(stdout) as {
      dependencies: Record<string, { dependencies: Record<string, { version?: string }> }>;
    };
    expect(Object.keys(tree.dependencies)).toEqual(["@agentstore/client"]);
    const dependencies = tree.dependencies["@agentstore/client"]?.dependencies ?? {};
    // Optional peers that are not installed are listed, without a version.
    const there = Object.keys(dependencies).filter((name) => dependencies[name]?.version);
    expect(there.sort()).toEqual(["@bufbuild/protobuf", "@grpc/grpc-js"]);
    const installed = path.join(project, "node_modules/@agentstore/client");
    const files = await readdir(installed, { recursive: true });
    const top = new Set(files.map((file) => file.split("/").slice(0, 2).join("/")));
    expect([...top].sort()).toEqual([
      "LICENSE",
      "README.md",
      "dist",
      "dist/client",
      "dist/gen",
      "package.json",
    ]);
    expect(files.filter((file) => /test|server|cli\b|\.ts$(?<!\.d\.ts)/.test(file))).toEqual([]);
  });

  it("says which package a part of it needs that is not there", async () => {
    const parts = { openai: "openai", mcp: "@modelcontextprotocol/sdk" };
    const source = Object.keys(parts)
      .map(
        (part) => `
          await import("@agentstore/client/agent/${part}").catch((error: Error & { code?: string }) =>
            console.log(error.code, /'(.*?)'/.exec(error.message)?.[1]));`,
      )
      .join("");
    const output = await check("parts", `${source}\nexport {};`, {
      module: "NodeNext",
      types: [],
      // Its own types name those of the packages.
      skipLibCheck: true,
    });
    const lines = Object.values(parts).map((name) => `ERR_MODULE_NOT_FOUND ${name}\n`);
    expect(output).toBe(lines.join(""));
  });

  it("does what its README says", async () => {
    const readme = await readFile(path.join(projectRoot, "client/README.md"), "utf8");
    const programs = [...readme.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(
      ([, text]) => text ?? "",
    );
    const expected = [
      /^1 user: Hello\n2 assistant: \n3 tool: 12:00\n4 assistant: Hello! It is noon\.\n\{\n {2}totalMessages: 4n,/,
      /^someone was faster: 1\n$/,
      /^worker 1 holds the session until \d{4}-.*Z\n\[ 'user: Hello' \]\n$/,
      /^user: Hello\nassistant: Hello!\nthe session is gone\n$/,
      /^Hello\nHello!\n$/,
      /^\[\{"role":"developer","content":"Be brief\."\},\{"role":"user","content":\[\{"type":"text","text":"Hello"\}\]\}\]\n$/,
      /^It is 12:00\. \(asked 2 times\)\n4 messages, 0 pending calls\n$/,
    ];
    expect(programs).toHaveLength(expected.length);
    const node = "declare const process: { env: Record<string, string | undefined> };\n";
    for (const [index, source] of programs.entries()) {
      const options = { module: "NodeNext" };
      expect(await check(`readme-${index}`, node + source, options)).toMatch(expected[index]!);
    }
  });
});
