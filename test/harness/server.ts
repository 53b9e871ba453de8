// Servers for tests: in this process over a database of their own, or as a child process.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AppOptions, startApp } from "../../server/app.js";
import { makeLogger } from "../../server/log.js";
import { projectRoot } from "../../server/paths.js";
import { createDatabase } from "./postgres.js";

/** A server that serves a database of its own. */
export interface TestServer {
  /** For example `127.0.0.1:40123`. */
  address: string;
  /** For clients: `agentstore://127.0.0.1:40123`. */
  url: string;
  /** For example `http://127.0.0.1:40124`; empty unless the options name an httpPort. */
  httpUrl: string;
  /** The connection string of its database. */
  databaseUrl: string;
  stop(): Promise<void>;
}

/** Starts a server in this process, over a fresh database unless one is given. */
export async function startServer(
  options: Partial<AppOptions> & { databaseUrl?: string } = {},
): Promise<TestServer> {
  const { databaseUrl: given, ...rest } = options;
  const database = given === undefined ? await createDatabase() : undefined;
  const databaseUrl = given ?? database!.url;
  const app = await startApp(
    databaseUrl,
    {
      host: "127.0.0.1",
      port: 0,
      poolSize: 8,
      maxMessageBytes: 4_194_304,
      graceMs: 5_000,
      // Tests that want it say so: sessions that have expired are to stay where others look at them.
      sweepMs: 0,
      ...rest,
    },
    makeLogger(process.env.TEST_LOG_LEVEL ?? "silent"),
  );
  return {
    address: app.address,
    url: `agentstore://${app.address}`,
    httpUrl: app.httpAddress ? `http${rest.tlsCert ? "s" : ""}://${app.httpAddress}` : "",
    databaseUrl,
    async stop() {
      await app.shutDown();
      await database?.drop();
    },
  };
}

/** A server in a process of its own. */
export interface SpawnedServer {
  address: string;
  /** For example `http://127.0.0.1:40124`; empty with `--no-http`. */
  httpUrl: string;
  url: string;
  child: ChildProcess;
  /** All that it has printed on stdout and stderr so far. */
  output(): string;
  /** Waits for the end; returns the exit code, or null when a signal ended it. */
  exited(): Promise<number | null>;
  /** Sends a signal and waits for the end; returns the exit code, or null when a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

/**
 * Runs `agentstore serve` from dist/ and waits until it serves.
 *
 * @param args flags; `--port 0` and `--http-port 0` are added unless they name ports
 * @throws Error with its output when it ends before it serves
 */
export async function spawnServer(
  args: string[],
  spawnOptions: { env?: NodeJS.ProcessEnv; uid?: number; gid?: number; cwd?: string } = {},
): Promise<SpawnedServer> {
  const ports = ["--port", "--http-port"].flatMap((flag) =>
    args.includes(flag) ? [] : [flag, "0"],
  );
  const child = spawn(
    process.execPath,
    [`${projectRoot}/dist/cli/main.js`, "serve", ...ports, ...args],
    { stdio: ["ignore", "pipe", "pipe"], ...spawnOptions },
  );
  let output = "";
  const exited = once(child, "exit");
  const address = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const found = /^AgentStore serves gRPC on (\S+)$/m.exec(output)?.[1];
      // The banner is whole.
      if (found && output.includes("Ctrl-C")) resolve(found);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("close", (code) => reject(new Error(`serve ended with code ${code}:\n${output}`)));
    child.once("error", reject);
  });
  return {
    address,
    url: `agentstore://${address}`,
    httpUrl: /^  http +(\S+)$/m.exec(output)?.[1] ?? "",
    child,
    output: () => output,
    async exited() {
      if (child.exitCode === null && child.signalCode === null) await exited;
      return child.exitCode;
    },
    async end(signal) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill(signal);
        await exited;
      }
      return child.exitCode;
    },
  };
}
