// Measures StreamMessages against a raw read with pg: rows a second, and CPU of the reading process.
//
//   npm run build && node test/measure/stream-messages.mjs [DIST …]
//
// Each DIST is a build of the server to compare; by default this repository's dist/. Rounds are
// interleaved and figures are medians. ROWS (100,000), CHARACTERS (300), PAGE_SIZE (1,000) and
// ROUNDS (9) may be set in the environment; with DATABASE_URL the messages are written there,
// else into an embedded Postgres that is thrown away.
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import pg from "pg";
import { pino } from "pino";

const root = fileURLToPath(new URL("../../", import.meta.url));
const dists = process.argv.length > 2 ? process.argv.slice(2) : [join(root, "dist")];
const number = (name, fallback) => Number(process.env[name] ?? fallback);
const rows = number("ROWS", 100_000);
const characters = number("CHARACTERS", 300);
const pageSize = number("PAGE_SIZE", 1_000);
const rounds = number("ROUNDS", 9);

const load = (file) => import(pathToFileURL(join(root, "dist", file)).href);
const { startEmbeddedPostgres } = await load("server/db/embedded.js");
const { migrate } = await load("server/db/migrations.js");
const { StreamMessagesRequest, StreamMessagesResponse } = await load(
  "gen/agentstore/v1/messages.js",
);

const log = pino({ level: "warn" });
const dataDir = await mkdtemp(join(tmpdir(), "agentstore-measure-"));
const embedded = process.env.DATABASE_URL
  ? undefined
  : await startEmbeddedPostgres({ dataDir, log });
const url = process.env.DATABASE_URL ?? embedded.url;
await migrate(url);
const conversationId = await fill();

const children = [];
const readers = [
  await reader("pg, cursor of 500", "raw-read.mjs", [url, "cursor", conversationId]),
  await reader("pg, keyset pages of 1,000", "raw-read.mjs", [url, "keyset", conversationId]),
];
for (const dist of dists) readers.push(await server(dist));
for (const { read, figures } of readers) {
  await read();
  figures.length = 0;
}
for (let round = 0; round < rounds; round++) for (const { read } of readers) await read();
print();

for (const child of children) child.kill();
await embedded?.stop();
await rm(dataDir, { recursive: true, force: true });

async function fill() {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("INSERT INTO models (id) VALUES ('measure') ON CONFLICT DO NOTHING");
  const { rows: sessions } = await client.query(
    `INSERT INTO conversations (model_id, last_seq, revision, message_count)
     VALUES ('measure', $1::bigint, $1::bigint + 1, $1::bigint) RETURNING id`,
    [rows],
  );
  await client.query(
    `INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
     SELECT $1::bigint, seq, seq + 1, CASE seq % 2 WHEN 0 THEN 'assistant' ELSE 'user' END,
            left(repeat(md5(seq::text), $3::int / 32 + 1), $3::int), 1700000000000 + seq * 1000
       FROM generate_series(1, $2::bigint) AS seq`,
    [sessions[0].id, rows, characters],
  );
  await client.query("VACUUM ANALYZE");
  await client.end();
  return sessions[0].id;
}

async function child(file, args) {
  const process_ = fork(fileURLToPath(new URL(file, import.meta.url)), args.map(String));
  children.push(process_);
  const ask = async (what) => {
    process_.send(what);
    return (await once(process_, "message"))[0];
  };
  const [ready] = await once(process_, "message");
  return { ask, ready };
}

// Reads within a process of its own, which says how long it took and its CPU time.
async function reader(name, file, args) {
  const { ask } = await child(file, args);
  const figures = [];
  return { name, figures, read: async () => figures.push(await ask("read")) };
}

async function server(dist) {
  const { ask, ready } = await child("server.mjs", [resolve(dist), url]);
  const settings = { initialWindowSize: 4 * 1024 * 1024 };
  const session = http2.connect(`http://${ready}`, { settings });
  await once(session, "connect");
  session.setLocalWindowSize(4 * 1024 * 1024);
  session.unref();
  const figures = [];
  const read = async () => {
    const before = await ask("cpu");
    const start = performance.now();
    const { bytes, firstMs } = await stream(session);
    const ms = performance.now() - start;
    const cpuMs = (await ask("cpu")) - before;
    if (figures.length === 0) check(bytes);
    figures.push({ ms, cpuMs, firstMs });
  };
  return { name: `StreamMessages, ${dist}`, figures, read };
}

// Frames alone: nothing is decoded while the time runs.
async function stream(session) {
  const request = StreamMessagesRequest.encode(
    StreamMessagesRequest.fromPartial({ conversationId: BigInt(conversationId), pageSize }),
  ).finish();
  const frame = Buffer.concat([Buffer.alloc(5), request]);
  frame.writeUInt32BE(request.length, 1);
  const call = session.request({
    ":method": "POST",
    ":path": "/agentstore.v1.AgentStore/StreamMessages",
    "content-type": "application/grpc",
    te: "trailers",
  });
  const start = performance.now();
  let firstMs;
  let status;
  const chunks = [];
  call.on("trailers", (trailers) => {
    status = trailers["grpc-status"];
  });
  call.on("data", (chunk) => {
    firstMs ??= performance.now() - start;
    chunks.push(chunk);
  });
  call.end(frame);
  await once(call, "end");
  if (status !== "0") throw new Error(`StreamMessages ended with status ${status}`);
  return { bytes: chunks, firstMs };
}

function check(chunks) {
  const bytes = Buffer.concat(chunks);
  let messages = 0;
  for (let at = 0; at < bytes.length; ) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    messages += StreamMessagesResponse.decode(bytes.subarray(at + 5, end)).messages.length;
    at = end;
  }
  if (messages !== rows) throw new Error(`${messages} messages arrived, not ${rows}`);
}

function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function print() {
  const of = ({ figures }, key) => median(figures.map((figure) => figure[key]));
  const [limit] = readers;
  const table = readers.map((one) => ({
    read: one.name,
    "rows/s": Math.round(rows / (of(one, "ms") / 1000)),
    "× cursor": (of(limit, "ms") / of(one, "ms")).toFixed(2),
    "µs CPU/row": ((of(one, "cpuMs") * 1000) / rows).toFixed(2),
    "CPU × cursor": (of(one, "cpuMs") / of(limit, "cpuMs")).toFixed(2),
    "first page ms": of(one, "firstMs")?.toFixed(1),
  }));
  // oxlint-disable-next-line no-console -- the table is this program's purpose
  console.table(table);
}
