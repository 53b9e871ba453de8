// grpc.health.v1.Health, following the database: NOT_SERVING while Postgres is away.
import type { handleServerStreamingCall, Server, ServerWritableStream } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import pg from "pg";
import type { Logger } from "pino";
import { breakConnection } from "../db/cancel.js";

const CHECK_EVERY_MS = 1_000;
const CHECK_TIMEOUT_MS = 3_000;
const SERVICES = ["", "agentstore.v1.AgentStore", "agentstore.v1.AgentStoreAdmin"];

/** The health of one server. */
export interface Health {
  /** Whether it is SERVING now. */
  readonly isServing: boolean;
  /** Says NOT_SERVING from now on, whatever the database does, and ends all watches. */
  shutDown(): Promise<void>;
}

/**
 * Adds the health service to a server and follows the database, which is
 * expected to be reachable when this is called.
 *
 * @param databaseUrl what to watch; over a connection of its own, so that a busy
 *   pool does not look like a dead database
 */
export function addHealth(server: Server, databaseUrl: string, logger: Logger): Health {
  const implementation = new HealthImplementation();
  const watches = new Set<ServerWritableStream<unknown, unknown>>();
  // The package never ends a watch, and a server that is shutting down waits for all streams.
  implementation.addToServer({
    addService(definition, handlers) {
      const handle = handlers.watch as handleServerStreamingCall<unknown, unknown>;
      const watch = (call: ServerWritableStream<unknown, unknown>) => {
        watches.add(call);
        call.on("cancelled", () => watches.delete(call));
        handle(call);
      };
      server.addService(definition, { ...handlers, watch });
    },
  });
  let serving: boolean | undefined;
  const set = (next: boolean) => {
    if (next === serving) return;
    serving = next;
    for (const service of SERVICES) {
      implementation.setStatus(service, next ? "SERVING" : "NOT_SERVING");
    }
  };
  set(true);

  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let checking: Promise<void> = Promise.resolve();

  const check = async () => {
    try {
      if (!client) {
        client = new pg.Client({
          connectionString: databaseUrl,
          connectionTimeoutMillis: CHECK_TIMEOUT_MS,
          query_timeout: CHECK_TIMEOUT_MS,
          application_name: "agentstore health",
        });
        // A broken connection shows in the next check.
        client.on("error", () => {});
        await client.connect();
      }
      await client.query("SELECT 1");
      if (serving === false && !stopped) logger.info("the database is back: serving again");
      if (!stopped) set(true);
    } catch (error) {
      void client?.end().catch(() => {});
      client = undefined;
      if (serving && !stopped) {
        const code = error instanceof Error && "code" in error ? error.code : undefined;
        logger.error({ code }, "the database cannot be reached: NOT_SERVING until it is back");
      }
      set(false);
    }
    if (!stopped) timer = setTimeout(() => void (checking = check()), CHECK_EVERY_MS);
  };
  checking = check();

  return {
    get isServing() {
      return serving === true;
    },
    async shutDown() {
      stopped = true;
      set(false);
      for (const watch of watches) watch.end();
      clearTimeout(timer);
      await checking;
      if (client) breakConnection(client);
    },
  };
}
