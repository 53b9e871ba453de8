// Says which server the suite talks to: the one that the environment names, else one of its own.
import { readFileSync } from "node:fs";
import type { RawTarget } from "../harness/raw-grpc.js";

/** A server to test, known by its address alone. */
export interface Target extends RawTarget {
  /** Where it serves HTTP, for example `http://127.0.0.1:50052`. */
  httpUrl: string;
  /** Stops the server, if the suite has started it. */
  stop(): Promise<void>;
}

/**
 * Returns the server under test.
 *
 * AGENTSTORE_E2E_ADDRESS (`host:port`) names a running one and
 * AGENTSTORE_E2E_HTTP_URL its HTTP, without which those tests fail;
 * AGENTSTORE_E2E_TOKEN is the token to call it with and AGENTSTORE_E2E_CA a PEM
 * file with the certificate authority of its TLS. Without an address, a server is
 * started over a database of its own.
 */
export async function findTarget(): Promise<Target> {
  const { AGENTSTORE_E2E_ADDRESS, AGENTSTORE_E2E_HTTP_URL } = process.env;
  const { AGENTSTORE_E2E_TOKEN, AGENTSTORE_E2E_CA } = process.env;
  if (AGENTSTORE_E2E_ADDRESS) {
    return {
      address: AGENTSTORE_E2E_ADDRESS,
      httpUrl: AGENTSTORE_E2E_HTTP_URL ?? "",
      token: AGENTSTORE_E2E_TOKEN || undefined,
      ca: AGENTSTORE_E2E_CA ? readFileSync(AGENTSTORE_E2E_CA) : undefined,
      stop: async () => {},
    };
  }
  // The only way into the server's code, and not taken when there is an address.
  const { startServer } = await import("../harness/server.js");
  const server = await startServer({ httpPort: 0 });
  return { address: server.address, httpUrl: server.httpUrl, stop: () => server.stop() };
}
