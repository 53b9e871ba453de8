// Reads a session with pg into objects, by a cursor or by keyset pages; see stream-messages.mjs.
import pg from "pg";

const [url, way, conversationId] = process.argv.slice(2);
const COLUMNS = `id, conversation_id, seq, role, content, ts_ms, name, tool_calls, tool_call_id,
  payload, payload_type, metadata, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
  cost_micros, revision, exact`;
const FROM = `SELECT ${COLUMNS} FROM conversation_messages WHERE conversation_id = $1`;
const client = new pg.Client({ connectionString: url });
await client.connect();

const ways = {
  async cursor() {
    await client.query("BEGIN");
    await client.query(`DECLARE messages CURSOR FOR ${FROM} ORDER BY seq`, [conversationId]);
    const fetch = { name: "fetch", text: "FETCH 500 FROM messages" };
    while ((await client.query(fetch)).rows.length > 0);
    await client.query("COMMIT");
  },
  async keyset() {
    const page = { name: "page", text: `${FROM} AND seq > $2 ORDER BY seq LIMIT 1000` };
    let last = "0";
    while (last !== undefined) {
      const { rows } = await client.query({ ...page, values: [conversationId, last] });
      last = rows.at(-1)?.seq;
    }
  },
};

process.on("message", async () => {
  const start = performance.now();
  const cpu = process.cpuUsage();
  await ways[way]();
  const { user, system } = process.cpuUsage(cpu);
  process.send({ ms: performance.now() - start, cpuMs: (user + system) / 1000 });
});
process.send("ready");
