// LoadContext on random and on recorded sessions, on huge messages and on long sessions.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readConversation } from "../../cli/import/conversation.js";
import { AgentStoreClient } from "../../client/index.js";
import { type AgentMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { projectRoot } from "../../server/paths.js";
import { expectedContext, expectSoundContext, type Limits } from "../harness/context-rules.js";
import { createDatabase, withClient } from "../harness/postgres.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { transcript } from "../harness/transcripts.js";

let server: TestServer;
let stubs: Stubs;
let store: AgentStoreClient;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
  store = new AgentStoreClient(server.url);
});

afterAll(async () => {
  store.close();
  stubs.close();
  await server.stop();
});

/** Asks for a context, and holds it against what the whole session says it must be. */
async function check(conversationId: bigint, limits: Limits): Promise<void> {
  const session: AgentMessage[] = [];
  for (const page of await stubs.readStream({ conversationId })) session.push(...page.messages);
  const expected = expectedContext(session, limits);
  const request = {
    conversationId,
    maxMessages: limits.maxMessages,
    maxCharacters: BigInt(limits.maxCharacters),
    maxTokens: BigInt(limits.maxTokens),
  };
  if (expected === undefined) {
    await expect(stubs.call("loadContext", request)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      reason: "BUDGET_TOO_SMALL",
    });
    return;
  }
  const context = await stubs.call("loadContext", request);
  expectSoundContext(context, limits);
  expect(context.messages).toEqual(expected.map((index) => session[index]));
}

const limitsUpTo = (messages: number, characters: number): fc.Arbitrary<Limits> =>
  fc.record({
    maxMessages: fc.integer({ min: 1, max: messages }),
    maxCharacters: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: characters })),
    maxTokens: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: Math.ceil(characters / 4) })),
  });

test("any session at any budget has the longest end that fits", async () => {
  await fc.assert(
    fc.asyncProperty(
      transcript(25),
      fc.array(limitsUpTo(28, 600), { minLength: 1, maxLength: 3 }),
      async (messages, budgets) => {
        const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
        const conversationId = session!.id;
        if (messages.length > 0) await stubs.call("addMessages", { conversationId, messages });
        for (const limits of budgets) await check(conversationId, limits);
      },
    ),
    { numRuns: 100 },
  );
});

// The whole recordings are not part of the repository: AGENTSTORE_TEST_DATA names their folder.
const DATA = process.env["AGENTSTORE_TEST_DATA"];
const folders = [join(projectRoot, "test/fixtures"), ...(DATA ? [DATA] : [])];
const recordings = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".jsonl") && name !== "odd.jsonl")
    .map((name) => join(folder, name)),
);

test.each(recordings)(
  "%s: every run at 20 random budgets",
  async (path) => {
    const lines = readFileSync(path, "utf8").trimEnd().split("\n");
    for (const [index, line] of lines.entries()) {
      const { messages } = readConversation(Buffer.from(line));
      const { id } = await store.createSession("recorded");
      await store.addMessages(id, messages);
      const characters = messages.reduce((sum, { content = "" }) => sum + content.length, 0);
      const budgets = fc.sample(limitsUpTo(messages.length + 2, characters + 500), {
        numRuns: 20,
        seed: index,
      });
      for (const limits of budgets) await check(id, limits);
    }
  },
  300_000,
);

describe("huge messages", () => {
  const content = "x".repeat(4_000_000);

  async function session(role: Role): Promise<bigint> {
    const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
    for (let n = 0; n < 6; n++) {
      const message = newMessage({ role, content });
      await stubs.call("addMessage", { conversationId: session!.id, message });
    }
    return session!.id;
  }

  test("end the answer at about 16 MiB", async () => {
    const conversationId = await session(Role.USER);
    const { messages, omittedMessages } = await stubs.call("loadContext", { conversationId });
    expect(messages.map(({ seq }) => Number(seq))).toEqual([2, 3, 4, 5, 6]);
    expect(omittedMessages).toBe(1n);
  });

  test("as leading system messages are an error that says so", async () => {
    const conversationId = await session(Role.SYSTEM);
    await expect(stubs.call("loadContext", { conversationId })).rejects.toMatchObject({
      reason: "BUDGET_TOO_SMALL",
      violations: [{ field: "conversation_id" }],
    });
  });
});

test("a session of 100,000 messages costs no more than one of 300", async () => {
  const database = await createDatabase();
  try {
    const [short, long] = await withClient(database.url, async (client) => {
      await client.query("INSERT INTO models (id) VALUES ('m')");
      const ids = [];
      for (const length of [300, 100_000]) {
        const { rows } = await client.query(
          "INSERT INTO conversations (model_id, last_seq) VALUES ('m', $1) RETURNING id",
          [length],
        );
        const { id } = rows[0] as { id: string };
        await client.query(
          `INSERT INTO conversation_messages (conversation_id, seq, role, content, revision)
           SELECT $1, n, CASE WHEN n = 1 THEN 'system' ELSE 'user' END, 'message ' || n, n
             FROM generate_series(1, $2::bigint) AS n`,
          [id, length],
        );
        ids.push(BigInt(id));
      }
      await client.query("VACUUM ANALYZE conversation_messages");
      return ids;
    });
    const rowsRead = async (conversationId: bigint): Promise<number> => {
      await withClient(database.url, (client) => client.query("SELECT pg_stat_reset()"));
      const reader = await startServer({ databaseUrl: database.url });
      const calls = new Stubs(reader.address);
      for (const budget of [{ maxMessages: 250 }, { maxMessages: 250, maxTokens: 40n }]) {
        const { messages } = await calls.call("loadContext", { conversationId, ...budget });
        expect(messages.length).toBeGreaterThan(5);
      }
      calls.close();
      await reader.stop();
      // A connection reports what it has read when it ends, at the latest.
      let counted = 0;
      await expect
        .poll(async () => {
          const before = counted;
          counted = await withClient(database.url, async (client) => {
            const { rows } = await client.query(
              `SELECT seq_tup_read + idx_tup_fetch AS read FROM pg_stat_user_tables
                WHERE relname = 'conversation_messages'
                  AND NOT EXISTS (SELECT FROM pg_stat_activity
                                   WHERE datname = current_database() AND pid <> pg_backend_pid()
                                     AND backend_type = 'client backend')`,
            );
            return Number((rows[0] as { read: string } | undefined)?.read ?? 0);
          });
          return counted > 0 && counted === before;
        })
        .toBe(true);
      return counted;
    };
    const expected = await rowsRead(short!);
    expect(expected).toBeGreaterThan(250);
    expect(await rowsRead(long!)).toBeLessThanOrEqual(expected);
  } finally {
    await database.drop();
  }
});
