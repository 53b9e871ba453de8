// The load: a process that calls the server as fast as it answers and decodes nothing.
import { randomBytes } from "node:crypto";
import type { ClientHttp2Session } from "node:http2";
import { call, frame, open, PLACEHOLDER } from "./grpc.js";
import { percentile } from "./stats.js";
import { serveJobs } from "./worker.js";

/** What the load client is asked to do. */
export type LoadJob = {
  address: string;
  /** For example `/agentstore.v1.AgentStore/AddMessage`. */
  path: string;
  /** Encoded requests. Caller i of n sends numbers i, i + n, i + 2n …, again from the start. */
  requests: Uint8Array[];
  callers: number;
  /** Ends after so many seconds, or after so many calls. */
  until: { seconds: number } | { calls: number };
  /** Reads a stream's first message only, and ends it when the server waits for its reader. */
  firstMessageOnly?: boolean;
  /** Has each request carry an id of its own in place of PLACEHOLDER. */
  uniqueIds?: boolean;
  /** Opens the calls, reads nothing of their answers, and closes them at the end. */
  stalled?: boolean;
};

/** What the load came to. Latencies in milliseconds; to the first message where that is asked. */
export interface LoadResult {
  calls: number;
  failed: number;
  seconds: number;
  perSecond: number;
  bytes: number;
  p50: number;
  p99: number;
}

/** Callers that share one connection. */
const CALLERS_A_CONNECTION = 64;
/** HTTP/2's default: what the server may send to a reader that has stopped reading. */
const DEFAULT_WINDOW_BYTES = 65_535;

const idPrefix = randomBytes(8).toString("hex");
let ids = 0;

function nextId(): string {
  return idPrefix + String(++ids).padStart(PLACEHOLDER.length - idPrefix.length, "0");
}

/** How long a stream is held after its first message. */
const HOLD_MS = 20;

const connections = new Map<string, ClientHttp2Session[]>();

async function connectionsTo(address: string, count: number): Promise<ClientHttp2Session[]> {
  const usable = (connections.get(address) ?? []).filter(({ destroyed }) => !destroyed);
  while (usable.length < count) usable.push(await open(address));
  connections.set(address, usable);
  return usable.slice(0, count);
}

serveJobs(async (job: LoadJob): Promise<LoadResult> => {
  if (job.stalled) return stall(job);
  if (job.firstMessageOnly) {
    const session = await open(job.address, DEFAULT_WINDOW_BYTES);
    return load(job, [session]).finally(() => session.close());
  }
  const count = Math.ceil(job.callers / CALLERS_A_CONNECTION);
  return load(job, await connectionsTo(job.address, count));
});

function load(job: LoadJob, sessions: ClientHttp2Session[]): Promise<LoadResult> {
  const { path, callers, until, firstMessageOnly = false, uniqueIds = false } = job;
  const requests = job.requests.map(frame);
  const idPlaces = requests.map((request) => (uniqueIds ? request.indexOf(PLACEHOLDER) : -1));
  const limit = "calls" in until ? until.calls : Number.POSITIVE_INFINITY;
  const start = performance.now();
  const end = "seconds" in until ? start + until.seconds * 1000 : Number.POSITIVE_INFINITY;
  const latencies: number[] = [];
  let begun = 0;
  let running = callers;
  let failed = 0;
  let bytes = 0;
  return new Promise((resolve) => {
    const next = (caller: number, turn: number) => {
      const from = performance.now();
      if (from >= end || begun >= limit) {
        if (--running === 0) finish();
        return;
      }
      begun++;
      const session = sessions[caller % sessions.length] as ClientHttp2Session;
      const index = (turn * callers + caller) % requests.length;
      const request = requests[index] as Buffer;
      // A request belongs to one caller, whose last call with it has ended.
      if (uniqueIds) request.write(nextId(), idPlaces[index] as number, "latin1");
      let first: number | undefined;
      const onFirst = () => {
        first = performance.now() - from;
        making.stop();
        setTimeout(making.cancel, HOLD_MS);
      };
      const making = call(
        session,
        path,
        request,
        (result) => {
          if (first === undefined && result.code !== 0) failed++;
          else latencies.push(first ?? performance.now() - from);
          bytes += result.bytes;
          next(caller, turn + 1);
        },
        firstMessageOnly ? onFirst : undefined,
      );
    };
    const finish = () => {
      const seconds = (performance.now() - start) / 1000;
      resolve({
        calls: latencies.length,
        failed,
        seconds,
        perSecond: latencies.length / seconds,
        bytes,
        p50: percentile(latencies, 0.5),
        p99: percentile(latencies, 0.99),
      });
    };
    for (let caller = 0; caller < callers; caller++) next(caller, 0);
  });
}

async function stall(job: LoadJob): Promise<LoadResult> {
  const seconds = "seconds" in job.until ? job.until.seconds : 1;
  const session = await open(job.address, DEFAULT_WINDOW_BYTES);
  const streams = Array.from({ length: job.callers }, (_, caller) => {
    const stream = session.request({
      ":method": "POST",
      ":path": job.path,
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => {});
    stream.end(frame(job.requests[caller % job.requests.length] as Uint8Array));
    return stream;
  });
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const failed = streams.filter(({ closed }) => closed).length;
  session.destroy();
  const none = { perSecond: 0, bytes: 0, p50: 0, p99: 0 };
  return { calls: streams.length, failed, seconds, ...none };
}
