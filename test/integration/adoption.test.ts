// Adoption: a database that has the three tables already is migrated in place and loses nothing.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type pg from "pg";
import { afterEach, describe, expect, test } from "vitest";
import { checkSchema, migrate, SchemaError } from "../../server/db/migrations.js";
import { projectRoot } from "../../server/paths.js";
import {
  createDatabase,
  createEmptyDatabase,
  type TestDatabase,
  withClient,
} from "../harness/postgres.js";
import { columnsOf, constraintsOf, describeSchema } from "../harness/schema.js";

const TABLES = ["models", "conversations", "conversation_messages"] as const;
type Row = Record<string, unknown>;
type Snapshot = Record<string, Row[]>;

const databases: TestDatabase[] = [];

afterEach(async () => {
  await Promise.all(databases.splice(0).map((database) => database.drop()));
});

async function older(sql: string): Promise<string> {
  const database = await createEmptyDatabase();
  databases.push(database);
  await withClient(database.url, (client) => client.query(sql));
  return database.url;
}

async function rows<T = Row>(url: string, sql: string, values: unknown[] = []): Promise<T[]> {
  return await withClient(url, async (client) => (await client.query(sql, values)).rows as T[]);
}

async function snapshot(url: string): Promise<Snapshot> {
  const result: Snapshot = {};
  for (const table of TABLES) {
    const found = await rows<{ row: Row }>(
      url,
      `SELECT to_jsonb(t) AS row FROM ${table} t ORDER BY id`,
    );
    result[table] = found.map(({ row }) => row);
  }
  return result;
}

/** Adopts a database and checks what every adoption must keep: rows, values, shape, counters. */
async function adopt(sql: string, converted: string[] = []): Promise<string> {
  const url = await older(sql);
  const before = await snapshot(url);
  await migrate(url);
  await checkSchema(url);
  const after = await snapshot(url);
  for (const table of TABLES) {
    for (const row of before[table] ?? []) {
      const same = after[table]?.find(({ id }) => id === row.id);
      const kept = Object.entries(row).filter(([name]) => !converted.includes(`${table}.${name}`));
      expect(same).toMatchObject(Object.fromEntries(kept));
    }
  }
  await expectShape(url);
  await expectCounters(url);
  await expectUsable(url);
  return url;
}

async function expectShape(url: string): Promise<void> {
  const fresh = await createDatabase();
  databases.push(fresh);
  const describeTables = async (client: pg.Client) =>
    Object.fromEntries(
      await Promise.all(
        TABLES.map(async (table) => [table, await columnsOf(client, table)] as const),
      ),
    );
  const wanted = await withClient(fresh.url, describeTables);
  const got = await withClient(url, describeTables);
  for (const table of TABLES) {
    for (const [name, definition] of Object.entries(wanted[table] ?? {})) {
      const column = got[table]?.[name] ?? "missing";
      if (name === "id") expect(column).toMatch(new RegExp(`^${definition.split(" DEFAULT")[0]}`));
      else if (name === "ts_ms") expect(column).toMatch(/^bigint/);
      else expect(`${table}.${name} ${column}`).toBe(`${table}.${name} ${definition}`);
    }
  }
  const { conversation_messages_pkey: key, ...others } = await withClient(url, (client) =>
    constraintsOf(client, "conversation_messages"),
  );
  expect(key ?? Object.values(others)).toContain("PRIMARY KEY (conversation_id, seq)");
  const leftovers = await rows(
    url,
    `SELECT proname AS name FROM pg_proc WHERE proname LIKE 'agentstore%'
     UNION SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'agentstore%'`,
  );
  const schema = await readFile(join(projectRoot, "test/schema.sql"), "utf8");
  const own = (name: unknown) => schema.includes(` public.${String(name)}(`);
  expect(leftovers.filter(({ name }) => !own(name))).toEqual([{ name: "agentstore_migrations" }]);
}

/** Recomputes everything that a session's row says of its messages. */
async function expectCounters(url: string): Promise<void> {
  const wrong = await rows(
    url,
    `SELECT c.id, to_jsonb(c), to_jsonb(m) FROM conversations c CROSS JOIN LATERAL (
       SELECT count(*) AS n, coalesce(max(seq), 0) AS last, coalesce(sum(char_length(content)), 0) AS chars,
              count(*) FILTER (WHERE role = 'user') AS users,
              count(*) FILTER (WHERE role = 'assistant') AS assistants,
              count(*) FILTER (WHERE role = 'system') AS systems,
              count(*) FILTER (WHERE role = 'tool') AS tools,
              min(ts_ms) AS first_ms, max(ts_ms) AS last_ms,
              (array_agg(left(content, 200) ORDER BY seq))[1] AS preview,
              bool_and(revision = 1 + seq) IS NOT FALSE AS revisions
         FROM conversation_messages WHERE conversation_id = c.id) m
     WHERE (message_count, last_seq, revision, total_characters, user_messages, assistant_messages,
            system_messages, tool_messages, first_message_ms, last_message_ms, first_message, true)
        IS DISTINCT FROM
           (n, n, 1 + n, chars, users, assistants, systems, tools, first_ms, last_ms, preview,
            revisions AND last = n)`,
  );
  expect(wrong).toEqual([]);
  const disordered = await rows(
    url,
    `SELECT * FROM (SELECT conversation_id, seq,
              row_number() OVER (PARTITION BY conversation_id ORDER BY ts_ms, id) AS wanted
         FROM conversation_messages) o WHERE seq <> wanted`,
  );
  expect(disordered).toEqual([]);
}

/** Writes what the service writes, in a transaction that is rolled back. */
async function expectUsable(url: string): Promise<void> {
  await withClient(url, async (client) => {
    await client.query("BEGIN");
    const { rows: models } = await client.query("SELECT id FROM models LIMIT 1");
    const model = (models[0] as { id: string } | undefined)?.id ?? "new";
    await client.query("INSERT INTO models (id) SELECT $1 EXCEPT SELECT id FROM models", [model]);
    const highest = await client.query(
      `SELECT (SELECT coalesce(max(id), 0) FROM conversations) AS conversation,
              (SELECT coalesce(max(id), 0) FROM conversation_messages) AS message`,
    );
    const { rows: sessions } = await client.query(
      "INSERT INTO conversations (model_id, tags) VALUES ($1, '{a}') RETURNING id",
      [model],
    );
    const { id } = sessions[0] as { id: string };
    const { rows: messages } = await client.query(
      `INSERT INTO conversation_messages (conversation_id, seq, role, content, ts_ms, tool_calls, revision)
       SELECT $1, n, role, '', 1700000000000, '[]', 1 + n
         FROM unnest(ARRAY['system', 'user', 'assistant', 'tool']) WITH ORDINALITY AS t (role, n)
       RETURNING id`,
      [id],
    );
    const before = highest.rows[0] as { conversation: string; message: string };
    expect(BigInt(id)).toBeGreaterThan(BigInt(before.conversation));
    for (const message of messages as { id: string }[]) {
      expect(BigInt(message.id)).toBeGreaterThan(BigInt(before.message));
    }
    await client.query("ROLLBACK");
  });
}

/** Adoption has to fail, say why, and leave the database exactly as it was. */
async function expectRefused(sql: string, ...words: string[]): Promise<void> {
  const url = await older(sql);
  const before = await withClient(url, describeSchema);
  const data = await snapshot(url);
  const error = await migrate(url).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SchemaError);
  for (const word of words) expect((error as SchemaError).message).toContain(word);
  await withClient(url, (client) => client.query("DROP TABLE agentstore_migrations"));
  expect(await withClient(url, describeSchema)).toBe(before);
  expect(await snapshot(url)).toEqual(data);
}

async function order(url: string, conversation: number): Promise<string[]> {
  const found = await rows<{ content: string }>(
    url,
    "SELECT content FROM conversation_messages WHERE conversation_id = $1 ORDER BY seq",
    [conversation],
  );
  return found.map(({ content }) => content);
}

const MODELS = "CREATE TABLE models (id text PRIMARY KEY);";
const CONVERSATIONS = `CREATE TABLE conversations (
  id bigserial PRIMARY KEY, model_id text NOT NULL REFERENCES models (id));`;
const MESSAGES = `CREATE TABLE conversation_messages (
  id bigserial PRIMARY KEY,
  conversation_id bigint NOT NULL REFERENCES conversations (id),
  role text NOT NULL, content text NOT NULL, ts_ms bigint);`;
const SESSION = `INSERT INTO models (id) VALUES ('gpt-4');
  INSERT INTO conversations (model_id) VALUES ('gpt-4');`;

describe("the three tables with rows", () => {
  test("everything at once: further columns, a strict role, equal and missing times", async () => {
    const url = await adopt(`
      CREATE TABLE models (
        id text PRIMARY KEY, display_name text NOT NULL, context_window int DEFAULT 8192);
      CREATE TABLE conversations (
        id bigserial PRIMARY KEY, model_id text NOT NULL REFERENCES models (id),
        created_at timestamptz NOT NULL DEFAULT now(), region text, priority int DEFAULT 3);
      CREATE TABLE conversation_messages (
        id bigserial PRIMARY KEY,
        conversation_id bigint NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        role text NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
        content text NOT NULL, ts_ms bigint, embedding real[], flagged boolean NOT NULL DEFAULT false);
      CREATE INDEX by_conversation ON conversation_messages (conversation_id, ts_ms);
      INSERT INTO models VALUES ('gpt-4', 'GPT-4', 8192), ('claude', 'Claude', 200000);
      INSERT INTO conversations (model_id, created_at, region) VALUES
        ('gpt-4', '2023-01-01 00:00:00+00', 'eu'), ('claude', '2023-02-01 00:00:00+00', NULL),
        ('gpt-4', '2023-03-01 00:00:00+00', 'us');
      INSERT INTO conversation_messages (conversation_id, role, content, ts_ms, embedding, flagged) VALUES
        (1, 'assistant', 'no time', NULL, '{1,2}', true),
        (1, 'user', 'second of equals', 2000, NULL, false),
        (1, 'assistant', 'third of equals', 2000, NULL, false),
        (2, 'user', '你好 🙂', 5, '{0.5}', false),
        (1, 'system', 'first by time', 1000, NULL, false),
        (1, 'user', 'no time either', NULL, NULL, false),
        (1, 'user', repeat('x', 300), 3000, NULL, true);
    `);
    expect(await order(url, 1)).toEqual([
      "first by time",
      "second of equals",
      "third of equals",
      "x".repeat(300),
      "no time",
      "no time either",
    ]);
    const [session] = await rows(url, "SELECT * FROM conversations WHERE id = 2");
    expect(session).toMatchObject({
      tenant_id: "default",
      total_characters: "4",
      first_message: "你好 🙂",
      region: null,
      priority: 3,
    });
    const [longest] = await rows(url, "SELECT * FROM conversations WHERE id = 3");
    expect(longest).toMatchObject({ message_count: "0", revision: "1", first_message: null });
    const constraints = await withClient(url, (client) =>
      constraintsOf(client, "conversation_messages"),
    );
    expect(constraints.conversation_messages_conversation_id_fkey).toContain("ON DELETE CASCADE");
    expect(constraints.conversation_messages_role).not.toContain("NOT VALID");
    const definition = await withClient(url, describeSchema);
    expect(definition).toContain("CREATE INDEX by_conversation");
  });

  test("nothing but the columns of the beginning", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}${MESSAGES}${SESSION}
      INSERT INTO conversations (model_id) VALUES ('gpt-4');
      INSERT INTO conversation_messages (conversation_id, role, content, ts_ms)
      VALUES (1, 'user', 'a', 1700000000000), (1, 'user', 'b', 1600000000000)`);
    const [session, empty] = await rows<{ created_at: Date; updated_at: Date }>(
      url,
      "SELECT created_at, updated_at FROM conversations ORDER BY id",
    );
    expect(session?.created_at).toEqual(new Date(1600000000000));
    expect(session?.updated_at).toEqual(new Date(1700000000000));
    expect(Date.now() - (empty?.created_at.getTime() ?? 0)).toBeLessThan(3_600_000);
  });

  test("empty tables", async () => {
    await adopt(`${MODELS}${CONVERSATIONS}${MESSAGES}`);
  });

  test("only some of the tables", async () => {
    await adoptPartly(MODELS);
    await adoptPartly(`${MODELS}${CONVERSATIONS}${SESSION}`);
  });

  async function adoptPartly(sql: string): Promise<void> {
    const url = await older(sql);
    await migrate(url);
    await expectShape(url);
    await expectCounters(url);
    await expectUsable(url);
  }

  test("a search_path with several schemas", async () => {
    const url = await older(`CREATE SCHEMA "Old App"; SET search_path = "Old App";
      ${MODELS}${CONVERSATIONS}${MESSAGES}${SESSION}
      ALTER TABLE conversations ALTER COLUMN id DROP DEFAULT;
      DROP SEQUENCE conversations_id_seq;
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES (1, 'user', 'a')`);
    const inside = new URL(url);
    inside.searchParams.set("options", '-c search_path=public,"Old\\ App"');
    await migrate(inside.href);
    await expectCounters(inside.href);
    await expectUsable(inside.href);
  });
});

describe("times", () => {
  test("without a time zone: read in the zone of the database", async () => {
    const url = await older(`${MODELS}
      CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text NOT NULL,
        created_at timestamp DEFAULT now(), updated_at timestamp without time zone);
      ${MESSAGES}${SESSION}
      UPDATE conversations SET created_at = '2023-07-01 12:00', updated_at = NULL;
      DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Shanghai''',
        current_database()); END $$`);
    await migrate(url);
    const [session] = await rows(url, "SELECT created_at, updated_at FROM conversations");
    expect(session).toEqual({
      created_at: new Date("2023-07-01T04:00:00Z"),
      updated_at: new Date("2023-07-01T04:00:00Z"),
    });
    await expectShape(url);
  });

  test("as milliseconds, as seconds and as text", async () => {
    const url = await adopt(
      `CREATE TABLE models (id text PRIMARY KEY, created_at int DEFAULT 0);
      CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text NOT NULL,
        created_at bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint,
        updated_at text, expires_at double precision);
      ${MESSAGES}
      INSERT INTO models VALUES ('gpt-4', 1700000000);
      INSERT INTO conversations (model_id, created_at, updated_at, expires_at) VALUES
        ('gpt-4', 1700000000123, '2023-11-14T22:13:21Z', NULL), ('gpt-4', 1700000000, '', 1.7e12)`,
      [
        "models.created_at",
        "conversations.created_at",
        "conversations.updated_at",
        "conversations.expires_at",
      ],
    );
    expect(await rows(url, "SELECT created_at FROM models")).toEqual([
      { created_at: new Date(1700000000000) },
    ]);
    const found = await rows(
      url,
      "SELECT created_at, updated_at, expires_at FROM conversations ORDER BY id",
    );
    expect(found).toEqual([
      {
        created_at: new Date(1700000000123),
        updated_at: new Date("2023-11-14T22:13:21Z"),
        expires_at: null,
      },
      {
        created_at: new Date(1700000000000),
        updated_at: new Date(1700000000000),
        expires_at: new Date(1700000000000),
      },
    ]);
  });

  test("a ts_ms that is no time does no harm", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}${MESSAGES}${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content, ts_ms) VALUES
        (1, 'user', 'a', 9223372036854775807), (1, 'user', 'b', -9223372036854775808)`);
    expect(await order(url, 1)).toEqual(["b", "a"]);
  });

  test("ts_ms in other types of number", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role text NOT NULL, content text NOT NULL, ts_ms numeric(20, 0) NOT NULL);
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content, ts_ms)
      VALUES (1, 'user', 'a', 1700000000000)`);
    expect(await rows(url, "SELECT ts_ms FROM conversation_messages")).toEqual([
      { ts_ms: "1700000000000" },
    ]);
    await expectRefused(
      `${MODELS}${CONVERSATIONS}
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role text NOT NULL, content text NOT NULL, ts_ms double precision);
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content, ts_ms)
      VALUES (1, 'user', 'a', 5), (1, 'user', 'a', 1.5)`,
      "conversation_messages.ts_ms",
    );
  });
});

describe("roles and contents", () => {
  test("an enum, with an index and a default on it", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}
      CREATE TYPE message_role AS ENUM ('user', 'assistant', 'function');
      CREATE TABLE conversation_messages (id serial PRIMARY KEY, conversation_id bigint NOT NULL,
        role message_role NOT NULL DEFAULT 'user', content text NOT NULL, ts_ms bigint);
      CREATE INDEX questions ON conversation_messages (conversation_id) WHERE role = 'user';
      CREATE INDEX by_role ON conversation_messages (role);
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content)
      VALUES (1, 'user', 'a'), (1, 'function', 'b')`);
    const definition = await withClient(url, describeSchema);
    expect(definition).toContain("WHERE (role = 'user'::text)");
    expect(definition).toContain("CREATE INDEX by_role");
    expect(definition).toContain("NOT VALID");
  });

  test("checks by whatever name; a check on the content alone stays", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}
      CREATE DOMAIN short_role AS varchar(9) CHECK (VALUE IN ('user', 'assistant'));
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role short_role NOT NULL CONSTRAINT conversation_messages_role CHECK (role <> 'tool'),
        content text NOT NULL, ts_ms bigint,
        CONSTRAINT odd_name CHECK (role = 'user' OR content <> ''),
        CONSTRAINT not_huge CHECK (length(content) < 1000000));
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES (1, 'user', 'a')`);
    const constraints = await withClient(url, (client) =>
      constraintsOf(client, "conversation_messages"),
    );
    expect(constraints).not.toHaveProperty("odd_name");
    expect(constraints).toHaveProperty("not_huge");
    expect(constraints.conversation_messages_role).toContain("'tool'");
  });

  test("roles that this service does not know stay, new ones do not come", async () => {
    const url = await adopt(
      `${MODELS}${CONVERSATIONS}
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role varchar(20), content varchar(500), ts_ms bigint);
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES
        (1, 'human', 'a'), (1, NULL, NULL), (1, 'user', 'c')`,
      ["conversation_messages.role", "conversation_messages.content"],
    );
    expect(await rows(url, "SELECT role, content FROM conversation_messages ORDER BY id")).toEqual([
      { role: "human", content: "a" },
      { role: "", content: "" },
      { role: "user", content: "c" },
    ]);
    const added = rows(
      url,
      "INSERT INTO conversation_messages (conversation_id, seq, role, content, revision) VALUES (1, 4, 'human', '', 5)",
    );
    await expect(added).rejects.toThrow("conversation_messages_role");
  });

  test("content as JSON becomes its text", async () => {
    const url = await adopt(
      `${MODELS}${CONVERSATIONS}
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role text NOT NULL, content jsonb, ts_ms bigint);
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES
        (1, 'user', '"said"'), (1, 'user', '[{"type": "text"}]')`,
      ["conversation_messages.content"],
    );
    expect(await order(url, 1)).toEqual(["said", '[{"type": "text"}]']);
  });
});

describe("ids", () => {
  test("serial ids become bigint, and so do their sequences", async () => {
    const url = await adopt(`${MODELS}
      CREATE TABLE conversations (id serial PRIMARY KEY, model_id varchar(64) NOT NULL REFERENCES models (id));
      CREATE TABLE conversation_messages (id serial PRIMARY KEY,
        conversation_id int NOT NULL REFERENCES conversations (id), role text NOT NULL,
        content text NOT NULL, ts_ms bigint);
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES (1, 'user', 'a');
      SELECT setval('conversations_id_seq', 2147483647);`);
    const [next] = await rows(
      url,
      "INSERT INTO conversations (model_id) VALUES ('gpt-4') RETURNING id",
    );
    expect(Number(next?.id)).toBeGreaterThan(2147483647);
  });

  test("identity columns stay, whether always or by default", async () => {
    await adopt(`${MODELS}
      CREATE TABLE conversations (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        model_id text NOT NULL REFERENCES models (id));
      CREATE TABLE conversation_messages (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
        conversation_id int NOT NULL, role text NOT NULL, content text NOT NULL, ts_ms bigint);
      ${SESSION}
      INSERT INTO conversation_messages (id, conversation_id, role, content)
      VALUES (50, 1, 'user', 'a'), (51, 7, 'user', 'orphan')`);
  });

  test("ids without a sequence get one, and a sequence that lags goes on after the highest", async () => {
    await adopt(`${MODELS}
      CREATE TABLE conversations (id int, model_id text NOT NULL);
      CREATE SEQUENCE conversations_id_seq;
      CREATE SEQUENCE shared;
      CREATE TABLE conversation_messages (id bigint PRIMARY KEY DEFAULT nextval('shared'),
        conversation_id bigint NOT NULL, role text NOT NULL, content text NOT NULL, ts_ms bigint);
      INSERT INTO models VALUES ('gpt-4');
      INSERT INTO conversations VALUES (41, 'gpt-4'), (7, 'gpt-4');
      INSERT INTO conversation_messages VALUES (1000, 41, 'user', 'a'), (1001, 7, 'user', 'b')`);
  });

  test("models as varchar, referred to by another table", async () => {
    await adopt(`
      CREATE TABLE models (id varchar(40) PRIMARY KEY);
      CREATE TABLE prices (model_id varchar(40) REFERENCES models (id));
      CREATE TABLE conversations (id bigserial PRIMARY KEY,
        model_id varchar(40) NOT NULL REFERENCES models (id) ON UPDATE CASCADE);
      ${MESSAGES}${SESSION} INSERT INTO prices VALUES ('gpt-4');`);
  });

  test("what refers to a message's id still does", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}
      CREATE TABLE conversation_messages (id serial PRIMARY KEY,
        conversation_id bigint NOT NULL, role text NOT NULL, content text NOT NULL, ts_ms bigint,
        parent_id int REFERENCES conversation_messages (id));
      CREATE TABLE ratings (message_id int NOT NULL
        REFERENCES conversation_messages (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content, parent_id)
      VALUES (1, 'user', 'a', NULL), (1, 'user', 'b', 1);
      INSERT INTO ratings VALUES (2)`);
    const constraints = await withClient(url, (client) => constraintsOf(client, "ratings"));
    expect(Object.values(constraints).join()).toContain("ON DELETE CASCADE DEFERRABLE INITIALLY");
    await rows(url, "DELETE FROM conversation_messages WHERE id = 2");
    expect(await rows(url, "SELECT FROM ratings")).toEqual([]);
  });

  test("without such a reference, nothing but the key is unique", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}${MESSAGES}${SESSION}`);
    const unique = await rows(
      url,
      "SELECT FROM pg_index WHERE indrelid = 'conversation_messages'::regclass AND indisunique",
    );
    expect(unique).toHaveLength(1);
  });
});

describe("missing parents", () => {
  const loose = `${MODELS}
    CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text);
    CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint,
      role text NOT NULL, content text NOT NULL, ts_ms bigint, model text);`;

  test("conversations and models are added for what refers to them", async () => {
    const url = await adopt(
      `${loose}
      INSERT INTO models VALUES ('gpt-4');
      INSERT INTO conversations (model_id) VALUES ('gpt-4'), ('never registered'), (NULL);
      INSERT INTO conversation_messages (conversation_id, role, content, ts_ms, model) VALUES
        (1, 'user', 'a', 1, NULL), (99, 'user', 'b', 1600000000000, NULL),
        (99, 'user', 'c', 1700000000000, 'claude'), (98, 'user', 'd', NULL, NULL),
        (NULL, 'user', 'stray', 3, NULL), (NULL, 'user', 'stray too', 2, NULL)`,
      ["conversations.model_id", "conversation_messages.conversation_id"],
    );
    const sessions = await rows(url, "SELECT id, model_id FROM conversations ORDER BY id");
    expect(sessions).toEqual([
      { id: "1", model_id: "gpt-4" },
      { id: "2", model_id: "never registered" },
      { id: "3", model_id: "unknown" },
      { id: "98", model_id: "unknown" },
      { id: "99", model_id: "claude" },
      { id: "100", model_id: "unknown" },
    ]);
    expect(await order(url, 100)).toEqual(["stray too", "stray"]);
    const [added] = await rows(
      url,
      "SELECT created_at, updated_at FROM conversations WHERE id = 99",
    );
    expect(added).toEqual({
      created_at: new Date(1600000000000),
      updated_at: new Date(1700000000000),
    });
    const constraints = await withClient(url, (client) => constraintsOf(client, "conversations"));
    expect(constraints.conversations_model_id_fkey).not.toContain("NOT VALID");
  });

  test("a model that cannot be registered stays unregistered", async () => {
    const url = await adopt(`
      CREATE TABLE models (id text PRIMARY KEY, display_name text NOT NULL);
      CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text NOT NULL);
      ${MESSAGES}
      INSERT INTO models VALUES ('gpt-4', 'GPT-4');
      INSERT INTO conversations (model_id) VALUES ('claude');
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES (1, 'user', 'a')`);
    const constraints = await withClient(url, (client) => constraintsOf(client, "conversations"));
    expect(constraints.conversations_model_id_fkey).toContain("NOT VALID");
    await rows(url, "UPDATE conversations SET last_seq = 1 WHERE id = 1");
  });

  test("a conversation that cannot be added is named", async () => {
    await expectRefused(
      `${MODELS}
      CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text NOT NULL, region text NOT NULL);
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role text NOT NULL, content text NOT NULL, ts_ms bigint);
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES (5, 'user', 'a')`,
      "without a conversation",
      "region",
    );
  });
});

describe("columns in the place of this service's own", () => {
  test("those that convert, with their values", async () => {
    const url = await adopt(
      `${MODELS}
      CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text NOT NULL,
        title varchar(80), owner_id uuid, tenant_id int, tags jsonb, metadata text,
        message_count int NOT NULL DEFAULT 0, input_tokens int);
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role text NOT NULL, content text NOT NULL, ts_ms bigint, metadata json,
        tool_calls jsonb, tool_call_id varchar(64), payload jsonb, input_tokens int, name citext_like);
      ${SESSION}
      INSERT INTO conversations (model_id, title, owner_id, tenant_id, tags, metadata, message_count, input_tokens)
      VALUES ('gpt-4', 'Title', '7b0e8f2e-0000-4000-8000-000000000000', 12, '["a", "b c", 3]',
              '{"k": [1, {"deep": null}]}', 77, 1000);
      UPDATE conversations SET metadata = ' ' WHERE id = 1;
      INSERT INTO conversation_messages
        (conversation_id, role, content, metadata, tool_calls, payload, tool_call_id, input_tokens, name)
      VALUES
        (2, 'assistant', '', '{"z": 1, "a": 2}',
         '[{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\\"x\\":  1.0}"}},
           {"id": "call_2", "name": "g", "arguments": {"y": 2}}, {"name": "h"}]',
         '{"raw": true}', NULL, 10, 'me'),
        (2, 'assistant', '', '[1, 2]', '[]', NULL, 'call_1', 5, NULL),
        (2, 'assistant', '', 'null', NULL, NULL, NULL, NULL, NULL)`.replace(
        "citext_like",
        "varchar(10)",
      ),
      [
        "conversations.title",
        "conversations.owner_id",
        "conversations.tenant_id",
        "conversations.tags",
        "conversations.metadata",
        "conversations.message_count",
        "conversations.input_tokens",
        "conversation_messages.metadata",
        "conversation_messages.tool_calls",
        "conversation_messages.payload",
      ],
    );
    const sessions = await rows(
      url,
      "SELECT title, owner_id, tenant_id, tags, metadata, message_count, input_tokens FROM conversations ORDER BY id",
    );
    expect(sessions).toEqual([
      {
        title: "",
        owner_id: "",
        tenant_id: "default",
        tags: [],
        metadata: null,
        message_count: "0",
        input_tokens: "0",
      },
      {
        title: "Title",
        owner_id: "7b0e8f2e-0000-4000-8000-000000000000",
        tenant_id: "12",
        tags: ["a", "b c", "3"],
        metadata: { k: [1, { deep: null }] },
        message_count: "3",
        input_tokens: "1000",
      },
    ]);
    const messages = await rows(
      url,
      "SELECT metadata, tool_calls, payload, tool_call_id, input_tokens FROM conversation_messages ORDER BY id",
    );
    expect(messages).toEqual([
      {
        metadata: { z: 1, a: 2 },
        tool_calls: [
          { id: "call_1", name: "f", arguments: '{"x":  1.0}' },
          { id: "call_2", name: "g", arguments: '{"y": 2}' },
          { id: "", name: "h", arguments: "" },
        ],
        payload: '{"raw": true}',
        tool_call_id: null,
        input_tokens: "10",
      },
      {
        metadata: { value: [1, 2] },
        tool_calls: null,
        payload: null,
        tool_call_id: "call_1",
        input_tokens: "5",
      },
      { metadata: null, tool_calls: null, payload: null, tool_call_id: null, input_tokens: null },
    ]);
  });

  test.each([
    ["text[]", "'{a,NULL,b}'", ["a", "b"]],
    ["varchar(9)[]", "NULL", []],
    ["text", "'a, b ,c'", ["a", "b", "c"]],
    ["text", `'["a, b"]'`, ["a, b"]],
    ["text", `'{"a, b",c}'`, ["a, b", "c"]],
    ["json", `'"one"'`, ["one"]],
  ])("tags %s %s", async (type, value, tags) => {
    const url = await adopt(
      `${MODELS}
      CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text NOT NULL, tags ${type});
      ${MESSAGES}${SESSION} UPDATE conversations SET tags = ${value}`,
      ["conversations.tags"],
    );
    expect(await rows(url, "SELECT tags FROM conversations")).toEqual([{ tags }]);
  });

  test("a seq that is the order already is kept", async () => {
    const url = await adopt(`${MODELS}${CONVERSATIONS}
      CREATE TABLE conversation_messages (id bigserial, conversation_id bigint, seq int,
        role text NOT NULL, content text NOT NULL, ts_ms bigint, PRIMARY KEY (conversation_id, seq));
      ${SESSION}
      INSERT INTO conversation_messages (conversation_id, seq, role, content, ts_ms)
      VALUES (1, 2, 'user', 'b', 20), (1, 1, 'user', 'a', 10)`);
    expect(await order(url, 1)).toEqual(["a", "b"]);
  });

  test.each([
    ["conversations", "metadata bytea", "metadata"],
    ["conversations", "metadata text DEFAULT 'no json'", "metadata"],
    ["conversations", "tags int4range", "tags"],
    ["conversations", `tags jsonb DEFAULT '{"a": 1}'`, "tags"],
    ["conversations", "updated_at text DEFAULT 'yesterday or so'", "updated_at"],
    ["conversations", "revision int DEFAULT 7", "revision"],
    ["conversations", "title text GENERATED ALWAYS AS (upper(model_id)) STORED", "title"],
    ["conversation_messages", "exact boolean", "exact"],
    ["conversation_messages", "seq int DEFAULT 5", "seq"],
    ["conversation_messages", `tool_calls jsonb DEFAULT '[{"id": "x"}]'`, "tool_calls"],
    ["conversation_messages", `tool_calls jsonb DEFAULT '{"id": "x"}'`, "tool_calls"],
    ["conversation_messages", "input_tokens text DEFAULT 'many'", "input_tokens"],
  ])("%s.%s is refused by name, with what to do", async (table, column, name) => {
    await expectRefused(
      `${MODELS}${CONVERSATIONS}${MESSAGES}${SESSION}
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES (1, 'user', 'a');
      ALTER TABLE ${table} ADD COLUMN ${column};`,
      `${table}.${name}`,
      `RENAME COLUMN ${name}`,
    );
  });
});

test.each([
  ["conversation_messages", "deleted_at", "timestamptz DEFAULT now()"],
  ["conversation_messages", "version", "int DEFAULT 3"],
  ["conversations", "snapshot_at", "text DEFAULT 'never'"],
])("%s.%s is refused by name, and adopted when it is renamed", async (table, column, type) => {
  const url = await older(`${MODELS}${CONVERSATIONS}${MESSAGES}${SESSION}
    INSERT INTO conversation_messages (conversation_id, role, content) VALUES (1, 'user', 'a');
    ALTER TABLE ${table} ADD COLUMN ${column} ${type}`);
  const before = await rows<object>(url, `SELECT ${column} AS value FROM ${table}`);
  const error = await migrate(url).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(SchemaError);
  const rename = `ALTER TABLE ${table} RENAME COLUMN ${column} TO old_${column}`;
  for (const word of [`${table}.${column}`, rename]) {
    expect((error as SchemaError).message).toContain(word);
  }
  await withClient(url, (client) => client.query(rename));
  await migrate(url);
  await expectUsable(url);
  expect(await rows(url, `SELECT old_${column} AS value FROM ${table}`)).toEqual(before);
});

describe("what depends on the tables", () => {
  test("triggers do not see the adoption and are there afterwards, in their states", async () => {
    const url = await adopt(`${MODELS}
      CREATE TABLE conversations (id bigserial PRIMARY KEY, model_id text NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now());
      ${MESSAGES}${SESSION}
      UPDATE conversations SET updated_at = '2020-01-01 00:00:00+00';
      INSERT INTO conversation_messages (conversation_id, role, content) VALUES (1, 'user', 'a');
      CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.updated_at := now(); RETURN NEW; END';
      CREATE FUNCTION immutable() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''messages never change''; END';
      CREATE TRIGGER touched BEFORE UPDATE ON conversations FOR EACH ROW EXECUTE FUNCTION touch();
      CREATE TRIGGER off BEFORE UPDATE ON conversations FOR EACH ROW EXECUTE FUNCTION touch();
      ALTER TABLE conversations DISABLE TRIGGER off;
      CREATE TRIGGER fixed BEFORE UPDATE ON conversation_messages FOR EACH ROW EXECUTE FUNCTION immutable();
      ALTER TABLE conversation_messages ENABLE ALWAYS TRIGGER fixed;`);
    const states = await rows(
      url,
      "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname",
    );
    expect(states).toEqual([
      { tgname: "fixed", tgenabled: "A" },
      { tgname: "off", tgenabled: "D" },
      { tgname: "touched", tgenabled: "O" },
    ]);
  });

  test("a view on a column that need not change does not matter", async () => {
    await adopt(`${MODELS}${CONVERSATIONS}${MESSAGES}${SESSION}
      CREATE VIEW transcript AS SELECT conversation_id, role, content FROM conversation_messages`);
  });

  test("a view on a column that must change is named", async () => {
    await expectRefused(
      `${MODELS}${CONVERSATIONS}
      CREATE TABLE conversation_messages (id bigserial PRIMARY KEY, conversation_id bigint NOT NULL,
        role text NOT NULL, content varchar(100) NOT NULL, ts_ms bigint);
      CREATE VIEW transcript AS SELECT content FROM conversation_messages;`,
      "transcript",
      "content",
    );
  });

  test.each([
    ["a view", "CREATE VIEW models AS SELECT 'a'::text AS id"],
    ["a partitioned table", "CREATE TABLE models (id text) PARTITION BY HASH (id)"],
    ["a table without id", "CREATE TABLE models (name text)"],
  ])("%s named models is refused", async (_, sql) => {
    const url = await older(sql);
    const before = await withClient(url, describeSchema);
    await expect(migrate(url)).rejects.toThrow(/models.*cannot be adopted/);
    await withClient(url, (client) => client.query("DROP TABLE agentstore_migrations"));
    expect(await withClient(url, describeSchema)).toBe(before);
  });
});
