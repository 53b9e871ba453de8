// A WebSocket to a server-streaming RPC: frames in order, and how it closed.
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import type { Fault } from "./faults.js";
import { faultOfJson } from "./http.js";
import type { Target } from "./target.js";

/** A frame of the server. */
export interface ServerFrame {
  response?: Record<string, unknown>;
  error?: Record<string, unknown>;
  end?: object;
}

/** All that a call answered. */
export interface SocketAnswer {
  responses: Record<string, unknown>[];
  /** The error, unpacked; undefined for a stream that ended well. */
  fault: Fault | undefined;
  closeCode: number;
}

/** How a socket is opened. */
export interface SocketOptions {
  headers?: Record<string, string>;
}

/** Where to connect. */
export type SocketTarget = Pick<Target, "httpUrl" | "token" | "ca">;

/** An open WebSocket. */
export class Socket {
  readonly closed: Promise<number>;
  readonly #frames: AsyncIterator<[Buffer, boolean]>;

  private constructor(readonly raw: WebSocket) {
    this.closed = once(raw, "close").then(([code]) => code as number);
    raw.on("error", () => {});
    const ended = new AbortController();
    void this.closed.then(() => ended.abort());
    const received: [Buffer, boolean][] = [];
    let wake = () => {};
    raw.on("message", (data: Buffer, isBinary) => {
      received.push([data, isBinary]);
      wake();
    });
    raw.on("close", () => wake());
    this.#frames = (async function* () {
      for (;;) {
        const next = received.shift();
        if (next) yield next;
        else if (ended.signal.aborted || raw.readyState === WebSocket.CLOSED) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    })();
  }

  /**
   * Opens one.
   *
   * @param rpc of AgentStore by its name, or a path
   * @throws Error with the HTTP status when the server refuses
   */
  static async open(
    { httpUrl, token, ca }: SocketTarget,
    rpc: string,
    { headers = {} }: SocketOptions = {},
  ): Promise<Socket> {
    const path = rpc.startsWith("/") ? rpc : `/agentstore.v1.AgentStore/${rpc}`;
    const raw = new WebSocket(httpUrl.replace(/^http/, "ws") + path, {
      headers: { ...(token && { authorization: `Bearer ${token}` }), ...headers },
      ...(ca && { ca }),
    });
    const socket = new Socket(raw);
    await new Promise<void>((resolve, reject) => {
      raw.once("open", resolve);
      raw.once("error", reject);
      raw.once("unexpected-response", (_request, response: IncomingMessage) => {
        response.resume();
        reject(new Error(`HTTP ${response.statusCode}`));
      });
    });
    return socket;
  }

  /** Sends a frame: text or bytes as they are, anything else as JSON. */
  send(frame: unknown): void {
    const isRaw = typeof frame === "string" || Buffer.isBuffer(frame);
    this.raw.send(isRaw ? frame : JSON.stringify(frame));
  }

  /** The next frame; undefined when the socket has closed. */
  async next(): Promise<ServerFrame | undefined> {
    const { done, value } = await this.#frames.next();
    if (done) return undefined;
    const [data, isBinary] = value;
    if (isBinary) throw new Error("a frame of bytes");
    return JSON.parse(data.toString()) as ServerFrame;
  }

  /** Reads to the end. */
  async rest(): Promise<SocketAnswer> {
    const responses: Record<string, unknown>[] = [];
    let fault: Fault | undefined;
    for (let frame = await this.next(); frame; frame = await this.next()) {
      if (frame.response) responses.push(frame.response);
      if (frame.error) fault = faultOfJson(frame.error);
      if (Object.keys(frame).length !== 1) throw new Error("a frame of several keys");
    }
    return { responses, fault, closeCode: await this.closed };
  }
}

/** Makes a whole call. */
export async function streamOver(
  target: SocketTarget,
  rpc: string,
  request: object,
  options: SocketOptions = {},
): Promise<SocketAnswer> {
  const socket = await Socket.open(target, rpc, options);
  socket.send({ start: request });
  return await socket.rest();
}
