// The one place that knows all slices: puts them on a gRPC server over a database.
import { readFileSync } from "node:fs";
import { logVerbosity, Server, ServerCredentials, setLogVerbosity } from "@grpc/grpc-js";
import type { Logger } from "pino";
import { listAuditEvents } from "./audit/list-audit-events.js";
import { AuditSealer } from "./audit/sealer.js";
import { verifyAudit } from "./audit/verify-audit.js";
import { withoutAuthentication, withTokens } from "./auth/tokens.js";
import { ChangeFeed } from "./changes/feed.js";
import { renumberForeignChanges } from "./changes/keep.js";
import { isLoopback, limits, type ServeOptions } from "./config.js";
import { loadContext } from "./context/load-context.js";
import { repairSession } from "./context/repair-session.js";
import { Database } from "./db/database.js";
import { type DatabaseTraits, inspectDatabase } from "./db/inspect.js";
import type { EmbeddingsEndpoint, EndpointOptions } from "./embeddings/endpoint.js";
import { listEmbeddingFailures } from "./embeddings/list-embedding-failures.js";
import { retryEmbeddings } from "./embeddings/retry-embeddings.js";
import { EmbeddingWorker } from "./embeddings/worker.js";
import { eraseOwner } from "./erasure/erase-owner.js";
import { Sweeper } from "./expiry/sweeper.js";
import { forkSession } from "./forks/fork-session.js";
import { type HttpOptions, HttpServer } from "./http/http-server.js";
import { acquireLease } from "./leases/acquire-lease.js";
import { releaseLease } from "./leases/release-lease.js";
import { renewLease } from "./leases/renew-lease.js";
import { addMessage } from "./messages/add-message.js";
import { addMessages } from "./messages/add-messages.js";
import { AppendQueue } from "./messages/append-queue.js";
import { deleteMessage } from "./messages/delete-message.js";
import { getMessage } from "./messages/get-message.js";
import { getMessages } from "./messages/get-messages.js";
import { listMessageVersions } from "./messages/list-message-versions.js";
import { revertMessage } from "./messages/revert-message.js";
import { streamMessages } from "./messages/stream-messages.js";
import { undeleteMessage } from "./messages/undelete-message.js";
import { updateMessage } from "./messages/update-message.js";
import { getModelPolicy } from "./policies/get-model-policy.js";
import { updateModelPolicy } from "./policies/update-model-policy.js";
import { addServices } from "./rpc/adapter.js";
import { CallsInFlight } from "./rpc/calls-in-flight.js";
import { addHealth } from "./rpc/health.js";
import type { AdminRpcs, Rpcs } from "./rpc/method.js";
import { allMethods } from "./rpc/methods.js";
import { oneMessage } from "./rpc/one-message.js";
import { addReflection } from "./rpc/reflection.js";
import { getSearchStatus } from "./search/get-search-status.js";
import { SearchIndexer } from "./search/indexer.js";
import { searchMessages } from "./search/search-messages.js";
import { createSession } from "./sessions/create-session.js";
import { deleteSession } from "./sessions/delete-session.js";
import { getSession } from "./sessions/get-session.js";
import { getSessionStats } from "./sessions/get-session-stats.js";
import { listSessions } from "./sessions/list-sessions.js";
import { listTags } from "./sessions/list-tags.js";
import { updateSession } from "./sessions/update-session.js";
import { createSnapshot } from "./snapshots/create-snapshot.js";
import { deleteSnapshot } from "./snapshots/delete-snapshot.js";
import { getSnapshot } from "./snapshots/get-snapshot.js";
import { listSnapshots } from "./snapshots/list-snapshots.js";
import { PolicySnapshots } from "./snapshots/policy-snapshots.js";
import { restoreSnapshot } from "./snapshots/restore-snapshot.js";
import { getState } from "./state/get-state.js";
import { updateState } from "./state/update-state.js";
import { exportSessions } from "./transfer/export-sessions.js";
import { importSessions } from "./transfer/import-sessions.js";
import { watchSession } from "./watch/watch-session.js";
import { watchSessions } from "./watch/watch-sessions.js";
import { Watches } from "./watch/watches.js";

/** How long calls that outlast the grace period have to hear why they end, in milliseconds. */
const LAST_WORD_MS = 1_000;

/** For the sealer, the sweeper, the snapshots of policies and the indexer of search. */
const BACKGROUND_CONNECTIONS = 3;

/** For the change log, for the events of sessions, and to wake other servers. */
const WATCH_CONNECTIONS = 3;

/** For the worker that embeds: one for its queue and index, one for its batches. */
const EMBEDDING_CONNECTIONS = 2;

const rpcs: Rpcs = {
  createSession,
  getSession,
  updateSession,
  listSessions,
  listTags,
  deleteSession,
  addMessage,
  addMessages,
  getMessage,
  getMessages,
  streamMessages,
  updateMessage,
  deleteMessage,
  undeleteMessage,
  revertMessage,
  listMessageVersions,
  forkSession,
  createSnapshot,
  listSnapshots,
  getSnapshot,
  restoreSnapshot,
  deleteSnapshot,
  searchMessages,
  getSessionStats,
  acquireLease,
  renewLease,
  releaseLease,
  loadContext,
  repairSession,
  exportSessions,
  importSessions,
  getState,
  updateState,
  watchSession,
  watchSessions,
};

const adminRpcs: AdminRpcs = {
  listAuditEvents,
  verifyAudit,
  getModelPolicy,
  updateModelPolicy,
  eraseOwner,
  getSearchStatus,
  listEmbeddingFailures,
  retryEmbeddings,
};

/** What an app needs of the options. */
export type AppOptions = Pick<
  ServeOptions,
  | "host"
  | "port"
  | "httpPort"
  | "allowOrigins"
  | "tlsCert"
  | "tlsKey"
  | "tokensFile"
  | "poolSize"
  | "maxMessageBytes"
  | "auditAppends"
  | "graceMs"
  | "sweepMs"
  | "embeddings"
>;

/** A serving app. */
export interface App {
  /** Where it serves gRPC, for example `127.0.0.1:50051`. */
  address: string;
  /** Where it serves HTTP, in the same form; absent when it does not. */
  httpAddress?: string | undefined;
  /**
   * Goes NOT_SERVING, ends streams, lets calls in flight finish within the grace
   * period and closes the pool.
   */
  shutDown(): Promise<void>;
}

/**
 * Serves the API over a database whose schema is current.
 *
 * @param known what the database is like, where that has been found out before
 * @throws Error when the address cannot be bound or a file cannot be read
 */
export async function startApp(
  databaseUrl: string,
  options: AppOptions,
  logger: Logger,
  known?: DatabaseTraits,
): Promise<App> {
  // grpc-js writes metadata that it cannot read to stderr, credentials included.
  setLogVerbosity(logVerbosity.NONE);
  const authenticate = options.tokensFile ? withTokens(options.tokensFile) : withoutAuthentication;
  const credentials = serverCredentials(options);
  const connecting = {
    onIdleError: (error: Error) => logger.warn({ err: error }, "an idle database connection broke"),
    ...(known ?? (await inspectDatabase(databaseUrl, logger))),
  };
  // What watches wait for is read aside, too.
  const watching = new Database(databaseUrl, {
    ...connecting,
    poolSize: WATCH_CONNECTIONS,
    name: "agentstore watch",
  });
  const feed = new ChangeFeed(watching, logger, !connecting.pooled);
  const onSignal = () => feed.changed();
  const db = new Database(databaseUrl, { ...connecting, onSignal, poolSize: options.poolSize });
  // What the server does by itself takes no connection, and no place in the queue, from callers.
  const background = new Database(databaseUrl, {
    ...connecting,
    onSignal,
    poolSize: BACKGROUND_CONNECTIONS,
    name: "agentstore background",
  });
  const server = new Server({
    interceptors: [oneMessage],
    "grpc.max_receive_message_length": limits.requestBytes,
    "grpc.max_send_message_length": -1,
    // A peer that is gone without a word must not hold a stream for ever.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    // Counts and traces for a service that is not offered.
    "grpc.enable_channelz": 0,
    "grpc.max_concurrent_streams": limits.waitingCalls,
  });
  const embeddings = options.embeddings && (await connectEndpoint(options.embeddings));
  const embedder =
    embeddings &&
    new EmbeddingWorker(
      new Database(databaseUrl, {
        ...connecting,
        poolSize: EMBEDDING_CONNECTIONS,
        name: "agentstore embeddings",
      }),
      embeddings,
      logger,
    );
  const audit = new AuditSealer(background, logger);
  const snapshots = new PolicySnapshots(background, logger);
  const watches = new Watches(watching, feed, logger);
  const environment = {
    db,
    appends: new AppendQueue(db, {
      audited: options.auditAppends,
      onAppended: (plan) => watches.appended(plan),
    }),
    audit,
    snapshots,
    watches,
    embeddings,
    limits: { ...limits, messageBytes: options.maxMessageBytes },
  };
  const methods = allMethods({ store: rpcs, admin: adminRpcs }, { logger, authenticate });
  const calls = new CallsInFlight();
  addServices(server, methods, environment, calls);
  const indexer = new SearchIndexer(background, logger);
  const sweeper = new Sweeper(background, logger, options.sweepMs);
  const health = addHealth(server, databaseUrl, logger);
  addReflection(server);
  const web =
    options.httpPort === undefined
      ? undefined
      : new HttpServer(httpOptions(options, options.httpPort), {
          methods,
          environment,
          calls,
          authenticate,
          health,
          logger,
        });
  const shutDown = async () => {
    await health.shutDown();
    calls.drain();
    const finished = Promise.all([
      new Promise<void>((resolve) => server.tryShutdown(() => resolve())),
      web?.close(),
    ]);
    let lastWord: NodeJS.Timeout | undefined;
    const grace = setTimeout(() => {
      calls.abort();
      // Those that read are told so; those that do not are cut off.
      lastWord = setTimeout(() => {
        server.forceShutdown();
        web?.cut();
      }, LAST_WORD_MS);
    }, options.graceMs);
    await finished;
    clearTimeout(grace);
    clearTimeout(lastWord);
    calls.close();
    await indexer.stop();
    await sweeper.stop();
    await snapshots.stop();
    await audit.stop();
    await embedder?.stop();
    await Promise.all([db.close(), background.close(), watching.close(), embedder?.db.close()]);
  };
  try {
    // Before the first change is written. A database that is not there yet is looked at by the sweeps.
    await renumberForeignChanges(background, AbortSignal.timeout(limits.callMs)).catch(
      (error: unknown) => logger.warn({ err: error }, "the change log could not be looked at"),
    );
    const { host } = options;
    const port = await bind(server, host, options.port, credentials);
    const httpPort = await web?.listen();
    audit.start();
    sweeper.start();
    embedder?.start();
    indexer.start();
    return {
      address: join(host, port),
      httpAddress: httpPort === undefined ? undefined : join(host, httpPort),
      shutDown,
    };
  } catch (error) {
    await shutDown();
    throw error;
  }
}

// Loaded where it is used only: the client of the endpoint takes its time.
async function connectEndpoint(options: EndpointOptions): Promise<EmbeddingsEndpoint> {
  const { EmbeddingsEndpoint } = await import("./embeddings/endpoint.js");
  return new EmbeddingsEndpoint(options);
}

function httpOptions({ host, tlsCert, tlsKey, ...rest }: AppOptions, port: number): HttpOptions {
  const { allowOrigins = [], tokensFile } = rest;
  const localOnly = isLoopback(host) && !tokensFile;
  return { host, port, tlsCert, tlsKey, allowOrigins, localOnly };
}

function serverCredentials({ tlsCert, tlsKey }: AppOptions): ServerCredentials {
  if (!tlsCert || !tlsKey) return ServerCredentials.createInsecure();
  return ServerCredentials.createSsl(null, [
    { cert_chain: readFileSync(tlsCert), private_key: readFileSync(tlsKey) },
  ]);
}

function bind(
  server: Server,
  host: string,
  port: number,
  credentials: ServerCredentials,
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(join(host, port), credentials, (error, bound) => {
      if (!error) resolve(bound);
      else reject(new Error(`cannot serve on ${join(host, port)}: ${error.message}`));
    });
  });
}

function join(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
