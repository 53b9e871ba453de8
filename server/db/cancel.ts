// Asks Postgres to stop the query that a connection is running.
import net from "node:net";
import type { ClientBase } from "pg";

const CANCEL_REQUEST_CODE = 80_877_102;

/** How long Postgres may take to answer a CancelRequest, in milliseconds. */
export const CANCEL_PATIENCE_MS = 5_000;

interface ClientInternals {
  connection: { stream: net.Socket };
  host: string;
  port: number;
  processID: number | null;
  secretKey: number | null;
}

/**
 * Sends a CancelRequest (PostgreSQL documentation, 54.2.9) for whatever the
 * client runs, on a connection of its own. Resolves when it was delivered or
 * could not be; the query then fails with SQLSTATE 57014, if it has not ended.
 * The request may reach Postgres late, so the client must not be used again.
 * Unlike pg_cancel_backend, this needs no free connection and works through
 * PgBouncer.
 */
export function cancelQuery(client: ClientBase): Promise<void> {
  const { host, port, processID, secretKey } = client as unknown as ClientInternals;
  if (processID === null || secretKey === null) return Promise.resolve();
  const request = Buffer.alloc(16);
  request.writeInt32BE(16, 0);
  request.writeInt32BE(CANCEL_REQUEST_CODE, 4);
  request.writeInt32BE(processID, 8);
  request.writeInt32BE(secretKey, 12);
  return new Promise((resolve) => {
    const socket = host.startsWith("/")
      ? net.connect(`${host}/.s.PGSQL.${port}`)
      : net.connect(port, host);
    socket.setTimeout(CANCEL_PATIENCE_MS, () => socket.destroy());
    socket.on("error", () => {});
    socket.on("close", () => resolve());
    // Without an end of our own: Postgres closes when the signal is sent, and PgBouncer 1.18 crashes
    // when a client closes first.
    socket.on("connect", () => socket.write(request));
    socket.resume();
  });
}

/**
 * Breaks a connection without a goodbye, which a peer that has gone silent would never answer.
 * What it runs rejects at once.
 */
export function breakConnection(client: ClientBase): void {
  (client as unknown as ClientInternals).connection.stream.destroy();
}
