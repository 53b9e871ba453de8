// Speaks gRPC over a bare HTTP/2 connection, so that a test decides every byte.
import { once } from "node:events";
import http2 from "node:http2";
import { frame } from "./wire.js";

/** Where and as whom to connect. */
export interface RawTarget {
  /** `host:port`. */
  address: string;
  /** PEM of the certificate authority; absent: no TLS. */
  ca?: Buffer | undefined;
  /** Sent as `authorization: Bearer TOKEN`. */
  token?: string | undefined;
}

/** What came back for one request. */
export interface RawAnswer {
  /** The HTTP status; undefined when the stream was reset before it had one. */
  httpStatus: number | undefined;
  /** The response's headers. */
  headers: http2.IncomingHttpHeaders;
  /** The gRPC code; undefined when there was none. */
  code: number | undefined;
  /** The gRPC message, decoded. */
  text: string;
  /** The bytes of grpc-status-details-bin; empty when there were none. */
  details: Buffer;
  /** The messages of the answer, unframed. */
  messages: Buffer[];
  /** The HTTP/2 error code of a reset; 0 for none. */
  resetCode: number;
}

/** A body to send: sent as given, or, when a function, written by it (it must end the stream). */
export type RawBody = Uint8Array | ((stream: http2.ClientHttp2Stream) => void);

/** One HTTP/2 connection. */
export class RawConnection {
  private constructor(
    readonly session: http2.ClientHttp2Session,
    readonly target: RawTarget,
  ) {}

  /** Connects. */
  static async open(target: RawTarget): Promise<RawConnection> {
    const session = target.ca
      ? http2.connect(`https://${target.address}`, { ca: target.ca })
      : http2.connect(`http://${target.address}`);
    await once(session, "connect");
    // A reset of the connection shows as the end of its streams.
    session.on("error", () => {});
    return new RawConnection(session, target);
  }

  /** Calls an RPC of the service AgentStore with the bytes of one message. */
  call(rpc: string, request: Uint8Array, headers: http2.OutgoingHttpHeaders = {}) {
    return this.send(`/agentstore.v1.AgentStore/${rpc}`, frame(request), headers);
  }

  /**
   * Sends a request and collects all of its answer.
   *
   * @param headers added to those of a proper call; null takes one away
   */
  async send(
    path: string,
    body: RawBody,
    headers: Record<string, string | string[] | number | null | undefined> = {},
  ): Promise<RawAnswer> {
    const all: http2.OutgoingHttpHeaders = {
      ":method": "POST",
      ":path": path,
      te: "trailers",
      "content-type": "application/grpc",
      ...(this.target.token ? { authorization: `Bearer ${this.target.token}` } : {}),
    };
    for (const [name, value] of Object.entries(headers)) {
      if (value === null) delete all[name];
      else all[name] = value;
    }
    const stream = this.session.request(all);
    const answer = collect(stream);
    if (typeof body === "function") body(stream);
    else stream.end(body);
    return await answer;
  }

  /** Closes the connection, whatever is under way. */
  async close(): Promise<void> {
    if (this.session.destroyed) return;
    const closed = once(this.session, "close");
    this.session.destroy();
    await closed;
  }
}

function collect(stream: http2.ClientHttp2Stream): Promise<RawAnswer> {
  let headers: http2.IncomingHttpHeaders = {};
  let trailers: http2.IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  stream.on("response", (received) => {
    headers = received;
  });
  stream.on("trailers", (received) => {
    trailers = received;
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  // The close that follows tells the code.
  stream.on("error", () => {});
  return new Promise((resolve) => {
    stream.on("close", () => {
      const all = { ...headers, ...trailers };
      const code = all["grpc-status"];
      resolve({
        httpStatus: headers[":status"] === undefined ? undefined : Number(headers[":status"]),
        headers: all,
        code: code === undefined ? undefined : Number(code),
        text: decodeURIComponent(String(all["grpc-message"] ?? "")),
        details: Buffer.from(String(all["grpc-status-details-bin"] ?? ""), "base64"),
        messages: unframe(Buffer.concat(chunks)),
        resetCode: stream.rstCode ?? 0,
      });
    });
  });
}

function unframe(body: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  let position = 0;
  while (position + 5 <= body.length) {
    const end = position + 5 + body.readUInt32BE(position + 1);
    messages.push(body.subarray(position + 5, end));
    position = end;
  }
  return messages;
}
