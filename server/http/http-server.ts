// Serves the RPCs over HTTP/1.1, by the Connect protocol.
import { readFileSync } from "node:fs";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import type { Authenticate } from "../auth/tokens.js";
import { RpcError } from "../errors/rpc-error.js";
import type { CallsInFlight } from "../rpc/calls-in-flight.js";
import type { Health } from "../rpc/health.js";
import type { Method } from "../rpc/methods.js";
import type { CallEnvironment } from "../rpc/served-call.js";
import { type Endpoint, endpointsOf } from "./endpoint.js";
import { HttpCall } from "./http-call.js";
import { Origins } from "./origins.js";
import { Refusal, toRefusal } from "./refusal.js";
import { BodyMemory, formOf, type RequestForm, readMessage } from "./request.js";
import { WebSockets } from "./web-sockets.js";

/** Where and for whom to serve. */
export interface HttpOptions {
  host: string;
  /** 0 picks a free one. */
  port: number;
  tlsCert?: string | undefined;
  tlsKey?: string | undefined;
  /** Origins whose pages may call. */
  allowOrigins: string[];
  /** Whether to be called by names of this machine only. */
  localOnly: boolean;
}

/** What it serves with. */
export interface HttpContext {
  methods: Method[];
  environment: CallEnvironment;
  calls: CallsInFlight;
  authenticate: Authenticate;
  health: Health;
  logger: Logger;
}

/** Serves HTTP/1.1. */
export class HttpServer {
  readonly #server: http.Server;
  readonly #endpoints: Map<string, Endpoint>;
  readonly #origins: Origins;
  readonly #memory: BodyMemory;
  readonly #sockets: WebSockets;
  #stopping = false;

  /**
   * @throws Error when a certificate or key cannot be read
   */
  constructor(
    readonly options: HttpOptions,
    readonly context: HttpContext,
  ) {
    const { tlsCert, tlsKey, allowOrigins, localOnly } = options;
    const { limits } = context.environment;
    this.#endpoints = endpointsOf(context.methods);
    this.#origins = new Origins(allowOrigins, { localOnly });
    this.#memory = new BodyMemory(limits.httpBodiesBytes);
    const settings = {
      headersTimeout: limits.httpHeadersMs,
      requestTimeout: limits.callMs,
      keepAliveTimeout: limits.httpIdleMs,
      connectionsCheckingInterval: limits.httpHeadersMs / 2,
    };
    this.#server =
      tlsCert && tlsKey
        ? https.createServer({
            ...settings,
            cert: readFileSync(tlsCert),
            key: readFileSync(tlsKey),
            handshakeTimeout: limits.httpHeadersMs,
          })
        : http.createServer(settings);
    this.#server.maxConnections = limits.httpConnections;
    const serve = (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response);
    };
    this.#server.on("request", serve);
    // Else a caller would be asked to send what is refused by its length.
    this.#server.on("checkContinue", serve);
    this.#sockets = new WebSockets(this.#server, {
      ...context,
      origins: this.#origins,
      find: (request) => this.#find(urlOf(request).pathname),
    });
  }

  /**
   * Begins to serve.
   *
   * @returns the port
   * @throws Error when the address cannot be bound
   */
  async listen(): Promise<number> {
    const { host, port } = this.options;
    await new Promise<void>((resolve, reject) => {
      const fail = ({ message }: Error) =>
        reject(new Error(`cannot serve HTTP on port ${port} of ${host}: ${message}`));
      this.#server.once("error", fail);
      this.#server.listen({ host, port }, () => {
        this.#server.off("error", fail);
        resolve();
      });
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** Takes no new connections; resolves when those that there are have ended. */
  async close(): Promise<void> {
    this.#stopping = true;
    this.#sockets.close();
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** Cuts all connections off. */
  cut(): void {
    this.#server.closeAllConnections();
    this.#sockets.cut();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const receivedMs = performance.now();
    response.setHeader("cache-control", "no-store");
    response.setHeader("x-content-type-options", "nosniff");
    if (this.#stopping) response.setHeader("connection", "close");
    // Answers that were under way when the server began to stop leave their connections open.
    response.once("close", () => {
      if (this.#stopping) request.socket.end();
    });
    try {
      this.#origins.checkHost(request);
      if (this.#origins.answer(request, response)) return;
      const { pathname, searchParams } = urlOf(request);
      if (pathname === "/healthz") this.#answerHealth(request, response);
      else await this.#call(this.#find(pathname), searchParams, request, response, receivedMs);
    } catch (error) {
      // Else the caller went away before it had sent its request.
      if (request.socket.destroyed) return;
      this.#letSend(request, response);
      toRefusal(error, this.context.logger).send(response);
    }
  }

  // A caller that still sends would lose the answer if its connection were closed behind that, as it may
  // have asked for (RFC 9112, 9.6). Kept alive, what comes is dropped, and the idle connection is closed.
  #letSend(request: IncomingMessage, response: ServerResponse): void {
    if (!request.complete && !this.#stopping) response.setHeader("connection", "keep-alive");
  }

  #answerHealth({ method }: IncomingMessage, response: ServerResponse): void {
    if (method !== "GET" && method !== "HEAD") {
      throw new Refusal(405, "unimplemented", "call it by GET", { allow: "GET, HEAD" });
    }
    const { isServing } = this.context.health;
    const body = JSON.stringify({ status: isServing ? "SERVING" : "NOT_SERVING" });
    response.writeHead(isServing ? 200 : 503, {
      "content-type": "application/json",
      "content-length": body.length,
    });
    response.end(method === "HEAD" ? undefined : body);
  }

  #find(path: string): Endpoint {
    const endpoint = this.#endpoints.get(path);
    if (!endpoint) throw new Refusal(404, "unimplemented", "there is no such method");
    return endpoint;
  }

  async #call(
    endpoint: Endpoint,
    query: URLSearchParams,
    request: IncomingMessage,
    response: ServerResponse,
    receivedMs: number,
  ): Promise<void> {
    const { methodKind, name } = endpoint.descriptor;
    if (methodKind !== "unary") {
      const how =
        methodKind === "server_streaming"
          ? "call it over a WebSocket or gRPC"
          : "call it over gRPC";
      throw new Refusal(501, "unimplemented", `${name} streams: ${how}`);
    }
    const form = formOf(request, endpoint, query);
    const { environment, calls } = this.context;
    const message = this.#mayCall(request)
      ? await this.#read(request, response, form)
      : Buffer.alloc(0);
    // The caller went away while the message was inflated.
    if (response.closed) return;
    this.#letSend(request, response);
    const exchange = { endpoint, request, response, form, message, receivedMs };
    calls.run(endpoint.method, new HttpCall(exchange, environment));
  }

  // Who may not call need not send anything: the chain says so.
  #mayCall({ headers }: IncomingMessage): boolean {
    try {
      this.context.authenticate(headers.authorization);
      return true;
    } catch {
      return false;
    }
  }

  async #read(
    request: IncomingMessage,
    response: ServerResponse,
    form: RequestForm,
  ): Promise<Buffer | RpcError> {
    const { requestBytes } = this.context.environment.limits;
    try {
      const message = await readMessage(request, response, form, requestBytes, this.#memory);
      const giveBack = () => this.#memory.give(message.length);
      if (response.closed) giveBack();
      else response.once("close", giveBack);
      return message;
    } catch (error) {
      if (error instanceof RpcError) return error;
      throw error;
    }
  }
}

function urlOf({ url = "" }: IncomingMessage): URL {
  const base = "http://localhost";
  if (!url.startsWith("/") || !URL.canParse(base + url)) {
    throw new Refusal(400, "invalid_argument", "the request's target is not a path");
  }
  return new URL(base + url);
}
