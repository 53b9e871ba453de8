// The mixed load of the soak: every kind of call, every message with a number of its own.
import type { ClientHttp2Session } from "node:http2";
import {
  AddMessageRequest,
  AddMessagesRequest,
  GetMessagesRequest,
  type NewMessage,
  Role,
  StreamMessagesRequest,
} from "../../gen/agentstore/v1/messages.js";
import { GetSessionStatsRequest, ListSessionsRequest } from "../../gen/agentstore/v1/sessions.js";
import { method } from "./context.js";
import { text } from "./fill.js";
import { call, frame, open } from "./grpc.js";
import { SOAK_MODEL } from "./soak-model.js";
import { percentile } from "./stats.js";
import { serveJobs } from "./worker.js";

/** What the soak client is asked to do. */
export type SoakJob =
  | {
      do: "load";
      address: string;
      /** The sessions: ids from here on. */
      first: bigint;
      sessions: number;
      seconds: number;
      /** So many callers, each as fast as it is answered; or so many calls a second. */
      pace: { callers: number } | { perSecond: number };
    }
  | { do: "numbers" };

/** What a stretch of load came to; latencies in ms, from when the call was due. */
export interface SoakResult {
  calls: number;
  failed: number;
  perSecond: number;
  p50: number;
  p99: number;
  longest: number;
  /** For `numbers`: for each message number 1 if it was acknowledged, 0 if it was only sent. */
  acknowledged: Uint8Array;
}

const BATCH = 10;
const CONNECTIONS = 4;
const acknowledged: number[] = [];
let connections: ClientHttp2Session[] = [];
let turn = 0;

interface Planned {
  path: string;
  request: Uint8Array;
  /** The numbers of the messages that it appends. */
  numbers: number[];
}

function newMessage(numbers: number[]): NewMessage {
  const number = acknowledged.push(0) - 1;
  numbers.push(number);
  return {
    role: number % 2 === 0 ? Role.USER : Role.ASSISTANT,
    content: `${number} ${text(number, [200, 800])}`,
    timestampMs: undefined,
    name: "",
    toolCalls: [],
    toolCallId: "",
    payload: "",
    payloadType: "",
    metadata: undefined,
    usage: undefined,
  };
}

// Of 100 calls: 70 AddMessage, 5 AddMessages(10), 25 that read.
function plan(first: bigint, sessions: number): Planned {
  const kind = (turn * 37) % 100;
  const conversationId = first + BigInt((turn * 7919) % sessions);
  turn++;
  const requestId = `soak-${process.pid}-${turn}`;
  const numbers: number[] = [];
  if (kind < 70) {
    const message = newMessage(numbers);
    const request = AddMessageRequest.fromPartial({ conversationId, message, requestId });
    const encoded = AddMessageRequest.encode(request).finish();
    return { path: method("AddMessage"), request: encoded, numbers };
  }
  if (kind < 75) {
    const messages = Array.from({ length: BATCH }, () => newMessage(numbers));
    const request = AddMessagesRequest.fromPartial({ conversationId, messages, requestId });
    const encoded = AddMessagesRequest.encode(request).finish();
    return { path: method("AddMessages"), request: encoded, numbers };
  }
  return { ...planRead(kind, conversationId), numbers };
}

function planRead(kind: number, conversationId: bigint): { path: string; request: Uint8Array } {
  if (kind < 90) {
    const request = GetMessagesRequest.fromPartial({ conversationId, lastN: 20n });
    return { path: method("GetMessages"), request: GetMessagesRequest.encode(request).finish() };
  }
  if (kind < 95) {
    const request = GetSessionStatsRequest.encode({ conversationId }).finish();
    return { path: method("GetSessionStats"), request };
  }
  if (kind < 98) {
    const request = { modelId: SOAK_MODEL, pageSize: 20, pageToken: "" };
    return { path: method("ListSessions"), request: ListSessionsRequest.encode(request).finish() };
  }
  const request = StreamMessagesRequest.fromPartial({ conversationId, lastN: 200n });
  return {
    path: method("StreamMessages"),
    request: StreamMessagesRequest.encode(request).finish(),
  };
}

serveJobs(async (job: SoakJob): Promise<SoakResult> => {
  if (job.do === "numbers") return result([], 0, 1, Uint8Array.from(acknowledged));
  connections = connections.filter(({ destroyed }) => !destroyed);
  while (connections.length < CONNECTIONS) connections.push(await open(job.address));
  return load(job);
});

function load(job: Extract<SoakJob, { do: "load" }>): Promise<SoakResult> {
  const { first, sessions, seconds, pace } = job;
  const start = performance.now();
  const end = start + seconds * 1000;
  const latencies: number[] = [];
  let failed = 0;
  let running = 0;
  let begun = 0;
  return new Promise((resolve) => {
    let ended = false;
    const finish = () => {
      if (!ended || running > 0) return;
      resolve(result(latencies, failed, (performance.now() - start) / 1000, new Uint8Array(0)));
    };
    const send = (due: number, after: () => void) => {
      running++;
      const { path, request, numbers } = plan(first, sessions);
      const session = connections[begun++ % connections.length] as ClientHttp2Session;
      call(session, path, frame(request), ({ code }) => {
        running--;
        latencies.push(performance.now() - due);
        if (code === 0) for (const number of numbers) acknowledged[number] = 1;
        else failed++;
        after();
        finish();
      });
    };
    if ("callers" in pace) {
      const next = () => {
        const now = performance.now();
        if (now >= end) ended = true;
        else send(now, next);
      };
      for (let caller = 0; caller < pace.callers; caller++) next();
      return;
    }
    const timer = setInterval(() => {
      const now = performance.now();
      for (;;) {
        const due = start + (begun * 1000) / pace.perSecond;
        if (due > Math.min(now, end)) break;
        send(due, () => {});
      }
      if (now < end) return;
      ended = true;
      clearInterval(timer);
      finish();
    }, 2);
  });
}

function result(
  latencies: number[],
  failed: number,
  seconds: number,
  numbers: Uint8Array,
): SoakResult {
  return {
    calls: latencies.length,
    failed,
    perSecond: latencies.length / seconds,
    p50: percentile(latencies, 0.5),
    p99: percentile(latencies, 0.99),
    longest: percentile(latencies, 1),
    acknowledged: numbers,
  };
}
