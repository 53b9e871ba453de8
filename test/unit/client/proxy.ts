// A TCP proxy that a test can cut, or make lose what the server answers.
import { once } from "node:events";
import net from "node:net";

export interface Proxy {
  port: number;
  /** Cuts all connections, as a crash of the server does; the next ones are taken again. */
  cut(): void;
  /** As cut, once so many more bytes have come from the server. */
  cutAfter(bytes: number): void;
  /** While true, what the server sends is lost. What clients send still arrives. */
  losingAnswers: boolean;
  /** Ends for good: nothing listens on the port any more. */
  stop(): void;
}

/** Starts a proxy to a port of this machine. */
export async function startProxy(target: number): Promise<Proxy> {
  const sockets = new Set<net.Socket>();
  let left = Number.POSITIVE_INFINITY;
  const server = net.createServer((inbound) => {
    const outbound = net.connect(target, "127.0.0.1");
    for (const socket of [inbound, outbound]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        inbound.destroy();
        outbound.destroy();
      });
    }
    inbound.pipe(outbound);
    outbound.on("data", (bytes) => {
      if (proxy.losingAnswers) return;
      if (bytes.length >= left) {
        inbound.write(bytes.subarray(0, left), () => proxy.cut());
        left = Number.POSITIVE_INFINITY;
        return;
      }
      left -= bytes.length;
      if (!inbound.write(bytes)) {
        outbound.pause();
        inbound.once("drain", () => outbound.resume());
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy: Proxy = {
    port: (server.address() as net.AddressInfo).port,
    losingAnswers: false,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    cutAfter(bytes) {
      left = bytes;
    },
    stop() {
      server.close();
      proxy.cut();
    },
  };
  return proxy;
}
