// `agentstore serve`: runs the server.
import { Command, InvalidArgumentError, Option } from "commander";
import type { EndpointOptions } from "../../server/embeddings/endpoint.js";
import { UsageError } from "../errors.js";
import { integer, modelName, required } from "../options.js";
import { addDatabaseOptions, chooseDatabase, type DatabaseFlags } from "./database-options.js";

interface ServeFlags extends DatabaseFlags {
  host: string;
  port: number;
  httpPort: number;
  http: boolean;
  allowOrigin: string[];
  migrate: boolean;
  tlsCert?: string;
  tlsKey?: string;
  tokens?: string;
  insecure?: boolean;
  workers: number;
  poolSize: number;
  maxMessageBytes: number;
  auditAppends?: boolean;
  graceSeconds: number;
  sweepSeconds: number;
  embeddingsUrl?: string;
  embeddingsModel?: string;
  embeddingsDimensions?: number;
  logLevel: string;
}

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];
const KIB = 1024;
const MIB = 1024 * KIB;

/** Defines the command. */
export function serveCommand(): Command {
  const command = new Command("serve")
    .summary("run the server")
    .description(
      "Serves gRPC over a Postgres database: the one of --database-url, or one of its own that it " +
        "keeps in --data-dir. Stops cleanly on SIGTERM and Ctrl-C.",
    )
    .option("--host <address>", "the address to serve on", required, "127.0.0.1")
    .option("--port <number>", "the port to serve on; 0 picks a free one", integer(0, 65535), 50051)
    .option(
      "--http-port <number>",
      "the port for HTTP and WebSockets; 0 picks a free one",
      integer(0, 65535),
      50052,
    )
    .option("--no-http", "serve gRPC alone")
    .addOption(
      new Option(
        "--allow-origin <origin>",
        "an origin such as https://app.example whose pages may call over HTTP; may be repeated",
      )
        .argParser(addOrigin)
        .default([], "none"),
    );
  return addDatabaseOptions(command)
    .option("--no-migrate", "refuse to start on an old schema instead of migrating it")
    .option("--tls-cert <file>", "PEM file of the certificate chain; turns TLS on", required)
    .option("--tls-key <file>", "PEM file of the certificate's key", required)
    .addOption(
      new Option(
        "--tokens <file>",
        "file of accepted tokens, lines of TENANT PRINCIPAL SHA256 [admin]; turns authentication on",
      )
        .env("AGENTSTORE_TOKENS_FILE")
        .argParser(required),
    )
    .option("--insecure", "permit other addresses than loopback without TLS and authentication")
    .option("--workers <number>", "processes that serve, 1 to 256", integer(1, 256), 1)
    .option("--pool-size <number>", "connections to Postgres, 1 to 1000", integer(1, 1000), 16)
    .option(
      "--max-message-bytes <number>",
      "the largest message to accept, encoded, 1 KiB to 64 MiB",
      integer(KIB, 64 * MIB),
      4 * MIB,
    )
    .option("--audit-appends", "record appends in the audit log too; a second write for each")
    .option(
      "--grace-seconds <number>",
      "how long calls may take to finish when the server stops, 0 to 3600",
      integer(0, 3600),
      10,
    )
    .option(
      "--sweep-seconds <number>",
      "how often to remove what has expired, 0 to 86400; 0 leaves that to other servers",
      integer(0, 86_400),
      60,
    )
    .addOption(
      new Option(
        "--embeddings-url <url>",
        "an OpenAI-compatible API that embeds messages, for search by meaning; with " +
          "--embeddings-model",
      )
        .env("AGENTSTORE_EMBEDDINGS_URL")
        .argParser(httpUrl),
    )
    .addOption(
      new Option("--embeddings-model <name>", "the model that embeds, as that API calls it")
        .env("AGENTSTORE_EMBEDDINGS_MODEL")
        .argParser(modelName),
    )
    .option(
      "--embeddings-dimensions <number>",
      "how many numbers to ask the model for, 1 to 4000; as many as it has by default",
      integer(1, 4000),
    )
    .addOption(
      new Option("--log-level <level>", "what to log, as JSON on stderr")
        .choices(LOG_LEVELS)
        .default("info"),
    )
    .addHelpText(
      "after",
      `
Examples:
  agentstore serve                                    with a Postgres of its own
  agentstore serve --database-url postgres://app@db/agents --port 8443 \\
    --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --tokens tokens.txt

Environment:
  DATABASE_URL            as --database-url
  AGENTSTORE_TOKENS_FILE  as --tokens
  AGENTSTORE_EMBEDDINGS_URL, AGENTSTORE_EMBEDDINGS_MODEL
                          as --embeddings-url and --embeddings-model
  AGENTSTORE_EMBEDDINGS_KEY
                          the API key of --embeddings-url, if it wants one`,
    )
    .action(async (flags: ServeFlags) => {
      if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) {
        throw new UsageError("--tls-cert and --tls-key are needed together");
      }
      if (flags.workers > flags.poolSize) {
        throw new UsageError(
          `--workers ${flags.workers} share the connections of --pool-size ${flags.poolSize}: ` +
            "each needs one at least",
        );
      }
      if ((flags.embeddingsUrl === undefined) !== (flags.embeddingsModel === undefined)) {
        throw new UsageError("--embeddings-url and --embeddings-model are needed together");
      }
      const { serve } = await import("../../server/main.js");
      await serve({
        host: flags.host,
        port: flags.port,
        httpPort: flags.http ? flags.httpPort : undefined,
        allowOrigins: flags.allowOrigin,
        ...chooseDatabase(flags),
        migrate: flags.migrate,
        tlsCert: flags.tlsCert,
        tlsKey: flags.tlsKey,
        tokensFile: flags.tokens,
        insecure: flags.insecure ?? false,
        workers: flags.workers,
        poolSize: flags.poolSize,
        maxMessageBytes: flags.maxMessageBytes,
        auditAppends: flags.auditAppends ?? false,
        graceMs: flags.graceSeconds * 1000,
        sweepMs: flags.sweepSeconds * 1000,
        embeddings: endpointOf(flags),
        logLevel: flags.logLevel,
      });
    });
}

// The key comes from the environment alone: other users see a process's arguments.
function endpointOf(flags: ServeFlags): EndpointOptions | undefined {
  const { embeddingsUrl: url, embeddingsModel: model, embeddingsDimensions: dimensions } = flags;
  if (url === undefined || model === undefined) return undefined;
  return { url, model, dimensions, apiKey: process.env.AGENTSTORE_EMBEDDINGS_KEY || undefined };
}

function httpUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== "https:" && url?.protocol !== "http:") {
    throw new InvalidArgumentError("It must be a URL such as https://api.openai.com/v1.");
  }
  // They would reach the log with the URL.
  if (url.username || url.password) {
    throw new InvalidArgumentError("It must hold no password: set AGENTSTORE_EMBEDDINGS_KEY.");
  }
  return text;
}

function addOrigin(text: string, before: string[]): string[] {
  const isOrigin = URL.canParse(text) && new URL(text).origin === text;
  if (!isOrigin) throw new InvalidArgumentError("It has to be like https://app.example.");
  return [...before, text];
}
