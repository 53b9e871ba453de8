// The programs of docs/agents.md compile, and those that need nothing of elsewhere run.
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { projectRoot } from "../../server/paths.js";
import { startServer, type TestServer } from "../harness/server.js";
import { completionsServer, delta, stream } from "../unit/client/agent/completions-server.js";

const run = promisify(execFile);
const call = { index: 0, id: "c1", function: { name: "weather", arguments: '{"city":"Paris"}' } };

let server: TestServer;
let directory: string;

beforeAll(async () => {
  server = await startServer();
  await mkdir(path.join(projectRoot, "dist"), { recursive: true });
  directory = await mkdtemp(path.join(projectRoot, "dist", "docs-"));
});

afterAll(async () => {
  await server.stop();
  await rm(directory, { recursive: true, force: true });
});

it("has programs that compile and do what they say", async () => {
  const page = await readFile(path.join(projectRoot, "docs/agents.md"), "utf8");
  const blocks = [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, text = ""]) => text);
  expect(blocks).toHaveLength(3);
  for (const [index, text] of blocks.entries()) {
    const source = text.replaceAll(/"@agentstore\/client(\/[\w/]+)?"/g, (_all, part?: string) => {
      const file = part === undefined || part === "/agent" ? `${part ?? ""}/index` : part;
      return `"../../client${file}.js"`;
    });
    await writeFile(path.join(directory, `block-${index}.ts`), source);
  }
  const config = {
    extends: "../../tsconfig.json",
    compilerOptions: { noEmit: false, rootDir: "../..", outDir: "out" },
    include: ["*.ts"],
    exclude: [],
  };
  await writeFile(path.join(directory, "tsconfig.json"), JSON.stringify(config));
  await run(path.join(projectRoot, "node_modules/.bin/tsc"), ["-p", directory]);

  // As the page has it: the model calls the tool, then answers; then answers a job, once.
  const model = await completionsServer(
    stream(delta({ tool_calls: [call] }, "tool_calls")),
    stream(delta({ content: "Sunny." }, "stop")),
    stream(delta({ content: "Sunny again." }, "stop")),
  );
  const env = {
    ...process.env,
    AGENTSTORE_URL: server.url,
    OPENAI_API_KEY: "key",
    OPENAI_BASE_URL: model.baseURL,
  };
  const outputs: string[] = [];
  for (const block of ["block-0", "block-2"]) {
    const program = path.join(
      directory,
      "out",
      path.relative(projectRoot, directory),
      `${block}.js`,
    );
    outputs.push((await run(process.execPath, [program], { env })).stdout);
  }
  await model.close();
  expect(outputs).toEqual(["Sunny.\nanswered after 2 rounds\n", "Sunny again.\nSunny again.\n"]);
  expect(model.asked[1]?.body["messages"]).toContainEqual({
    role: "tool",
    tool_call_id: "c1",
    name: "weather",
    content: "It is sunny in Paris.",
  });
});
