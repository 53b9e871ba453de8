// The demo: an agent whose conversation is kept in AgentStore, in four scenarios.
//
//     npm run demo                      with a server of its own; a second run resumes the first
//     npm run demo -- --data-dir DIR    with its data elsewhere
//     AGENTSTORE_URL=… npm run demo     with a server that runs already
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { AgentStoreClient } from "@agentstore/client";
import { converse } from "./converse.js";
import { manage } from "./manage.js";
import { chooseModel } from "./model.js";
import { DemoError, runProgram } from "./program.js";
import { fact, gap, title } from "./screen.js";
import { search } from "./search.js";
import { type Server, startServer } from "./server.js";

await runProgram(async (signal) => {
  const dataDir = await dataDirectory();
  const model = await chooseModel();
  const server = await findServer(dataDir);
  const store = new AgentStoreClient(server.url);
  const demo = { store, model, dataDir, signal };
  try {
    title("AgentStore: an agent that can be stopped anywhere and resumed anywhere");
    fact("store", `${store.address}, ${server.database}`);
    fact("data", dataDir.replace(process.cwd() + path.sep, ""));
    fact("model", model.description);
    fact("tools", "of a play market with made-up prices: an MCP server, in a process of its own");
    fact("process", `${process.pid}`);
    await converse(demo);
    await resumeInNewProcess(server.url, dataDir, signal);
    await search(demo);
    await manage(demo);
    gap();
    fact("next", "run it once more: it goes on with the conversation that is left");
  } finally {
    store.close();
    await server.stop();
  }
});

async function dataDirectory(): Promise<string> {
  const { values } = parseArgs({ options: { "data-dir": { type: "string" } } });
  const own = path.join(import.meta.dirname, "../agentstore-data");
  const directory = path.resolve(values["data-dir"] ?? own);
  await mkdir(directory, { recursive: true });
  return directory;
}

/** The server that AGENTSTORE_URL names, or else one of the demo's own. */
async function findServer(dataDir: string): Promise<Server> {
  const url = process.env["AGENTSTORE_URL"];
  if (!url) return startServer(path.join(dataDir, "store"));
  return { url, database: "named by AGENTSTORE_URL", stop: async () => {} };
}

async function resumeInNewProcess(
  url: string,
  dataDir: string,
  signal: AbortSignal,
): Promise<void> {
  const program = path.join(import.meta.dirname, "resume.js");
  const child = spawn(process.execPath, [program, dataDir], {
    env: { ...process.env, AGENTSTORE_URL: url },
    stdio: "inherit",
    signal,
  });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new DemoError("the second process did not come to its end");
}
