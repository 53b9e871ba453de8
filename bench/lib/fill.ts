// Fills a store with sessions and messages by COPY, counters included.
import pg from "pg";

/** Sessions to add, all alike. */
export interface Filling {
  modelId: string;
  sessions: number;
  /** Messages of each session. */
  messages: number;
  /** Characters of the messages: from, to; they run through the range. */
  characters: [number, number];
}

const ROLES = ["user", "assistant"];
const CHUNK_BYTES = 256 * 1024;
const TEXT = makeText(20_000);

/** Ordinary text of a length between the two bounds; `n` chooses which. */
export function text(n: number, [from, to]: [number, number]): string {
  const length = from + ((n * 7919) % (to - from + 1));
  const start = (n * 104_729) % (TEXT.length - length);
  return TEXT.slice(start, start + length);
}

/**
 * Adds sessions with their messages.
 *
 * @returns the id of the first; the others follow without gaps
 */
export async function fill(databaseUrl: string, filling: Filling): Promise<bigint> {
  const { modelId, sessions, messages } = filling;
  const client = new pg.Client(databaseUrl);
  await client.connect();
  try {
    await client.query("INSERT INTO models (id) VALUES ($1) ON CONFLICT DO NOTHING", [modelId]);
    const { rows } = await client.query<{ first: string }>(
      `SELECT max(nextval('conversations_id_seq')) - $1 + 1 AS first FROM generate_series(1, $1)`,
      [sessions],
    );
    const first = Number(rows[0]?.first);
    // Foreign keys are not checked row by row: all that they refer to is copied here.
    await client.query("SET session_replication_role = replica");
    await copy(
      client,
      `COPY conversations (id, model_id, last_seq, revision, message_count, user_messages,
         assistant_messages, total_characters, first_message_ms, last_message_ms, first_message)
       FROM STDIN`,
      sessionRows(filling, first),
    );
    if (messages > 0) {
      await copy(
        client,
        `COPY conversation_messages (conversation_id, seq, role, content, ts_ms, revision)
         FROM STDIN`,
        messageRows(filling, first),
      );
    }
    await client.query("VACUUM (ANALYZE) conversations, conversation_messages");
    return BigInt(first);
  } finally {
    await client.end();
  }
}

const START_MS = Date.UTC(2026, 0, 1);

function* sessionRows(filling: Filling, first: number): Generator<string> {
  const { modelId, sessions, messages, characters } = filling;
  // All sessions have the same texts, so the sum is made once.
  let total = 0;
  for (let seq = 1; seq <= messages; seq++) total += text(seq, characters).length;
  const users = Math.ceil(messages / 2);
  for (let number = 0; number < sessions; number++) {
    const from = START_MS + number * 1000;
    const times = messages === 0 ? "\\N\t\\N" : `${from + 1}\t${from + messages}`;
    const preview = messages === 0 ? "\\N" : text(1, characters).slice(0, 200);
    yield `${first + number}\t${modelId}\t${messages}\t${messages + 1}\t${messages}\t${users}\t` +
      `${messages - users}\t${total}\t${times}\t${preview}\n`;
  }
}

function* messageRows({ sessions, messages, characters }: Filling, first: number) {
  for (let number = 0; number < sessions; number++) {
    const from = START_MS + number * 1000;
    for (let seq = 1; seq <= messages; seq++) {
      const role = ROLES[(seq - 1) % 2];
      yield `${first + number}\t${seq}\t${role}\t${text(seq, characters)}\t${from + seq}\t${seq + 1}\n`;
    }
  }
}

interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  sendCopyFail(reason: string): void;
  stream: NodeJS.WritableStream & { writableNeedDrain: boolean };
}

/** Runs a COPY … FROM STDIN with these rows in COPY's text format. */
export function copy(client: pg.Client, statement: string, rows: Iterable<string>): Promise<void> {
  return new Promise((resolve, reject) => {
    const send = async (connection: CopyConnection) => {
      let chunk = "";
      const flush = async () => {
        connection.sendCopyFromChunk(Buffer.from(chunk));
        chunk = "";
        if (!connection.stream.writableNeedDrain) return;
        await new Promise<void>((drained) => connection.stream.once("drain", () => drained()));
      };
      for (const row of rows) {
        chunk += row;
        if (chunk.length >= CHUNK_BYTES) await flush();
      }
      await flush();
      connection.endCopyFrom();
    };
    // What `pg` calls a Submittable: it speaks to the connection itself.
    client.query({
      submit: (connection: unknown) => (connection as CopyConnection).query(statement),
      handleCopyInResponse: (connection: CopyConnection) => {
        send(connection).catch((error: unknown) => connection.sendCopyFail(String(error)));
      },
      handleCommandComplete() {},
      handleReadyForQuery: () => resolve(),
      handleError: reject,
    } as unknown as pg.Submittable);
  });
}

function makeText(length: number): string {
  const words =
    "the agent reads a file and finds that the second test of the parser fails because an empty " +
    "line is taken for the end of the input so it changes the loop runs all tests again and says " +
    "what it did where and why in a few words";
  const list = words.split(" ");
  let result = "";
  for (let n = 0; result.length < length; n++) result += `${list[(n * n + 3 * n) % list.length]} `;
  return result.slice(0, length);
}
