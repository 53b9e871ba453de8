// A server-streaming call over a WebSocket as the chain's Call.
import type { IncomingMessage } from "node:http";
import { status } from "@grpc/grpc-js";
import type { WebSocket } from "ws";
import { RpcError } from "../errors/rpc-error.js";
import { type CallEnvironment, ServedCall } from "../rpc/served-call.js";
import { connectError } from "./connect-error.js";
import type { Endpoint } from "./endpoint.js";
import type { Start } from "./frames.js";
import { peerOf } from "./http-call.js";
import { messageToJson, requestFromValue } from "./json.js";

/** A call that came over a WebSocket, of which it is the only one. */
export class SocketCall extends ServedCall {
  readonly isStream = true;
  readonly #endpoint: Endpoint;
  readonly #socket: WebSocket;
  readonly #upgrade: IncomingMessage;
  readonly #start: Start | RpcError;

  /**
   * @param upgrade the request that opened the socket
   * @param start what the first frame asks for, or why it is wrong
   */
  constructor(
    endpoint: Endpoint,
    socket: WebSocket,
    upgrade: IncomingMessage,
    start: Start | RpcError,
    environment: CallEnvironment,
  ) {
    super(endpoint.method.name, peerOf(upgrade.socket), environment);
    this.#endpoint = endpoint;
    this.#socket = socket;
    this.#upgrade = upgrade;
    this.#start = start;
    this.note({ transport: "websocket" });
    if (!(start instanceof RpcError)) this.requestBytes = Buffer.byteLength(start.text);
  }

  get rawRequests(): [Buffer] {
    if (this.#start instanceof RpcError) throw this.#start;
    const { request, text } = this.#start;
    return [requestFromValue(this.#endpoint.descriptor.input, request, text)];
  }

  header(name: string): string | undefined {
    const given = this.#start instanceof RpcError ? undefined : this.#start.authorization;
    if (name === "authorization" && given !== undefined) return given;
    const value = this.#upgrade.headers[name];
    return typeof value === "string" ? value : undefined;
  }

  succeed(): void {
    this.#socket.send('{"end":{}}');
    this.#socket.close(1000);
  }

  fail(failure: RpcError): void {
    this.#socket.send(JSON.stringify({ error: connectError(failure) }));
    this.#socket.close(closeCode(failure));
  }

  protected keep(): void {
    throw new Error("a stream has pages and no other response");
  }

  // Resolves when the page has left this process, so that one at a time waits for the reader.
  protected send(page: unknown): Promise<void> {
    const { method, descriptor } = this.#endpoint;
    const json = messageToJson(descriptor.output, method.serialize(page));
    const sent = new Promise<void>((resolve) => {
      // A socket that breaks aborts the call.
      this.#socket.send(`{"response":${json}}`, (error) => {
        if (!error) resolve();
      });
    });
    return this.unlessAborted(sent);
  }
}

function closeCode({ reason, code }: RpcError): number {
  if (reason === "SHUTTING_DOWN") return 1001;
  if (reason === "MALFORMED_REQUEST") return 1007;
  if (code === status.INTERNAL) return 1011;
  return code === status.UNAVAILABLE || code === status.RESOURCE_EXHAUSTED ? 1013 : 1008;
}
