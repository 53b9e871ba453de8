// A connection that a test can cut or stall, as networks do, to a server or to its Postgres.
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import {
  type AddressInfo,
  connect,
  createServer,
  type NetConnectOpts,
  type Server,
  type Socket,
} from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A way to a server that passes through the test. */
export interface Proxy {
  /** Where to call instead: HOST:PORT of a server, the connection string of a Postgres. */
  address: string;
  /** How many bytes have come back from there. */
  received(): number;
  /** Breaks all connections without a word of goodbye. */
  cut(): void;
  /** Lets nothing more pass on the connections there are, and leaves them open. */
  stall(): void;
  /** Refuses new connections, as a process that has ended does. */
  refuse(): Promise<void>;
  /** Takes new connections again. */
  accept(): Promise<void>;
  /** Lets a Postgres end each new connection in the very moment in which it is ready, or not. */
  endWhenReady(on: boolean): void;
  /** Cuts and refuses, for good. */
  close(): Promise<void>;
}

/** Opens a way to an AgentStore server at HOST:PORT. */
export async function proxyToServer(target: string): Promise<Proxy> {
  const { hostname, port } = new URL(`tcp://${target}`);
  const relay = new Relay({ host: hostname, port: Number(port) }, { host: "127.0.0.1", port: 0 });
  await relay.accept();
  return relay.toProxy(`127.0.0.1:${relay.port}`, async () => {});
}

/** Opens a way to the Postgres of a connection string, which names a Unix socket. */
export async function proxyToPostgres(databaseUrl: string): Promise<Proxy> {
  const url = new URL(databaseUrl);
  const name = `.s.PGSQL.${url.port}`;
  const directory = await mkdtemp(join(tmpdir(), "proxy-"));
  const relay = new Relay(
    { path: join(url.searchParams.get("host") ?? "", name) },
    { path: join(directory, name) },
  );
  await relay.accept();
  url.searchParams.set("host", directory);
  return relay.toProxy(url.href, () => rm(directory, { recursive: true, force: true }));
}

const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

// What Postgres says when it is shut down.
const FATAL = (() => {
  const fields = ["SFATAL", "VFATAL", "C57P01", "Mterminating connection", "", ""].join("\0");
  const packet = Buffer.from(`E----${fields}`, "latin1");
  packet.writeInt32BE(packet.length - 1, 1);
  return packet;
})();

class Relay {
  endWhenReady = false;
  received = 0;
  readonly #pairs = new Set<[Socket, Socket]>();
  #server: Server | undefined;

  constructor(
    readonly target: NetConnectOpts,
    readonly here: { host: string; port: number } | { path: string },
  ) {}

  get port(): number {
    return (this.#server!.address() as AddressInfo).port;
  }

  toProxy(address: string, cleanUp: () => Promise<void>): Proxy {
    return {
      address,
      received: () => this.received,
      cut: () => this.#cut(),
      stall: () => this.#stall(),
      refuse: () => this.refuse(),
      accept: () => this.accept(),
      endWhenReady: (on) => {
        this.endWhenReady = on;
      },
      close: async () => {
        await this.refuse();
        await cleanUp();
      },
    };
  }

  async accept(): Promise<void> {
    const server = createServer((near) => {
      const far = connect(this.target);
      const pair: [Socket, Socket] = [near, far];
      this.#pairs.add(pair);
      for (const socket of pair) {
        socket.on("error", () => {});
        socket.on("close", () => {
          this.#pairs.delete(pair);
          near.destroy();
          far.destroy();
        });
      }
      far.on("data", (chunk: Buffer) => {
        this.received += chunk.length;
      });
      near.pipe(far);
      if (this.endWhenReady) endWhenReady(near, far);
      else far.pipe(near);
    });
    server.listen(this.here);
    await once(server, "listening");
    this.#server = server;
  }

  async refuse(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    const closed = server && new Promise((resolve) => server.close(resolve));
    this.#cut();
    await closed;
  }

  #cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  #stall(): void {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }
}

function endWhenReady(near: Socket, far: Socket): void {
  far.on("data", (chunk: Buffer) => {
    // In one piece, so that the client reads both at once.
    if (chunk.subarray(-READY.length).equals(READY)) near.end(Buffer.concat([chunk, FATAL]));
    else near.write(chunk);
  });
}
