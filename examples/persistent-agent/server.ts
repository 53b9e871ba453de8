// Starts an AgentStore server with a database of its own, as `agentstore serve` does.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { DemoError } from "./program.js";

/** A server that runs as a child process. */
export interface Server {
  url: string;
  /** For people, for example "PostgreSQL 18.4, embedded". */
  database: string;
  stop(): Promise<void>;
}

const HINT =
  "A data directory is for one demo at a time; a demo that was killed leaves its server behind.";

/** The `agentstore` command, as seen from where this file runs: examples/persistent-agent/dist. */
const AGENTSTORE = path.join(import.meta.dirname, "../../../dist/cli/main.js");

/**
 * Starts a server on a free port.
 *
 * @param dataDir where the database is, or will be made
 * @throws DemoError when it does not start
 */
export async function startServer(dataDir: string): Promise<Server> {
  if (!existsSync(AGENTSTORE)) {
    throw new DemoError(`there is no ${AGENTSTORE}`, "Build it: npm run build");
  }
  const child = spawn(
    process.execPath,
    [AGENTSTORE, "serve", "--port=0", "--no-http", `--data-dir=${dataDir}`, "--log-level=error"],
    // In a process group of its own: Ctrl-C asks the demo to end, and the demo the server.
    { stdio: ["ignore", "pipe", "pipe"], detached: true },
  );
  const said = await banner(child);
  return {
    url: `agentstore://${/serves gRPC on (\S+)/.exec(said)?.[1]}`,
    database: /database +(.+), in /.exec(said)?.[1] ?? "",
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGTERM");
      await once(child, "exit");
    },
  };
}

/** Waits until the server serves, and returns what it says then. */
async function banner(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    let log = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes("Ctrl-C")) resolve(said);
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (log += text));
    child.once("error", reject);
    child.once("close", (code) => {
      const why = /^error: (.+)/m.exec(log)?.[1] ?? `it ended with code ${code}`;
      reject(new DemoError(`the demo's server does not start: ${why}`, HINT));
    });
  });
}
