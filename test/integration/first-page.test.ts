// The first page of a read comes together with where the session stands, and is right although the two
// are of two snapshots; what reads it is planned once.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { GetMessagesResponse, MessageOrder } from "../../gen/agentstore/v1/messages.js";
import { limits } from "../../server/config.js";
import { Database, statement } from "../../server/db/database.js";
import { readFirstPage } from "../../server/messages/first-page.js";
import type { RangeRequest } from "../../server/messages/range.js";
import type { CallContext } from "../../server/rpc/call.js";
import { createDatabase, type TestDatabase, withClient } from "../harness/postgres.js";

const { OLDEST_FIRST, NEWEST_FIRST } = MessageOrder;
const { signal } = new AbortController();

let database: TestDatabase;
let db: Database;
let context: CallContext;
beforeAll(async () => {
  database = await createDatabase();
  // One connection, so that its prepared statements can be looked at.
  db = new Database(database.url, { poolSize: 1 });
  const principal = { tenant: "default", name: "", admin: false };
  context = { db, principal, signal, limits: { ...limits, messageBytes: 0 } } as CallContext;
});
afterAll(async () => {
  await db?.close();
  await database?.drop();
});

let conversationId: bigint;
beforeEach(async () => {
  const [session] = await sql<{ id: string }>(
    `WITH model AS (INSERT INTO models (id) VALUES ('m') ON CONFLICT DO NOTHING)
     INSERT INTO conversations (model_id) VALUES ('m') RETURNING id`,
  );
  conversationId = BigInt(session!.id);
  await append(10);
});
afterEach(() => {
  vi.restoreAllMocks();
});

async function sql<Row>(text: string, ...values: unknown[]): Promise<Row[]> {
  return await withClient(
    database.url,
    async (client) => (await client.query(text, values)).rows as Row[],
  );
}

async function append(count: number): Promise<void> {
  await sql(
    `WITH c AS (
       UPDATE conversations SET last_seq = last_seq + $2::int, message_count = message_count + $2::int
        WHERE id = $1 RETURNING last_seq)
     INSERT INTO conversation_messages (conversation_id, seq, revision, role, content)
     SELECT $1, last_seq - n + 1, last_seq - n + 2, 'user', 'x' FROM c, generate_series(1, $2::int) AS n`,
    conversationId,
    count,
  );
}

async function remove(seq: number): Promise<void> {
  await sql(
    `WITH c AS (UPDATE conversations SET message_count = message_count - 1 WHERE id = $1)
     UPDATE conversation_messages SET deleted_at = now(), version = 2
      WHERE conversation_id = $1 AND seq = $2`,
    conversationId,
    seq,
  );
}

type Asked = Partial<Pick<RangeRequest, "pageSize" | "order" | "afterSeq" | "beforeSeq" | "lastN">>;

async function read(asked: Asked): Promise<{ seqs: number[]; rest: [number, number] }> {
  const whole = { pageSize: 0, order: OLDEST_FIRST, afterSeq: 0n, beforeSeq: 0n, lastN: 0n };
  const request = { ...whole, ...asked, conversationId, showDeleted: false };
  const { pages, rest } = await readFirstPage(context, request);
  const bytes = pages.map((page) => page.encode(Buffer.alloc(0)).take());
  const { messages } = GetMessagesResponse.decode(Buffer.concat(bytes));
  return {
    seqs: messages.map(({ seq }) => Number(seq)),
    rest: [Number(rest.after), Number(rest.before)],
  };
}

test.each<[Asked, number[]]>([
  [{ pageSize: 3 }, [1, 2, 3]],
  [{ pageSize: 3, order: NEWEST_FIRST }, [10, 9, 8]],
  [{ afterSeq: 8n }, [9, 10]],
  [{ beforeSeq: 3n }, [1, 2]],
  [{ lastN: 3n }, [8, 9, 10]],
  [{ lastN: 3n, pageSize: 2 }, [8, 9]],
  [{ lastN: 3n, afterSeq: 9n }, [10]],
  [{ lastN: 3n, order: NEWEST_FIRST }, [10, 9, 8]],
  [{ lastN: 3n, beforeSeq: 5n, order: NEWEST_FIRST }, [4, 3, 2]],
])("%o takes one round trip", async (asked, seqs) => {
  const trips = vi.spyOn(db, "readTogether");
  expect((await read(asked)).seqs).toEqual(seqs);
  expect(trips).toHaveBeenCalledOnce();
});

const BETWEEN: [string, () => Promise<void>, [Asked, number[]][]][] = [
  [
    "an append",
    () => append(2),
    [
      [{}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
      [{ pageSize: 3 }, [1, 2, 3]],
      [{ order: NEWEST_FIRST, pageSize: 3 }, [10, 9, 8]],
      [{ lastN: 3n }, [8, 9, 10]],
      [{ lastN: 3n, pageSize: 1 }, [8]],
      [{ lastN: 3n, order: NEWEST_FIRST }, [10, 9, 8]],
    ],
  ],
  [
    "a deletion",
    () => remove(9),
    [
      [{ lastN: 3n }, [8, 10]],
      [{ lastN: 3n, order: NEWEST_FIRST }, [10, 8]],
    ],
  ],
];
test.each(
  BETWEEN.flatMap(([name, change, cases]) =>
    cases.map(([asked, seqs]) => [name, asked, seqs, change] as const),
  ),
)("%s between the two statements of %o", async (_, asked, seqs, change) => {
  const together = db.readTogether.bind(db);
  vi.spyOn(db, "readTogether").mockImplementationOnce(async ([standing, page]) => {
    await together([standing!], signal);
    await change();
    await together([page!], signal);
  });
  const { seqs: found, rest } = await read(asked);
  expect(found).toEqual(seqs);
  // Nothing is left but what the session had.
  expect(rest[1]).toBeLessThanOrEqual(11);
});

test("where messages are deleted, the last ones are counted without them", async () => {
  await remove(9);
  expect((await read({ lastN: 3n })).seqs).toEqual([7, 8, 10]);
  expect((await read({ lastN: 3n, order: NEWEST_FIRST })).seqs).toEqual([10, 8, 7]);
  await remove(10);
  expect(await read({ pageSize: 8 })).toEqual({ seqs: [1, 2, 3, 4, 5, 6, 7, 8], rest: [8, 9] });
});

test("a session that is not there, and one without messages", async () => {
  await sql(`UPDATE conversations SET tenant_id = 'other' WHERE id = $1`, conversationId);
  await expect(read({})).rejects.toMatchObject({ reason: "SESSION_NOT_FOUND" });
  await sql(`DELETE FROM conversation_messages WHERE conversation_id = $1`, conversationId);
  await sql(
    `UPDATE conversations SET tenant_id = 'default', last_seq = 0, message_count = 0 WHERE id = $1`,
    conversationId,
  );
  expect((await read({})).seqs).toEqual([]);
});

test("pages are planned once on a connection, and nothing else is for it", async () => {
  // Next to this one, a short session looks cheap enough to be planned for.
  await append(20_000);
  await sql("ANALYZE");
  for (let n = 0; n < 20; n++) await read({ afterSeq: 20_000n });
  const plans = statement<{ custom_plans: bigint; plan_cache_mode: string }>(
    "plans",
    `SELECT max(custom_plans) AS custom_plans, current_setting('plan_cache_mode') AS plan_cache_mode
       FROM pg_prepared_statements WHERE name LIKE 'page_%'`,
  );
  const [found] = await db.query(plans, [], signal);
  // Where it is prepared, a statement runs once with NULLs.
  expect(found).toEqual({ custom_plans: 1n, plan_cache_mode: "auto" });
});
