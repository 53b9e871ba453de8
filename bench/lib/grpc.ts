// gRPC over Node's http2 with frames made by hand: a client that costs as little as possible.
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";

const WINDOW_BYTES = 8 * 1024 * 1024;
const HEADER_BYTES = 5;
/** HTTP/2's error code of a call that is given up. */
const CANCEL = 8;

/** The request_id that the load client replaces by one of the same length. */
export const PLACEHOLDER = "-request-id-of-thirty-two-bytes-";

/** Opens a connection; `address` is host:port, `window` what the server may send unread, in bytes. */
export function open(address: string, window = WINDOW_BYTES): Promise<ClientHttp2Session> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://${address}`, { settings: { initialWindowSize: window } });
    session.once("error", reject);
    session.once("connect", () => {
      session.setLocalWindowSize(window);
      resolve(session);
    });
  });
}

/** Puts gRPC's length prefix before an encoded message. */
export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(HEADER_BYTES + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, HEADER_BYTES);
  return framed;
}

/** What a call came to. */
export interface CallEnd {
  /** gRPC's status code; -1 when the connection broke. */
  code: number;
  /** Bytes of the answer, frames included. */
  bytes: number;
}

/**
 * Makes a call and reads its answer without decoding it.
 *
 * @param path for example `/agentstore.v1.AgentStore/AddMessage`
 * @param framed the request, from frame()
 * @returns stop() reads no further, cancel() ends the call
 * @param onFirstMessage called when the first whole message of the answer is there
 */
export function call(
  session: ClientHttp2Session,
  path: string,
  framed: Buffer,
  done: (end: CallEnd) => void,
  onFirstMessage?: () => void,
): { stop: () => void; cancel: () => void } {
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
  });
  let code = -1;
  let bytes = 0;
  const readStatus = (headers: IncomingHttpHeaders) => {
    const status = headers["grpc-status"];
    if (status !== undefined) code = Number(status);
  };
  stream.on("response", readStatus);
  stream.on("trailers", readStatus);
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  if (onFirstMessage) stream.on("data", whenWhole(onFirstMessage));
  // How it failed is told by the code.
  stream.on("error", () => {});
  stream.on("close", () => done({ code, bytes }));
  stream.end(framed);
  return { stop: () => void stream.pause(), cancel: () => stream.close(CANCEL) };
}

/** Takes the chunks of an answer and calls back once, when its first message is whole. */
function whenWhole(onFirstMessage: () => void): (chunk: Buffer) => void {
  let start = Buffer.alloc(0);
  let bytes = 0;
  let told = false;
  return (chunk) => {
    if (start.length < HEADER_BYTES) start = Buffer.concat([start, chunk]);
    bytes += chunk.length;
    if (told || start.length < HEADER_BYTES) return;
    if (bytes < HEADER_BYTES + start.readUInt32BE(1)) return;
    told = true;
    onFirstMessage();
  };
}
