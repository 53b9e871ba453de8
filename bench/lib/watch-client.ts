// Watchers that cost as little as possible: they decode nothing, and find in the bytes of the events
// which append they tell of.
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { AddMessageRequest, MessageView, Role } from "../../gen/agentstore/v1/messages.js";
import { call, frame, open } from "./grpc.js";
import { percentile } from "./stats.js";
import { serveJobs } from "./worker.js";

/** What the watch client is asked to do, one after the other. */
export type WatchJob =
  /** Opens streams on an address, and waits until each has sent something. */
  | { do: "open"; address: string; path: string; requests: Uint8Array[] }
  /** Appends so many messages a second to sessions in turn, and takes the time of each event. */
  | { do: "append"; address: string; sessions: bigint[]; perSecond: number; seconds: number }
  /** Reads nothing any more. */
  | { do: "pause" }
  /** Reads again until a text has come. */
  | { do: "resume"; until: string }
  | { do: "close" };

/** What came of it; latencies from the append's answer to its event, in milliseconds. */
export interface WatchResult {
  events: number;
  p50: number;
  p99: number;
  /** Whatever was received since the watches were opened. */
  bytes: number;
}

/** Streams that share a connection. */
const STREAMS_A_CONNECTION = 500;
/** What stands before the number of an append in its content. */
const MARK = Buffer.from("append#");
const DIGITS = 8;
const MARKED_BYTES = MARK.length + DIGITS;
/** How long events may be on their way when the last append was answered. */
const LAST_MS = 2_000;

const connections: ClientHttp2Session[] = [];
let streams: ClientHttp2Stream[] = [];
let bytes = 0;
let onChunk: (chunk: Buffer) => void = () => {};

serveJobs(async (job: WatchJob): Promise<WatchResult> => {
  switch (job.do) {
    case "open":
      await openAll(job);
      break;
    case "append":
      return await append(job);
    case "pause":
      for (const stream of streams) stream.pause();
      break;
    case "resume":
      await resume(job.until);
      break;
    case "close":
      for (const session of connections.splice(0)) session.destroy();
      streams = [];
      bytes = 0;
  }
  return { events: 0, p50: 0, p99: 0, bytes };
});

async function openAll({ address, path, requests }: WatchJob & { do: "open" }): Promise<void> {
  for (let first = 0; first < requests.length; first += STREAMS_A_CONNECTION) {
    const session = await open(address);
    connections.push(session);
    const some = requests.slice(first, first + STREAMS_A_CONNECTION);
    await Promise.all(
      some.map(
        (request) =>
          new Promise<void>((resolve, reject) => {
            const stream = session.request({
              ":method": "POST",
              ":path": path,
              "content-type": "application/grpc",
              te: "trailers",
            });
            stream.on("error", () => {});
            stream.on("close", () => reject(new Error("a watch has ended")));
            // Chunks end anywhere, also in the middle of a mark.
            let before: Buffer = Buffer.alloc(0);
            stream.on("data", (chunk: Buffer) => {
              bytes += chunk.length;
              resolve();
              const joined = Buffer.concat([before, chunk]);
              onChunk(joined);
              before = joined.subarray(1 - MARKED_BYTES);
            });
            stream.end(frame(request));
            streams.push(stream);
          }),
      ),
    );
  }
}

async function append(job: WatchJob & { do: "append" }): Promise<WatchResult> {
  const { address, sessions, perSecond, seconds } = job;
  const session = await open(address);
  const total = perSecond * seconds;
  const answered = new Float64Array(total);
  // Events that came before the answer did.
  const early: [number, number][] = [];
  const latencies: number[] = [];
  onChunk = (chunk) => {
    const now = performance.now();
    for (let at = chunk.indexOf(MARK); at >= 0; at = chunk.indexOf(MARK, at + 1)) {
      if (at + MARKED_BYTES > chunk.length) break;
      const number = Number(chunk.toString("latin1", at + MARK.length, at + MARKED_BYTES));
      const from = answered[number];
      if (from) latencies.push(now - from);
      else early.push([number, now]);
    }
  };
  const appends: Promise<void>[] = [];
  const start = performance.now();
  for (let number = 0; number < total; number++) {
    const due = start + (number * 1_000) / perSecond;
    const wait = due - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const request = AddMessageRequest.fromPartial({
      conversationId: sessions[number % sessions.length] ?? 0n,
      message: { role: Role.USER, content: contentOf(number) },
      view: MessageView.KEYS,
    });
    appends.push(
      new Promise((resolve, reject) => {
        call(
          session,
          "/agentstore.v1.AgentStore/AddMessage",
          frame(AddMessageRequest.encode(request).finish()),
          ({ code }) => {
            answered[number] = performance.now();
            if (code === 0) resolve();
            else reject(new Error(`an append failed with the code ${code}`));
          },
        );
      }),
    );
  }
  await Promise.all(appends);
  await new Promise((resolve) => setTimeout(resolve, LAST_MS));
  onChunk = () => {};
  session.destroy();
  for (const [number, at] of early) latencies.push(at - (answered[number] ?? at));
  const [p50, p99] = [percentile(latencies, 0.5), percentile(latencies, 0.99)];
  return { events: latencies.length, p50, p99, bytes };
}

function contentOf(number: number): string {
  return `${MARK.toString()}${String(number).padStart(DIGITS, "0")}`.padEnd(400, " and so on");
}

function resume(text: string): Promise<void> {
  const mark = Buffer.from(text);
  return new Promise((resolve) => {
    onChunk = (chunk) => {
      if (!chunk.includes(mark)) return;
      onChunk = () => {};
      resolve();
    };
    for (const stream of streams) stream.resume();
  });
}
