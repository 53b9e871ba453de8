// Runs an embedded Postgres in a process of its own, which a test can kill.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "../../server/paths.js";

const BUILT = join(projectRoot, "dist/server/db/embedded.js");

// The process ends by itself when the test's process does, because its stdin ends then.
const SCRIPT = `
  import { pino } from "pino";
  import { startEmbeddedPostgres } from ${JSON.stringify(BUILT)};
  const [dataDir, afterStart] = process.argv.slice(1);
  process.on("SIGINT", () => {});
  try {
    const postgres = await startEmbeddedPostgres({ dataDir, log: pino(pino.destination(2)) });
    console.log(JSON.stringify({ url: postgres.url, pid: postgres.pid() }));
    postgres.onExit((error) => console.log(JSON.stringify({ error: error.name })));
    if (afterStart === "exit") process.exit(1);
    process.stdin.on("end", async () => { await postgres.stop(); process.exit(0); }).resume();
  } catch (error) {
    console.log(JSON.stringify({ error: error.name, message: error.message }));
    process.exit(1);
  }`;

/** What the process said when Postgres was up, or why it was not. */
export interface Answer {
  url?: string;
  pid?: number;
  error?: string;
  message?: string;
}

/** A process that owns, or tried to own, a data directory. */
export interface EmbeddedChild {
  process: ChildProcess;
  answer: Answer;
  /** All that the process has said. */
  said(): string;
  /** Stops Postgres and the process in an orderly way. */
  stop(): Promise<void>;
  /** Kills the process, not Postgres. */
  kill(): Promise<void>;
}

/** How the process is started. */
export interface EmbeddedChildOptions {
  /** The system user to run as; only root can choose one. */
  uid?: number;
  env?: NodeJS.ProcessEnv;
  /** "exit": end without a word as soon as Postgres is up. */
  afterStart?: "exit";
}

/** Starts the process and waits for what it says. */
export async function startEmbeddedChild(
  dataDir: string,
  { uid, env, afterStart }: EmbeddedChildOptions = {},
): Promise<EmbeddedChild> {
  if (!existsSync(BUILT)) throw new Error(`${BUILT} is not there: npm run build`);
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      SCRIPT,
      dataDir,
      ...(afterStart === undefined ? [] : [afterStart]),
    ],
    {
      cwd: projectRoot,
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
      ...(uid === undefined ? {} : { uid, gid: uid }),
      ...(env === undefined ? {} : { env }),
    },
  );
  let stdout = "";
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const exited = once(child, "exit");
  await new Promise<void>((resolve) => {
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk);
      if (stdout.includes("\n")) resolve();
    });
    child.stdout.on("end", resolve);
  });
  if (stdout === "") throw new Error(`the process said nothing: ${stderr}`);
  return {
    process: child,
    answer: JSON.parse(stdout) as Answer,
    said: () => stdout,
    stop: async () => {
      child.stdin.end();
      await exited;
    },
    kill: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}
