// Streams of events with no store behind them: what it costs to send and receive as many by gRPC.
import { Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import { method } from "./context.js";
import { serveJobs } from "./worker.js";

/** What the process is asked to do, one after the other. */
export type EventStreamJob =
  /** Serves WatchSession, if it does not yet. */
  | { do: "serve" }
  /** Sends so many events a second, of so many bytes, to its streams in turn. */
  | { do: "send"; perSecond: number; bytes: number; seconds: number };

/** What came of it. */
export interface EventStreamResult {
  address: string;
  sent: number;
}

/** How often events are sent, about as a server with many appends writes its groups. */
const EVERY_MS = 15;

const streams: ServerWritableStream<Buffer, Buffer>[] = [];
let address = "";

serveJobs(async (job: EventStreamJob): Promise<EventStreamResult> => {
  if (job.do === "serve") address ||= await serve();
  return { address, sent: job.do === "send" ? await send(job) : 0 };
});

function serve(): Promise<string> {
  const server = new Server({ "grpc.enable_channelz": 0 });
  const asItIs = (bytes: Buffer) => bytes;
  const definition = {
    path: method("WatchSession"),
    requestStream: false,
    responseStream: true,
    requestSerialize: asItIs,
    requestDeserialize: asItIs,
    responseSerialize: asItIs,
    responseDeserialize: asItIs,
  };
  server.addService(
    { watchSession: definition },
    {
      watchSession(stream: ServerWritableStream<Buffer, Buffer>) {
        streams.push(stream);
        stream.on("cancelled", () => streams.splice(streams.indexOf(stream), 1));
        // As a watch, which says where it begins.
        stream.write(Buffer.alloc(1));
      },
    },
  );
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error) reject(error);
      else resolve(`127.0.0.1:${port}`);
    });
  });
}

async function send({
  perSecond,
  bytes,
  seconds,
}: EventStreamJob & { do: "send" }): Promise<number> {
  const event = Buffer.alloc(bytes, "x");
  const start = performance.now();
  let sent = 0;
  for (;;) {
    const elapsed = (performance.now() - start) / 1_000;
    if (elapsed >= seconds) return sent;
    for (; sent < elapsed * perSecond; sent++) streams[sent % streams.length]?.write(event);
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
