// The client's calls about leases and context against a real server, and recorded runs through it.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConversation } from "../../cli/import/conversation.js";
import {
  type AgentMessage,
  AgentStoreClient,
  BudgetTooSmallError,
  fromLlmMessages,
  LeaseHeldError,
  LeaseLostError,
  type OpenAiMessage,
  SessionNotFoundError,
  toLlmMessages,
  type WriteInfo,
} from "../../client/index.js";
import { projectRoot } from "../../server/paths.js";
import { startServer, type TestServer } from "../harness/server.js";

let server: TestServer;
let store: AgentStoreClient;

beforeAll(async () => {
  server = await startServer();
  store = new AgentStoreClient(server.url);
});

afterAll(async () => {
  store.close();
  await server.stop();
});

const caught = (call: Promise<unknown>) => call.catch((error: unknown) => error);

describe("leases", () => {
  it("are acquired, renewed and released, and fence appends", async () => {
    const { id } = await store.createSession("leases");
    const lease = await store.acquireLease(id, "worker 1", { ttlMs: 60_000 });
    expect(lease).toEqual({
      conversationId: id,
      holder: "worker 1",
      fencingToken: 1n,
      expiresAt: expect.any(Date),
    });
    const { fencingToken } = lease;
    const held = await caught(store.acquireLease(id, "worker 2"));
    expect(held).toBeInstanceOf(LeaseHeldError);
    expect(held).toMatchObject({
      conversationId: id,
      holder: "worker 1",
      expiresAt: lease.expiresAt,
      attempts: 1,
    });
    expect((held as LeaseHeldError).retryDelayMs).toBeGreaterThan(0);

    const renewed = await store.renewLease(id, fencingToken, { ttlMs: 3_600_000n });
    expect(renewed.expiresAt.getTime()).toBeGreaterThan(lease.expiresAt.getTime());
    await store.addMessage(id, "user", "Hello", { fencingToken });
    await store.addMessages(id, [{ role: "assistant", content: "Hi" }], { fencingToken });

    expect(await store.releaseLease(id, fencingToken)).toBe(true);
    expect(await store.releaseLease(id, fencingToken)).toBe(false);
    await store.acquireLease(id, "worker 2");
    for (const call of [
      () => store.addMessage(id, "user", "late", { fencingToken }),
      () => store.addMessages(id, [{ role: "user" }], { fencingToken }),
      () => store.renewLease(id, fencingToken),
      () => store.repairSession(id, { fencingToken }),
    ]) {
      const lost = await caught(call());
      expect(lost).toBeInstanceOf(LeaseLostError);
      expect(lost).toMatchObject({
        conversationId: id,
        fencingToken: 1n,
        currentFencingToken: 2n,
        attempts: 1,
      });
    }
    expect((await store.getSession(id)).lastSeq).toBe(2n);
  });

  it("are acquired once under one requestId", async () => {
    const { id } = await store.createSession("leases");
    const infos: WriteInfo[] = [];
    const options = { requestId: "r", onWritten: (info: WriteInfo) => infos.push(info) };
    const first = await store.acquireLease(id, "worker", options);
    expect(await store.acquireLease(id, "worker", options)).toEqual(first);
    expect(infos.map(({ replayed }) => replayed)).toEqual([false, true]);
  });

  it.each<[string, () => Promise<unknown>]>([
    ["holder", () => store.acquireLease(1, "")],
    ["holder", () => store.acquireLease(1, "\ud800")],
    ["ttl_ms", () => store.acquireLease(1, "w", { ttlMs: 1 })],
    ["ttl_ms", () => store.renewLease(1, 1, { ttlMs: 1.5 })],
    ["fencing_token", () => store.renewLease(1, 0)],
    ["fencing_token", () => store.releaseLease(1, 2 ** 53)],
    ["fencing_token", () => store.addMessage(1, "user", "x", { fencingToken: -1 })],
    ["fencing_token", () => store.repairSession(1, { fencingToken: 0.5 })],
    ["max_messages", () => store.loadContext(1, { maxMessages: 1_001 })],
    ["max_characters", () => store.loadContext(1, { maxCharacters: -1 })],
    ["max_tokens", () => store.loadContext(1, { maxTokens: 0.5 })],
  ])("and context name a field that is wrong: %s", async (field, call) => {
    expect(await caught(call())).toMatchObject({
      name: "InvalidFieldError",
      violations: [{ field }],
    });
  });

  const missing = 9_007_199_254_740_993n;

  it.each<[string, () => Promise<unknown>]>([
    ["acquireLease", () => store.acquireLease(missing, "w")],
    ["renewLease", () => store.renewLease(missing, 1)],
    ["releaseLease", () => store.releaseLease(missing, 1)],
    ["loadContext", () => store.loadContext(missing)],
    ["repairSession", () => store.repairSession(missing)],
  ])("%s of no session", async (_, call) => {
    expect(await caught(call())).toBeInstanceOf(SessionNotFoundError);
  });
});

describe("context", () => {
  it("is what the next call of the model needs; a repair closes what is open", async () => {
    const { id } = await store.createSession("context");
    await store.addMessages(id, [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Is it raining?" },
      { role: "user", content: "And where?" },
      {
        role: "assistant",
        toolCalls: [
          { id: "a", name: "weather", arguments: "{}" },
          { id: "b", name: "place", arguments: "{}" },
        ],
      },
      { role: "tool", toolCallId: "b", content: "Berlin" },
    ]);
    const context = await store.loadContext(id, { maxMessages: 4, maxTokens: 100n });
    const session = await store.getSession(id);
    expect(context).toMatchObject({
      session,
      omittedMessages: 1n,
      characters: 41n,
      unpairedToolCalls: [{ seq: 4n, toolCallId: "a", name: "weather" }],
    });
    expect(context.messages.map(({ seq, role }) => [seq, role])).toEqual([
      [1n, "system"],
      [3n, "user"],
      [4n, "assistant"],
      [5n, "tool"],
    ]);

    const repaired = await store.repairSession(id);
    expect(repaired).toMatchObject([
      { seq: 6n, role: "tool", toolCallId: "a", name: "weather", metadata: { interrupted: true } },
    ]);
    expect((await store.loadContext(id)).unpairedToolCalls).toEqual([]);
    expect(await store.repairSession(id)).toEqual([]);
  });

  it("of too small a budget says what is needed", async () => {
    const { id } = await store.createSession("context");
    await store.addMessage(id, "system", "12345678");
    const thrown = await caught(store.loadContext(id, { maxCharacters: 7 }));
    expect(thrown).toBeInstanceOf(BudgetTooSmallError);
    expect(thrown).toMatchObject({ needed: 8n, violations: [{ field: "max_characters" }] });
  });
});

// The whole recordings are not part of the repository: AGENTSTORE_TEST_DATA names their folder.
const DATA = process.env["AGENTSTORE_TEST_DATA"];
const folders = [join(projectRoot, "test/fixtures"), ...(DATA ? [DATA] : [])];
const recordings = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".jsonl") && name !== "odd.jsonl")
    .map((name) => join(folder, name)),
);

describe("recorded runs", () => {
  it.each(recordings)(
    "%s: each one comes back in its exact OpenAI form",
    async (path) => {
      for (const line of readFileSync(path, "utf8").trimEnd().split("\n")) {
        const source = JSON.parse(line) as { messages?: OpenAiMessage[] };
        // A run in another form is taken in the OpenAI form that the store gives of it.
        const run = source.messages ?? toLlmMessages(await importedFrom(line));
        const { id } = await store.createSession("recorded");
        await store.addMessages(id, fromLlmMessages(run));
        const read: AgentMessage[] = [];
        for await (const message of store.streamMessages(id)) read.push(message);
        expect(toLlmMessages(read)).toEqual(run);
        const { messages, omittedMessages } = await store.loadContext(id, { maxMessages: 1_000 });
        expect(toLlmMessages(messages)).toEqual(run);
        expect(omittedMessages).toBe(0n);
      }
    },
    120_000,
  );
});

async function importedFrom(line: string): Promise<AgentMessage[]> {
  const { id } = await store.createSession("imported");
  return await store.addMessages(id, readConversation(Buffer.from(line)).messages);
}
