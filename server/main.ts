// `agentstore serve` and `agentstore migrate`: from options to a running process.
import path from "node:path";
import type { Logger } from "pino";
import { type App, startApp } from "./app.js";
import { isLoopback, type ServeOptions } from "./config.js";
import { describeDatabase } from "./db/describe.js";
import { defaultDataDir, startEmbeddedPostgres } from "./db/embedded.js";
import { checkSchema, migrate } from "./db/migrations.js";
import { tuneHeap } from "./heap.js";
import { makeLogger } from "./log.js";

/** Where the tables are: what serve and migrate have in common. */
export type DatabaseOptions = Pick<ServeOptions, "databaseUrl" | "dataDir" | "logLevel">;

interface OpenDatabase {
  url: string;
  /** For people, for example "PostgreSQL 18.4, embedded, in ./agentstore-data". */
  description: string;
  stop(): Promise<void>;
  /** Stops at once, without waiting. */
  kill(): void;
  /** Hears that the database is gone for good. */
  onExit(listener: (reason: Error) => void): void;
}

/**
 * Serves until a signal ends it. Resolves when all is closed; a second signal
 * ends the process at once.
 *
 * @throws Error with a message for the operator, when it cannot start
 */
export async function serve(options: ServeOptions): Promise<void> {
  assertSafe(options);
  tuneHeap();
  const severalProcesses = options.workers > 1;
  const logger = makeLogger(options.logLevel, severalProcesses ? { pid: process.pid } : null);
  const opened: { kill(): void }[] = [];
  const stopped = stopSignal(logger, () => {
    for (const part of opened) part.kill();
  });
  const database = await openDatabase(options, logger);
  opened.push(database);
  let app: App | undefined;
  try {
    if (options.migrate) await migrate(database.url, { log: logger });
    else await checkSchema(database.url);
    if (!stopped.signal.aborted) {
      if (severalProcesses) {
        const { startWorkers } = await import("./workers.js");
        const workers = await startWorkers(database.url, options, logger);
        opened.unshift(workers);
        workers.onExit((reason) => stopped.abort(reason));
        app = workers;
      } else {
        app = await startApp(database.url, options, logger);
      }
      process.stdout.write(banner(app, database, options));
      logger.info({ address: app.address, http_address: app.httpAddress }, "serving");
      database.onExit((reason) => stopped.abort(reason));
      await aborted(stopped.signal);
    }
  } finally {
    await app?.shutDown();
    await database.stop();
  }
  logger.info("stopped");
  // A signal is an orderly end; anything else is told to whoever started us.
  if (stopped.signal.reason instanceof Error) throw stopped.signal.reason;
}

/**
 * Brings the schema up to date.
 *
 * @returns the schema's version before and after
 */
export async function runMigrate(options: DatabaseOptions): Promise<{ from: number; to: number }> {
  const logger = makeLogger(options.logLevel);
  const database = await openDatabase(options, logger);
  try {
    return await migrate(database.url, { log: logger });
  } finally {
    await database.stop();
  }
}

async function openDatabase(
  { databaseUrl, dataDir = defaultDataDir() }: DatabaseOptions,
  logger: Logger,
): Promise<OpenDatabase> {
  if (databaseUrl) {
    const description = await describeDatabase(databaseUrl);
    return { url: databaseUrl, description, stop: async () => {}, kill() {}, onExit() {} };
  }
  const embedded = await startEmbeddedPostgres({ dataDir, log: logger });
  const shown = path.relative(process.cwd(), embedded.dataDir);
  const place = shown.startsWith("..") ? embedded.dataDir : `./${shown}`;
  return {
    url: embedded.url,
    description: `PostgreSQL ${embedded.version}, embedded, in ${place}`,
    stop: () => embedded.stop(),
    kill() {
      const pid = embedded.pid();
      if (pid !== undefined) process.kill(pid, "SIGQUIT");
    },
    onExit: (listener) => embedded.onExit(listener),
  };
}

function assertSafe({ host, insecure, tlsCert, tlsKey, tokensFile }: ServeOptions): void {
  if (Boolean(tlsCert) !== Boolean(tlsKey)) {
    throw new Error("--tls-cert and --tls-key go together: give both or none");
  }
  if (isLoopback(host) || insecure || (tlsCert && tokensFile)) return;
  const missing = [tlsCert ? "" : "TLS", tokensFile ? "" : "authentication"].filter(Boolean);
  throw new Error(
    `--host ${host} lets other machines in without ${missing.join(" and ")}: ` +
      "give --tls-cert, --tls-key and --tokens, or say --insecure if the network is trusted",
  );
}

// The first signal asks for an orderly end, the second one ends the process.
function stopSignal(logger: Logger, beforeExit: () => void): AbortController {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) {
        beforeExit();
        process.exit(130);
      }
      logger.info({ signal }, "stopping; a second signal stops at once");
      controller.abort(signal);
    });
  }
  return controller;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function banner(app: App, database: OpenDatabase, { tlsCert, tokensFile }: ServeOptions): string {
  const transport = tlsCert ? "" : "--http2-prior-knowledge ";
  const token = tokensFile ? `-H "authorization: Bearer $AGENTSTORE_TOKEN" ` : "";
  const scheme = tlsCert ? "https" : "http";
  const url = `${scheme}://${app.address}/agentstore.v1.AgentStore/CreateSession`;
  return [
    `AgentStore serves gRPC on ${app.address}`,
    ...(app.httpAddress ? [`  http       ${scheme}://${app.httpAddress}`] : []),
    `  database   ${database.description}`,
    `  try it     npx buf curl --protocol grpc ${transport}${token}\\`,
    `               -d '{"modelId":"gpt-4"}' ${url}`,
    "  stop       Ctrl-C",
    "",
  ].join("\n");
}
