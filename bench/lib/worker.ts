// Jobs for child processes: whatever makes load or reads runs outside the process that measures.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

type Answer = { result: unknown } | { error: string };

/** A child process that does one job at a time. */
export interface Worker<Job, Result> {
  pid: number;
  /** @throws Error with what the job failed with */
  run: (job: Job) => Promise<Result>;
  stop(): Promise<void>;
}

/** Starts a module of bench/lib (for example "load-client") as a child process. */
export function startWorker<Job, Result>(module: string): Worker<Job, Result> {
  const file = fileURLToPath(new URL(`./${module}.js`, import.meta.url));
  const child = fork(file, { serialization: "advanced" });
  let answer: (answer: Answer) => void = () => {};
  child.on("message", (message) => answer(message as Answer));
  child.on("exit", (code) => answer({ error: `the process has ended with code ${code}` }));
  return {
    pid: child.pid ?? 0,
    async run(job) {
      const answered = new Promise<Answer>((resolve) => {
        answer = resolve;
      });
      child.send(job as object);
      const reply = await answered;
      if ("error" in reply) throw new Error(`${module}: ${reply.error}`);
      return reply.result as Result;
    },
    async stop() {
      // One that was killed has no exit code.
      if (!child.connected) return;
      const exited = once(child, "exit");
      child.disconnect();
      await exited;
    },
  };
}

/** Does the jobs of startWorker(), in the child process. */
export function serveJobs(work: (job: never) => Promise<unknown>): void {
  process.on("message", (job) => {
    work(job as never).then(
      (result) => process.send?.({ result } satisfies Answer),
      (error: unknown) => process.send?.({ error: String(error) } satisfies Answer),
    );
  });
  process.on("disconnect", () => process.exit());
}
