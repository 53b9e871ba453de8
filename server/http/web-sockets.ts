// WebSockets: one server-streaming call each.
import type http from "node:http";
import { type IncomingMessage, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { Logger } from "pino";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import { RpcError, shuttingDown } from "../errors/rpc-error.js";
import type { CallsInFlight } from "../rpc/calls-in-flight.js";
import type { CallEnvironment } from "../rpc/served-call.js";
import type { Endpoint } from "./endpoint.js";
import { readCancel, readStart, type Start } from "./frames.js";
import type { Origins } from "./origins.js";
import { Refusal, toRefusal } from "./refusal.js";
import { SocketCall } from "./socket-call.js";

/** What WebSockets are served with. */
export interface WebSocketContext {
  origins: Origins;
  environment: CallEnvironment;
  calls: CallsInFlight;
  logger: Logger;
  /** @throws Refusal for what no RPC is at */
  find(request: IncomingMessage): Endpoint;
}

/** The WebSockets of one server. */
export class WebSockets {
  readonly #context: WebSocketContext;
  readonly #server: WebSocketServer;
  readonly #open = new Set<OpenSocket>();
  readonly #heart: NodeJS.Timeout;
  #stopping = false;

  constructor(server: http.Server, context: WebSocketContext) {
    const { limits } = context.environment;
    this.#context = context;
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: limits.socketFrameBytes,
      // Its memory for each socket is larger than all else that a socket takes.
      perMessageDeflate: false,
    });
    server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on("error", () => socket.destroy());
      try {
        const endpoint = this.#admit(request);
        this.#server.handleUpgrade(request, socket, head, (opened) => {
          this.#serve(endpoint, opened, request);
        });
      } catch (error) {
        refuse(socket, toRefusal(error, context.logger));
      }
    });
    this.#heart = setInterval(() => {
      for (const each of this.#open) each.beat();
    }, limits.socketPingMs);
    this.#heart.unref();
  }

  /** Opens no more; those on which a call runs close when it has ended. */
  close(): void {
    this.#stopping = true;
    clearInterval(this.#heart);
    for (const each of this.#open) each.stop();
  }

  /** Cuts all off. */
  cut(): void {
    for (const { socket } of this.#open) socket.terminate();
  }

  #admit(request: IncomingMessage): Endpoint {
    const { origins, environment } = this.#context;
    origins.checkHost(request);
    if (request.headers.upgrade?.toLowerCase() !== "websocket") {
      throw new Refusal(
        400,
        "invalid_argument",
        "a connection is upgraded to WebSocket alone here",
      );
    }
    const endpoint = this.#context.find(request);
    const { methodKind, name } = endpoint.descriptor;
    if (methodKind !== "server_streaming") {
      throw new Refusal(501, "unimplemented", `${name} does not stream: call it by POST or gRPC`);
    }
    if (!origins.mayConnect(request)) {
      throw new Refusal(403, "permission_denied", "pages of this origin may not connect");
    }
    if (this.#stopping) throw new Refusal(503, "unavailable", "the server is shutting down");
    if (this.#open.size >= environment.limits.webSockets) {
      throw new Refusal(503, "unavailable", "the server has as many WebSockets as it takes");
    }
    return endpoint;
  }

  #serve(endpoint: Endpoint, socket: WebSocket, request: IncomingMessage): void {
    const { environment, calls } = this.#context;
    const opened = new OpenSocket(socket, environment.limits.socketStartMs, (start) => {
      const call = new SocketCall(endpoint, socket, request, start, environment);
      calls.run(endpoint.method, call);
      return call;
    });
    this.#open.add(opened);
    socket.on("close", () => this.#open.delete(opened));
  }
}

// A socket with its call, from the frame that starts it.
class OpenSocket {
  readonly #run: (start: Start | RpcError) => SocketCall;
  readonly #patience: NodeJS.Timeout;
  #call: SocketCall | undefined;
  #isAlive = true;

  constructor(
    readonly socket: WebSocket,
    startMs: number,
    run: (start: Start | RpcError) => SocketCall,
  ) {
    this.#run = run;
    this.#patience = setTimeout(() => {
      const text = `no frame with start came within ${startMs / 1000} s`;
      this.#begin(new RpcError("DEADLINE_EXCEEDED", text));
    }, startMs);
    socket.on("message", (data, isBinary) => this.#receive(data, isBinary));
    socket.on("pong", () => {
      this.#isAlive = true;
    });
    // Of frames that are none of WebSocket's; the socket closes then.
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(this.#patience);
      this.#call?.abort(new RpcError("CANCELLED", "the caller closed the WebSocket"));
    });
  }

  /** Ends it, unless there is a call that ends it. */
  stop(): void {
    if (!this.#call) this.#begin(shuttingDown());
  }

  /** Asks for a sign of life; cuts off who has not given one since the last time. */
  beat(): void {
    if (!this.#isAlive) {
      this.socket.terminate();
      return;
    }
    this.#isAlive = false;
    this.socket.ping();
  }

  #begin(start: Start | RpcError): void {
    clearTimeout(this.#patience);
    this.#call = this.#run(start);
  }

  #receive(data: RawData, isBinary: boolean): void {
    this.#isAlive = true;
    try {
      if (!this.#call) {
        this.#begin(readStart(data, isBinary));
        return;
      }
      readCancel(data, isBinary);
      this.#call.abort(new RpcError("CANCELLED", "the caller cancelled the call"));
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      if (this.#call) this.#call.abort(error);
      else this.#begin(error);
    }
  }
}

function refuse(socket: Duplex, { httpStatus, headers, body }: Refusal): void {
  const lines = [
    `HTTP/1.1 ${httpStatus} ${STATUS_CODES[httpStatus]}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
}
