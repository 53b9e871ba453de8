// The limit of reading: plain `pg` with a cursor, every row a JS object, in a process of its own.
import pg from "pg";
import { serveJobs } from "./worker.js";

/** What to read. */
export interface ReadJob {
  databaseUrl: string;
  conversationId: bigint;
  /** Rows that one FETCH returns. */
  fetch: number;
}

/** What a read of a whole session came to. */
export interface ReadResult {
  rows: number;
  seconds: number;
  /** CPU time of the reading process. */
  cpuMs: number;
}

const COLUMNS = `id, conversation_id, seq, role, content, ts_ms, name, tool_calls, tool_call_id,
  payload, payload_type, metadata, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
  cost_micros, revision, exact`;

let client: pg.Client | undefined;

serveJobs(async ({ databaseUrl, conversationId, fetch }: ReadJob): Promise<ReadResult> => {
  if (client === undefined) {
    client = new pg.Client(databaseUrl);
    await client.connect();
  }
  const cpu = process.cpuUsage();
  const start = performance.now();
  let rows = 0;
  await client.query("BEGIN");
  await client.query(
    `DECLARE reading CURSOR FOR
       SELECT ${COLUMNS} FROM conversation_messages WHERE conversation_id = $1 ORDER BY seq`,
    [conversationId],
  );
  for (;;) {
    const page = await client.query(`FETCH ${fetch} FROM reading`);
    if (page.rows.length === 0) break;
    rows += page.rows.length;
  }
  await client.query("COMMIT");
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  return { rows, seconds, cpuMs: (used.user + used.system) / 1000 };
});
