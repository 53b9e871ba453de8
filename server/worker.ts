// A process that serves calls for `agentstore serve --workers`: its parent says over what, and when
// to stop.
import { type App, type AppOptions, startApp } from "./app.js";
import type { DatabaseTraits } from "./db/inspect.js";
import { tuneHeap } from "./heap.js";
import { makeLogger } from "./log.js";

/** What a worker is told when it starts. */
export interface WorkerJob {
  databaseUrl: string;
  traits: DatabaseTraits;
  options: AppOptions;
  logLevel: string;
}

/** What it is told later. */
export const STOP = "stop";
export const PING = "ping";

/** What it says to a ping. */
export const ALIVE = "alive";

/**
 * What it tells its parent: that it listens to it, as what is said before is lost; then where it
 * serves, or why it cannot.
 */
export type WorkerReport =
  | "listening"
  | typeof ALIVE
  | { address: string; httpAddress?: string | undefined }
  | { error: string };

const report = (what: WorkerReport) =>
  new Promise<void>((resolve) => process.send?.(what, () => resolve()));

let app: Promise<App> | undefined;

async function start({ databaseUrl, traits, options, logLevel }: WorkerJob): Promise<void> {
  tuneHeap();
  try {
    app = startApp(databaseUrl, options, makeLogger(logLevel, { pid: process.pid }), traits);
    const { address, httpAddress } = await app;
    await report({ address, httpAddress });
  } catch (error) {
    await report({ error: error instanceof Error ? error.message : String(error) });
    process.exit(1);
  }
}

async function stop(): Promise<void> {
  await (await app)?.shutDown();
  process.exit(0);
}

// Ctrl-C reaches all processes of a terminal; when to stop, the parent says.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
process.on("message", (message) => {
  if (message === STOP) void stop();
  else if (message === PING) void report(ALIVE);
  else void start(message as WorkerJob);
});
// Without its parent it gets no connections, and nobody would stop it.
process.on("disconnect", () => process.exit(1));
void report("listening");
