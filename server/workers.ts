// Several processes that serve on one port: starts them, replaces those that die, stops them.
import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import type { Logger } from "pino";
import type { App } from "./app.js";
import type { ServeOptions } from "./config.js";
import { inspectDatabase } from "./db/inspect.js";
import { rescueConnections } from "./handed-connections.js";
import { present } from "./present.js";
import { ALIVE, PING, STOP, type WorkerJob, type WorkerReport } from "./worker.js";

/** The workers of a server. */
export interface Workers extends App {
  /** Ends all at once, without waiting. */
  kill(): void;
  /** Hears that workers die faster than they can be replaced. */
  onExit(listener: (reason: Error) => void): void;
}

/** A worker that has lived this long has not died of how it was started. */
const HEALTHY_MS = 5_000;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 3_000;
/** Deaths in one place in a row, each before it was healthy, that end the server. */
const MOST_DEATHS = 6;
/** What a worker may take on top of the grace period to stop. */
const STOP_PATIENCE_MS = 15_000;
const PING_EVERY_MS = 2_000;
/** Pings in a row without an answer, 30 seconds of them, for which a worker is killed. */
const MOST_PINGS = 15;

/**
 * Starts the workers, all on one port, which this process shares out: each new connection goes to
 * the next worker.
 *
 * @throws Error when one of them cannot start
 */
export async function startWorkers(
  databaseUrl: string,
  options: ServeOptions,
  logger: Logger,
): Promise<Workers> {
  const traits = await inspectDatabase(databaseUrl, logger);
  cluster.setupPrimary({ exec: fileURLToPath(new URL("./worker.js", import.meta.url)), args: [] });
  // With port 0 a worker that is replaced after all have died would get another one than they had.
  const port = options.port || (await freePort(options.host));
  const httpPort = options.httpPort === 0 ? await freePort(options.host) : options.httpPort;
  const someServe = () => places.some((place) => place.serves);
  const places: Place[] = poolSizes(options).map(
    (poolSize) =>
      new Place(
        {
          databaseUrl,
          traits,
          options: { ...options, port, httpPort, poolSize },
          logLevel: options.logLevel,
        },
        someServe,
        logger,
      ),
  );
  const kill = () => {
    for (const place of places) place.kill();
  };
  const shutDown = async () => {
    await Promise.all(places.map((place) => place.stop()));
  };
  try {
    const addresses = await Promise.all(places.map((place) => place.start()));
    return {
      ...present(addresses[0]),
      shutDown,
      kill,
      onExit: (listener) => {
        for (const place of places) place.onExit = listener;
      },
    };
  } catch (error) {
    kill();
    throw error;
  }
}

async function freePort(host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Shares the connections out, as evenly as they go. */
function poolSizes({ poolSize, workers }: ServeOptions): number[] {
  return Array.from({ length: workers }, (_, n) => Math.floor((poolSize + n) / workers));
}

type Report = Exclude<WorkerReport, string>;
type Addresses = Exclude<Report, { error: string }>;

// One place among the workers: a process, and its successor when it dies.
class Place {
  onExit: (reason: Error) => void = () => {};
  #worker: Worker | undefined;
  #serving = false;
  #deaths = 0;
  #stopping = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(
    readonly job: WorkerJob,
    readonly someServe: () => boolean,
    readonly logger: Logger,
  ) {}

  /** Whether its worker takes connections. */
  get serves(): boolean {
    return this.#serving && this.#worker?.isConnected() === true;
  }

  /**
   * Starts the first worker of this place; those that follow start by themselves.
   *
   * @returns where it serves
   */
  async start(): Promise<Addresses> {
    const worker = this.#fork();
    const report = await new Promise<Report>((resolve) => {
      this.#hear(worker, resolve);
      worker.once("exit", (code, signal) =>
        resolve({ error: `a worker has ended before it served (${signal ?? `code ${code}`})` }),
      );
    });
    if ("error" in report) throw new Error(report.error);
    this.#watch(worker);
    return report;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#retry);
    const worker = this.#worker;
    if (!worker || worker.isDead()) return;
    const exited = new Promise((resolve) => worker.once("exit", resolve));
    const impatience = setTimeout(() => this.kill(), this.job.options.graceMs + STOP_PATIENCE_MS);
    if (this.#serving) worker.send(STOP);
    else this.kill();
    await exited;
    clearTimeout(impatience);
  }

  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#retry);
    this.#worker?.process.kill("SIGKILL");
  }

  #fork(): Worker {
    const worker = cluster.fork();
    this.#worker = worker;
    this.#serving = false;
    // A worker that dies while it is told something is heard of by its exit.
    worker.on("error", () => {});
    rescueConnections(worker, this.someServe);
    return worker;
  }

  #hear(worker: Worker, onReport: (report: Report) => void): void {
    worker.on("message", (report: WorkerReport) => {
      if (report === "listening") {
        worker.send(this.job);
      } else if (report !== ALIVE) {
        this.#serving = "address" in report;
        if (this.#serving) this.#ping(worker);
        onReport(report);
      }
    });
  }

  // A worker that stands still keeps its connections and answers nobody.
  #ping(worker: Worker): void {
    // Counted, so that a parent that stood still itself does not blame its workers.
    let unanswered = 0;
    worker.on("message", (report: WorkerReport) => {
      if (report === ALIVE) unanswered = 0;
    });
    const timer = setInterval(() => {
      if (unanswered === MOST_PINGS) {
        const facts = { worker: worker.process.pid, silent_ms: MOST_PINGS * PING_EVERY_MS };
        this.logger.error(facts, "a worker does not answer and is killed");
        worker.process.kill("SIGKILL");
      }
      unanswered++;
      worker.send(PING);
    }, PING_EVERY_MS);
    worker.once("exit", () => clearInterval(timer));
  }

  #watch(worker: Worker): void {
    const born = performance.now();
    worker.once("exit", (code, signal) => {
      if (this.#stopping) return;
      const lived = performance.now() - born;
      this.#deaths = lived < HEALTHY_MS ? this.#deaths + 1 : 1;
      const facts = { worker: worker.process.pid, code, signal };
      if (this.#deaths >= MOST_DEATHS) {
        this.logger.fatal(facts, "a worker has ended again and again");
        const how = signal ?? `code ${code}`;
        this.onExit(
          new Error(`a worker ended ${MOST_DEATHS} times in a row soon after its start (${how})`),
        );
        return;
      }
      const delayMs = Math.min(FIRST_DELAY_MS * 2 ** (this.#deaths - 1), LONGEST_DELAY_MS);
      this.logger.error({ ...facts, delay_ms: delayMs }, "a worker has ended: starting another");
      this.#retry = setTimeout(() => this.#replace(), delayMs);
    });
  }

  #replace(): void {
    const worker = this.#fork();
    this.#hear(worker, (report) => {
      const facts = { worker: worker.process.pid };
      if ("address" in report) this.logger.info(facts, "a worker serves in its place");
      else this.logger.error({ ...facts, reason: report.error }, "it cannot start");
    });
    this.#watch(worker);
  }
}
