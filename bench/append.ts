// Appending: what a durable message costs the server, and how it compares with pgbench.
import {
  AddMessageRequest,
  AddMessagesRequest,
  MessageView,
  type NewMessage,
  Role,
} from "../gen/agentstore/v1/messages.js";
import { type Context, loadServer, method } from "./lib/context.js";
import { type Figure, Samples } from "./lib/figures.js";
import { fill, text } from "./lib/fill.js";
import { PLACEHOLDER } from "./lib/grpc.js";
import { type PgbenchTarget, pgbench } from "./lib/pgbench.js";

const LEVELS = [16, 64, 256];
const BATCH = 100;
const BATCH_CALLERS = 8;
const CHARACTERS: [number, number] = [200, 800];
const NO_OP = { path: "/grpc.health.v1.Health/Check", requests: [new Uint8Array(0)] };
/** Different messages that each caller sends in turn. */
const VARIETY = 4;

/** Measures the group. */
export async function measureAppends(context: Context): Promise<Figure[]> {
  const { store, rounds, seconds, say } = context;
  const samples = new Samples("append");
  const sessions = Math.max(...LEVELS);
  const filling = { modelId: "append", sessions, messages: 10, characters: CHARACTERS };
  const first = await fill(store.databaseUrl(), filling);
  // pgbench has sessions of its own: its bare inserts take seqs that no counter knows of.
  const firstSession = await fill(store.databaseUrl(), { ...filling, modelId: "pgbench" });
  const target = { socketDir: store.socketDir, database: "agentstore", firstSession };
  const add = (callers: number) => ({
    path: method("AddMessage"),
    requests: requests(first, callers, (conversationId, n) => addMessage(conversationId, n)),
    callers,
    until: { seconds },
  });
  say("append: warming up");
  await loadServer(context, add(64));
  await loadServer(context, { ...NO_OP, callers: 64, until: { seconds: seconds / 2 } });

  for (let round = 1; round <= rounds; round++) {
    say(`append: round ${round} of ${rounds}`);
    for (const callers of LEVELS) {
      const noOp = await loadServer(context, { ...NO_OP, callers, until: { seconds } });
      samples.add(`no-op cpu ${callers}`, noOp.serverMicros);
      const added = await loadServer(context, add(callers));
      samples.add(`cpu ${callers}`, added.serverMicros);
      samples.add(`rate ${callers}`, added.perSecond);
      samples.add(`p99 ${callers}`, added.p99);
      if (context.pgbench) await limit(samples, target, callers, seconds);
    }
    await withRequestIds(context, samples, first);
    await withoutContents(context, samples, first);
    await oneCaller(context, samples, add(1), target);
    await batches(context, samples, first, target);
  }
  return figures(samples, context.pgbench !== undefined);
}

async function limit(samples: Samples, target: PgbenchTarget, clients: number, seconds: number) {
  const counted = await pgbench(target, "insertAndCount", clients, seconds);
  samples.add(`pgbench count ${clients}`, counted.transactionsPerSecond);
  const bare = await pgbench(target, "insert", clients, seconds);
  samples.add(`pgbench insert ${clients}`, bare.transactionsPerSecond);
  const atOnce = await pgbench(target, "insertAndCountAtOnce", clients, seconds);
  samples.add(`pgbench at once ${clients}`, atOnce.transactionsPerSecond);
}

async function withRequestIds(context: Context, samples: Samples, first: bigint) {
  const callers = 64;
  const added = await loadServer(context, {
    path: method("AddMessage"),
    requests: requests(first, callers, (id, n) => addMessage(id, n, PLACEHOLDER)),
    uniqueIds: true,
    callers,
    until: { seconds: context.seconds },
  });
  samples.add("request id cpu", added.serverMicros);
  samples.add("request id rate", added.perSecond);
}

async function withoutContents(context: Context, samples: Samples, first: bigint) {
  const callers = 64;
  const added = await loadServer(context, {
    path: method("AddMessage"),
    requests: requests(first, callers, (id, n) => addMessage(id, n, "", MessageView.KEYS)),
    callers,
    until: { seconds: context.seconds },
  });
  samples.add("keys cpu", added.serverMicros);
}

async function oneCaller(
  context: Context,
  samples: Samples,
  job: Parameters<typeof loadServer>[1],
  target: PgbenchTarget,
) {
  const alone = await loadServer(context, job);
  samples.add("p50", alone.p50);
  if (!context.pgbench) return;
  samples.add(
    "pgbench p50",
    (await pgbench(target, "insertAndCount", 1, context.seconds, true)).p50,
  );
}

async function batches(context: Context, samples: Samples, first: bigint, target: PgbenchTarget) {
  for (const view of [MessageView.FULL, MessageView.KEYS]) {
    const batch = await loadServer(context, {
      path: method("AddMessages"),
      requests: requests(first, BATCH_CALLERS, (conversationId, n) =>
        AddMessagesRequest.encode({
          conversationId,
          messages: Array.from({ length: BATCH }, (_, index) => newMessage(n + index)),
          requestId: "",
          expectedLastSeq: undefined,
          view,
          fencingToken: 0n,
        }).finish(),
      ),
      callers: BATCH_CALLERS,
      until: { seconds: context.seconds },
    });
    const name = view === MessageView.KEYS ? "keys batch" : "batch";
    samples.add(`${name} rows`, batch.perSecond * BATCH);
    samples.add(`${name} cpu`, batch.serverMicros / BATCH);
  }
  if (!context.pgbench) return;
  const { seconds } = context;
  const limit = await pgbench(target, "insertHundredAndCount", BATCH_CALLERS, seconds);
  samples.add("pgbench batch rows", limit.transactionsPerSecond * BATCH);
}

function figures(samples: Samples, hasPgbench: boolean): Figure[] {
  const result: Figure[] = [];
  for (const callers of LEVELS) {
    result.push(
      samples.ratio(
        `server CPU of AddMessage, ${callers} callers`,
        "µs",
        `cpu ${callers}`,
        { name: "µs no-op", sample: `no-op cpu ${callers}` },
        callers === 16 ? undefined : { atMost: 1.3 },
      ),
    );
  }
  result.push(
    samples.ratio("the same with a request_id, 64 callers", "µs", "request id cpu", {
      name: "µs no-op",
      sample: "no-op cpu 64",
    }),
  );
  result.push(
    samples.ratio("the same with the view KEYS, 64 callers", "µs", "keys cpu", {
      name: "µs no-op",
      sample: "no-op cpu 64",
    }),
  );
  const againstPgbench = (
    name: string,
    unit: string,
    of: string,
    to: { name: string; sample: string },
    goal?: Parameters<Samples["ratio"]>[4],
  ) =>
    result.push(
      hasPgbench ? samples.ratio(name, unit, of, to, goal) : samples.skipped(name, "no pgbench"),
    );
  for (const callers of LEVELS) {
    againstPgbench(
      `AddMessage, ${callers} callers, to insert + counters`,
      "/s",
      `rate ${callers}`,
      { name: "/s pgbench", sample: `pgbench count ${callers}` },
      callers === 256 ? { atLeast: 1.5 } : undefined,
    );
  }
  for (const callers of LEVELS) {
    againstPgbench(
      `AddMessage, ${callers} callers, to insert + counters in one statement`,
      "/s",
      `rate ${callers}`,
      { name: "/s pgbench", sample: `pgbench at once ${callers}` },
    );
  }
  for (const [index, callers] of LEVELS.entries()) {
    againstPgbench(
      `AddMessage, ${callers} callers, to bare insert`,
      "/s",
      `rate ${callers}`,
      { name: "/s pgbench", sample: `pgbench insert ${callers}` },
      { atLeast: [0.4, 0.6, 1][index] ?? 1 },
    );
  }
  againstPgbench(
    "AddMessage p50, one caller",
    "ms",
    "p50",
    { name: "ms pgbench", sample: "pgbench p50" },
    { atMost: 2 },
  );
  for (const callers of LEVELS) {
    result.push(samples.value(`AddMessage p99, ${callers} callers`, "ms", `p99 ${callers}`));
  }
  againstPgbench(
    `AddMessages(${BATCH}), ${BATCH_CALLERS} callers, to unnest insert + counters`,
    "rows/s",
    "batch rows",
    { name: "rows/s pgbench", sample: "pgbench batch rows" },
  );
  // pgbench's statement returns ids alone, as this view does.
  againstPgbench(
    "the same with the view KEYS",
    "rows/s",
    "keys batch rows",
    { name: "rows/s pgbench", sample: "pgbench batch rows" },
    { atLeast: 0.6 },
  );
  result.push(samples.value(`server CPU of AddMessages(${BATCH})`, "µs a row", "batch cpu"));
  result.push(samples.value("the same with the view KEYS", "µs a row", "keys batch cpu"));
  return result;
}

function newMessage(n: number): NewMessage {
  return {
    role: Role.USER,
    content: text(n, CHARACTERS),
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

function addMessage(
  conversationId: bigint,
  n: number,
  requestId = "",
  view: MessageView = MessageView.FULL,
): Uint8Array {
  const message = newMessage(n);
  return AddMessageRequest.encode({
    conversationId,
    message,
    requestId,
    expectedLastSeq: undefined,
    view,
    fencingToken: 0n,
  }).finish();
}

// Each caller has a session of its own.
function requests(
  first: bigint,
  callers: number,
  encode: (conversationId: bigint, n: number) => Uint8Array,
): Uint8Array[] {
  return Array.from({ length: callers * VARIETY }, (_, n) =>
    encode(first + BigInt(n % callers), n),
  );
}
