// Forks: what copying the messages costs, beside what not copying them would cost every read.
import pg from "pg";
import { AgentStoreClient } from "../client/index.js";
import { MESSAGE_BYTES, pageOldestFirst } from "../server/messages/sql.js";
import { WIRE_COLUMNS } from "../server/messages/wire/message-page.js";
import type { Context } from "./lib/context.js";
import { type Figure, Samples } from "./lib/figures.js";
import { fill } from "./lib/fill.js";
import { median } from "./lib/stats.js";

const LENGTHS = [100, 10_000, 100_000];
const DEPTHS = [0, 1, 3];
const PAGE_SIZE = 100;
const MOST_BYTES = 1024 * 1024;

// What Postgres does for a page, without the way of its rows to the reader.
const inPostgres = (page: string): string =>
  `SELECT count(*) AS messages, sum(octet_length(content)) FROM (${page}) AS page`;

// The page of a store in which a fork has no rows but those that are its own: the least that it has
// to do. Versions that were in force when the fork was made would come on top.
const COPY_ON_WRITE = `
  WITH RECURSIVE line AS (
    SELECT $1::bigint AS id, 9223372036854775807 AS up_to, 0 AS depth
    UNION ALL
    SELECT c.parent_conversation_id, least(line.up_to, c.parent_seq), line.depth + 1
      FROM line JOIN conversations AS c ON c.id = line.id
     WHERE c.parent_conversation_id IS NOT NULL
  ), found AS (
    SELECT DISTINCT ON (m.seq) m.*
      FROM line
     CROSS JOIN LATERAL (
       SELECT ${WIRE_COLUMNS.join(", ")}
         FROM conversation_messages
        WHERE conversation_id = line.id AND seq > $2 AND seq < $3 AND seq <= line.up_to
          AND deleted_at IS NULL
        ORDER BY seq
        LIMIT $4
     ) AS m
     ORDER BY m.seq, line.depth
     LIMIT $4
  )
  SELECT ${WIRE_COLUMNS.join(", ")}
    FROM (
      SELECT *, sum(bytes) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
        FROM (SELECT *, ${MESSAGE_BYTES} AS bytes FROM found) AS sized
    ) AS page
   WHERE bytes_before < $5
   ORDER BY seq`;

/** Measures the group. */
export async function measureForks(context: Context): Promise<Figure[]> {
  const { quick, rounds, say, store } = context;
  const lengths = quick ? LENGTHS.slice(0, 2) : LENGTHS;
  const samples = new Samples("forks");
  const client = new AgentStoreClient(`agentstore://${store.address}`);
  const database = new pg.Client(store.databaseUrl());
  await database.connect();
  try {
    const sessions = new Map<number, bigint>();
    for (const messages of lengths) {
      say(`forks: filling a session of ${messages} messages`);
      sessions.set(
        messages,
        await fill(store.databaseUrl(), {
          modelId: "forks",
          sessions: 1,
          messages,
          characters: [50, 550],
        }),
      );
    }
    await database.query("ANALYZE conversation_messages");
    const forks = await makeLine(client, database, sessions.get(10_000) ?? 0n);
    // The first round warms up and is not counted.
    for (let round = 0; round <= rounds; round++) {
      say(`forks: round ${round} of ${rounds}`);
      const counted = round === 0 ? new Samples("warm-up") : samples;
      for (const [messages, id] of sessions) await measureFork(client, counted, messages, id);
      await measurePages(database, counted, forks);
    }
  } finally {
    client.close();
    await database.end();
  }
  return [
    ...lengths.map((messages) =>
      samples.value(
        `ForkSession, ${messages.toLocaleString("en-US")} messages`,
        "ms",
        `fork ${messages}`,
      ),
    ),
    ...DEPTHS.map((depth) =>
      samples.ratio(
        `page of ${PAGE_SIZE} in Postgres by copy on write, ${depth} parents`,
        "ms",
        `copy on write ${depth}`,
        { name: "ms, copied", sample: "copied" },
      ),
    ),
  ];
}

/** Forks of forks, by how many parents they have. But for the first, they have no rows of their own. */
async function makeLine(
  client: AgentStoreClient,
  database: pg.Client,
  id: bigint,
): Promise<bigint[]> {
  const line = [id];
  for (let depth = 1; depth <= Math.max(...DEPTHS); depth++) {
    const { id: fork } = await client.forkSession(line.at(-1) ?? id);
    line.push(fork);
  }
  await database.query("DELETE FROM conversation_messages WHERE conversation_id = ANY ($1)", [
    line.slice(1),
  ]);
  return line;
}

async function measureFork(
  client: AgentStoreClient,
  samples: Samples,
  messages: number,
  id: bigint,
): Promise<void> {
  const start = performance.now();
  const { id: fork } = await client.forkSession(id);
  samples.add(`fork ${messages}`, performance.now() - start);
  await client.deleteSession(fork);
}

async function measurePages(database: pg.Client, samples: Samples, line: bigint[]): Promise<void> {
  const time = async (name: string, page: string, id: bigint | undefined) => {
    const query = { name: name.replaceAll(" ", "_"), text: inPostgres(page) };
    const times: number[] = [];
    for (let after = 0; after < 9_000; after += 25) {
      const values = [id, after, 10_001, PAGE_SIZE, MOST_BYTES];
      const start = performance.now();
      const { rows } = await database.query<{ messages: string }>({ ...query, values });
      times.push(performance.now() - start);
      if (rows[0]?.messages !== String(PAGE_SIZE)) throw new Error("a page is not full");
    }
    samples.add(name, median(times));
  };
  await time("copied", pageOldestFirst.text, line[0]);
  for (const depth of DEPTHS) await time(`copy on write ${depth}`, COPY_ON_WRITE, line[depth]);
}
