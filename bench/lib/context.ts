// What the figure groups share.
import type { LoadJob, LoadResult } from "./load-client.js";
import { cpuMillis } from "./process.js";
import type { BenchServer, BenchStore } from "./server.js";
import type { Worker } from "./worker.js";

/** A run of the benchmark. */
export interface Context {
  /** Everything small: to see that it works, not to measure. */
  quick: boolean;
  store: BenchStore;
  load: Worker<LoadJob, LoadResult>;
  /** Interleaved rounds, of which the medians are taken. */
  rounds: number;
  /** How long one load of one round lasts. */
  seconds: number;
  /** The version of pgbench; undefined where there is none. */
  pgbench: string | undefined;
  /** Says on stderr what is being done. */
  say: (text: string) => void;
}

/** A load's result, with what it took of the server. */
export interface ServedLoad extends LoadResult {
  /** The server's CPU time for each call, in microseconds. */
  serverMicros: number;
}

/** Puts load on a server. @throws Error when a call fails: a figure with errors is none */
export async function loadServer(
  context: Context,
  job: Omit<LoadJob, "address">,
  server: BenchServer = context.store,
): Promise<ServedLoad> {
  const before = cpuMillis(server.pid);
  const result = await context.load.run({ ...job, address: server.address });
  const used = cpuMillis(server.pid) - before;
  if (result.failed > 0)
    throw new Error(`${result.failed} of ${result.calls} calls of ${job.path} failed`);
  return { ...result, serverMicros: (used * 1000) / result.calls };
}

/** The path of a method of the service. */
export function method(name: string): string {
  return `/agentstore.v1.AgentStore/${name}`;
}
