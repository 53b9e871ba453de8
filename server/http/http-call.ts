// A unary call over HTTP as the chain's Call.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { RpcError, tooLong } from "../errors/rpc-error.js";
import { type CallEnvironment, ServedCall } from "../rpc/served-call.js";
import { connectError, httpStatus } from "./connect-error.js";
import type { Endpoint } from "./endpoint.js";
import { messageToJson, requestFromJson } from "./json.js";
import type { RequestForm } from "./request.js";

/** What an HttpCall is made of. */
export interface Exchange {
  endpoint: Endpoint;
  request: IncomingMessage;
  response: ServerResponse;
  form: RequestForm;
  /** The request's message as it came, or why it could not be read. */
  message: Buffer | RpcError;
  /** When the request's headers had come, by performance.now(). */
  receivedMs: number;
}

/** A call that came over HTTP. */
export class HttpCall extends ServedCall {
  readonly isStream = false;
  readonly #exchange: Exchange;
  readonly #deadline: NodeJS.Timeout | undefined;
  #body: string | Buffer = "";

  constructor(exchange: Exchange, environment: CallEnvironment) {
    super(exchange.endpoint.method.name, peerOf(exchange.request.socket), environment);
    const { response, message, form, receivedMs } = exchange;
    this.#exchange = exchange;
    this.note({ transport: "http" });
    if (Buffer.isBuffer(message)) this.requestBytes = message.length;
    response.once("close", () => {
      if (!response.writableEnded) {
        this.abort(new RpcError("CANCELLED", "the caller went away"));
      }
    });
    if (form.timeoutMs !== undefined) {
      // Longer ones are cut off by the limit of every call.
      const leftMs = Math.min(form.timeoutMs, this.limits.callMs) - (this.startedMs - receivedMs);
      if (leftMs > 0) this.#deadline = setTimeout(() => this.abort(tooLong()), leftMs);
      else this.abort(tooLong());
    }
  }

  get rawRequests(): [Buffer] {
    const { message, form, endpoint } = this.#exchange;
    if (!Buffer.isBuffer(message)) throw message;
    if (form.encoding === "proto") return [message];
    return [requestFromJson(endpoint.descriptor.input, message)];
  }

  header(name: string): string | undefined {
    const value = this.#exchange.request.headers[name];
    return typeof value === "string" ? value : undefined;
  }

  succeed(): void {
    this.#send(200, `application/${this.#exchange.form.encoding}`, this.#body);
  }

  fail(failure: RpcError): void {
    this.#send(httpStatus(failure), "application/json", JSON.stringify(connectError(failure)));
  }

  // Inside the chain, where an answer that cannot be written is told as any other failure.
  protected keep(response: unknown): void {
    const { endpoint, form } = this.#exchange;
    const bytes = endpoint.method.serialize(response);
    this.#body =
      form.encoding === "proto"
        ? Buffer.from(bytes)
        : messageToJson(endpoint.descriptor.output, bytes);
  }

  protected send(): Promise<void> {
    throw new Error("a unary call has no pages");
  }

  #send(status: number, type: string, body: string | Buffer): void {
    clearTimeout(this.#deadline);
    const { response } = this.#exchange;
    response.writeHead(status, {
      "content-type": type,
      "content-length": Buffer.byteLength(body),
      "x-request-id": this.callId,
    });
    response.end(body);
  }
}

/** The address of a caller, in the form that gRPC calls have it. */
export function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress ?? "unknown"}:${remotePort ?? 0}`;
}
