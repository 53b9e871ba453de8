// Other ways to the tests' Postgres, which listens on a Unix socket alone.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { projectRoot } from "../../server/paths.js";

/** A way to a Postgres that ends in this process. */
export interface Way {
  /** The connection string of the same database by this way. */
  url: string;
  /** Breaks all connections, wherever they stand. */
  cut(): void;
  close(): Promise<void>;
}

// What a client of Postgres sends before TLS begins.
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const tlsFile = (name: string) => readFileSync(join(projectRoot, "test/fixtures/tls", name));

/** Opens a way over TCP, on which what Postgres sends arrives in pieces of any size. */
export function overTcp(databaseUrl: string): Promise<Way> {
  return open(databaseUrl, "disable", (near, far) => {
    near.setNoDelay();
    near.pipe(far);
    inPieces(far, near);
  });
}

/** Opens a way over TLS. */
export function overTls(databaseUrl: string): Promise<Way> {
  const key = tlsFile("key.pem");
  const cert = tlsFile("cert.pem");
  return open(databaseUrl, "no-verify", (near, far) => {
    near.once("data", (asked: Buffer) => {
      // A request to cancel comes as it is.
      if (!asked.equals(SSL_REQUEST)) {
        far.end(asked);
        return;
      }
      near.write("S");
      const secured = new TLSSocket(near, { isServer: true, key, cert });
      secured.on("error", () => {});
      secured.pipe(far);
      far.pipe(secured);
    });
  });
}

async function open(
  databaseUrl: string,
  sslmode: string,
  join: (near: Socket, far: Socket) => void,
): Promise<Way> {
  const url = new URL(databaseUrl);
  const path = `${url.searchParams.get("host")}/.s.PGSQL.${url.port}`;
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(path);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    join(near, far);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url.searchParams.delete("host");
  url.searchParams.set("sslmode", sslmode);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  const cut = () => sockets.forEach((socket) => void socket.destroy());
  return {
    url: url.href,
    cut,
    async close() {
      const closed = once(server, "close");
      server.close();
      cut();
      await closed;
    },
  };
}

// Passes bytes on in pieces of 1 to 5,000 bytes, most of which are short.
function inPieces(from: Socket, to: Duplex): void {
  from.on("data", (chunk: Buffer) => {
    let at = 0;
    while (at < chunk.length) {
      const end = at + 1 + Math.floor(5_000 * Math.random() ** 4);
      to.write(chunk.subarray(at, end));
      at = end;
    }
    if (to.writableNeedDrain) {
      from.pause();
      to.once("drain", () => from.resume());
    }
  });
  from.on("end", () => to.end());
}
