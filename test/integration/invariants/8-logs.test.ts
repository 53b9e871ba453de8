// No log holds content: only ids, sizes, counts, durations and codes, one line for each call.
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AgentStoreError } from "../../../client/errors.js";
import { type NewMessage, Role } from "../../../gen/agentstore/v1/messages.js";
import { databaseUrl } from "../../harness/chaos.js";
import { withClient } from "../../harness/postgres.js";
import { holdLock, until, untilBlocked, untilQuiet } from "../../harness/postgres-watch.js";
import { type SpawnedServer, spawnServer } from "../../harness/server.js";
import { newMessage, type RequestOf, Stubs } from "../../harness/stubs.js";

const MARK = "SECRETMARK";

let dataDir: string;
let server: SpawnedServer;
let stubs: Stubs;
let made = 0;
const calls: { callId: string; method: string; code: string }[] = [];

interface Line {
  msg: string;
  call_id?: string;
  method?: string;
  code?: string;
  duration_ms?: number;
  conversation_id?: number;
  [field: string]: unknown;
}

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "logs-"));
  // The data directory is to be empty, or Postgres' own user may not enter it.
  const tokens = `${dataDir}.tokens`;
  const token = `${MARK}-token`;
  await writeFile(tokens, `tenant-a alice ${createHash("sha256").update(token).digest("hex")}\n`);
  server = await spawnServer(["--data-dir", dataDir, "--log-level", "trace", "--tokens", tokens]);
  stubs = new Stubs(server.address, { token });
});

afterAll(async () => {
  stubs?.close();
  await server?.end("SIGTERM");
  await rm(dataDir, { recursive: true });
  await rm(`${dataDir}.tokens`);
});

// Makes a call under an id of its own and remembers how it ended.
async function call<T>(
  method: string,
  make: (options: { callId: string }) => Promise<T>,
): Promise<T | AgentStoreError> {
  const callId = `call-${made++}`;
  const outcome = await make({ callId }).then(
    (answer) => ({ answer, code: "OK" }),
    (error: AgentStoreError) => ({ answer: error, code: error.code as string }),
  );
  calls.push({ callId, method, code: outcome.code });
  return outcome.answer;
}

function markedMessage(role: Role, more: Partial<NewMessage> = {}): NewMessage {
  return newMessage({
    role,
    content: `${MARK} content\n    at ${MARK} (like a stack)\0`,
    name: `${MARK} name`,
    toolCalls:
      role === Role.ASSISTANT
        ? [{ id: `${MARK} id`, name: `${MARK} tool`, arguments: `{"${MARK}": 1}` }]
        : [],
    toolCallId: role === Role.TOOL ? `${MARK} call` : "",
    payload: `{"${MARK}": "payload"}`,
    payloadType: `${MARK}.type`,
    metadata: { [`${MARK} key`]: [`${MARK} value`] },
    ...more,
  });
}

function markedFields() {
  return {
    title: `${MARK} title`,
    ownerId: `${MARK} owner`,
    tags: [`${MARK} tag`],
    metadata: { [`${MARK} key`]: `${MARK} value` },
  };
}

function markedSession(id: bigint) {
  return { id, ...markedFields() } as unknown as RequestOf<"updateSession">["session"];
}

async function everyRpc(): Promise<bigint> {
  const create = { modelId: "gpt-4", ...markedFields(), requestId: `${MARK} request` };
  const created = await call("CreateSession", (o) => stubs.call("createSession", create, o));
  const conversationId = (created as { session: { id: bigint } }).session.id;
  const session = markedSession(conversationId);
  const updateMask = ["title", "owner_id", "tags", "metadata"];
  const requestId = `${MARK} request`;
  const message = markedMessage(Role.ASSISTANT);
  const messages = [message, markedMessage(Role.TOOL), markedMessage(Role.USER)];
  const query = `${MARK} content`;
  await call("UpdateSession", (o) => stubs.call("updateSession", { session, updateMask }, o));
  await call("AddMessage", (o) =>
    stubs.call("addMessage", { conversationId, message, requestId }, o),
  );
  await call("AddMessage", (o) =>
    stubs.call("addMessage", { conversationId, message, requestId }, o),
  );
  await call("AddMessages", (o) => stubs.call("addMessages", { conversationId, messages }, o));
  await call("GetSession", (o) => stubs.call("getSession", { conversationId }, o));
  await call("ListSessions", (o) => stubs.call("listSessions", { modelId: "gpt-4" }, o));
  await call("GetMessage", (o) => stubs.call("getMessage", { conversationId, seq: 1n }, o));
  await call("GetMessages", (o) => stubs.call("getMessages", { conversationId }, o));
  await call("StreamMessages", (o) => stubs.readStream({ conversationId, pageSize: 1 }, o));
  await call("SearchMessages", (o) => stubs.call("searchMessages", { query }, o));
  await call("GetSessionStats", (o) => stubs.call("getSessionStats", { conversationId }, o));
  const lease = { conversationId, holder: `${MARK} holder` };
  await call("AcquireLease", (o) => stubs.call("acquireLease", lease, o));
  await call("AcquireLease", (o) => stubs.call("acquireLease", lease, o));
  const fenced = { conversationId, fencingToken: 1n };
  await call("RenewLease", (o) => stubs.call("renewLease", fenced, o));
  await call("LoadContext", (o) => stubs.call("loadContext", { conversationId }, o));
  await call("RepairSession", (o) => stubs.call("repairSession", fenced, o));
  await call("ReleaseLease", (o) => stubs.call("releaseLease", fenced, o));
  return conversationId;
}

async function refusals(conversationId: bigint): Promise<void> {
  const long = MARK.repeat(500);
  const append = (message: NewMessage, more: RequestOf<"addMessage"> = {}) =>
    call("AddMessage", (o) => stubs.call("addMessage", { conversationId, message, ...more }, o));
  await append(markedMessage(Role.USER, { name: long }));
  await append(markedMessage(Role.UNSPECIFIED));
  await append(markedMessage(Role.TOOL, { metadata: { [`${MARK}\0`]: `${MARK}\0` } }));
  await append(markedMessage(Role.USER, { content: MARK.repeat(500_000) }));
  await append(markedMessage(Role.USER), { requestId: `${MARK} request` });
  await append(markedMessage(Role.USER), { expectedLastSeq: 99n });
  await append(markedMessage(Role.USER), { conversationId: 99_999n });
  await call("CreateSession", (o) =>
    stubs.call("createSession", { modelId: "m", title: `${MARK}\0`, tags: [long] }, o),
  );
  await call("UpdateSession", (o) => {
    const session = markedSession(conversationId);
    return stubs.call("updateSession", { session, updateMask: [`${MARK}_mask`] }, o);
  });
  await call("GetMessages", (o) =>
    stubs.call("getMessages", { conversationId, pageToken: `${MARK}-token` }, o),
  );
  await call("SearchMessages", (o) => stubs.call("searchMessages", { query: `${MARK}\0` }, o));
  const stranger = new Stubs(server.address, { token: `${MARK}-stranger` });
  await call("GetSession", (o) => stranger.call("getSession", { conversationId }, o));
  stranger.close();
}

// What Postgres says of these quotes the row, the value or the whole statement.
async function databaseErrors(conversationId: bigint): Promise<void> {
  const message = markedMessage(Role.ASSISTANT);
  const append = () =>
    call("AddMessage", (o) => stubs.call("addMessage", { conversationId, message }, o));
  const afterwards = async (doing: string, undoing: string, code: string) => {
    await withClient(databaseUrl(dataDir), (client) => client.query(doing));
    await append();
    expect(calls.at(-1)?.code, doing).toBe(code);
    await withClient(databaseUrl(dataDir), (client) => client.query(undoing));
  };
  const table = "ALTER TABLE conversation_messages";
  await afterwards(
    `${table} ADD CONSTRAINT mine CHECK (content NOT LIKE '${MARK}%') NOT VALID`,
    `${table} DROP CONSTRAINT mine`,
    "FAILED_PRECONDITION",
  );
  await afterwards(`${table} RENAME payload TO old`, `${table} RENAME old TO payload`, "INTERNAL");
  await afterwards(
    `CREATE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'not %', NEW.content USING DETAIL = NEW.content; END $$;
     CREATE TRIGGER complain BEFORE INSERT ON conversation_messages
       FOR EACH ROW EXECUTE FUNCTION complain()`,
    "DROP TRIGGER complain ON conversation_messages",
    "INTERNAL",
  );
  await afterwards(
    `${table} ADD copy int; CREATE OR REPLACE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql
       AS $$ BEGIN NEW.copy := NEW.content; RETURN NEW; END $$;
     CREATE TRIGGER complain BEFORE INSERT ON conversation_messages
       FOR EACH ROW EXECUTE FUNCTION complain()`,
    "DROP TRIGGER complain ON conversation_messages",
    "INTERNAL",
  );
}

async function cutOff(conversationId: bigint): Promise<void> {
  const url = databaseUrl(dataDir);
  const lock = await holdLock(url, "LOCK TABLE conversation_messages IN ACCESS EXCLUSIVE MODE");
  const message = markedMessage(Role.USER);
  const abort = new AbortController();
  const cut = [
    call("AddMessage", (o) =>
      stubs.call("addMessage", { conversationId, message }, { ...o, signal: abort.signal }),
    ),
    call("AddMessage", (o) =>
      stubs.call("addMessage", { conversationId, message }, { ...o, deadlineMs: 300 }),
    ),
  ];
  await untilBlocked(url);
  abort.abort();
  await Promise.all(cut);
  await untilQuiet(url);
  await lock.release();
}

function lines(): Line[] {
  const text = server.output().split("\n");
  return text.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Line);
}

test("whatever is called and however it fails, its content is in no log", async () => {
  const conversationId = await everyRpc();
  await refusals(conversationId);
  await cutOff(conversationId);
  const postgresLog = await readFile(join(dataDir, "postgres.log"), "utf8");
  await databaseErrors(conversationId);
  const remove = { conversationId, requestId: `${MARK} delete` };
  await call("DeleteSession", (o) => stubs.call("deleteSession", remove, o));
  expect(new Set(calls.map(({ method }) => method)).size).toBe(17);

  // One completion line for each call, which says how it went.
  const ended = await until("every call has its line", () => {
    const found = lines().filter(({ msg }) => msg === "call");
    return found.length >= calls.length && found;
  });
  const told = ended.map(({ call_id, method, code }) => ({ callId: call_id, method, code }));
  const byId = (a: { callId?: string }, b: { callId?: string }) => (a.callId! < b.callId! ? -1 : 1);
  expect(told.sort(byId)).toEqual(calls.toSorted(byId));
  for (const line of ended) {
    expect(line.duration_ms).toBeGreaterThan(0);
    expect(line.request_bytes).toBeTypeOf("number");
    expect(line.peer).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(["number", "undefined"]).toContain(typeof line.conversation_id);
    const known = line.code !== "UNAUTHENTICATED";
    expect([line.tenant, line.principal]).toEqual(
      known ? ["tenant-a", "alice"] : ["default", "anonymous"],
    );
  }
  expect(ended.find(({ method }) => method === "AddMessages")).toMatchObject({
    conversation_id: Number(conversationId),
    messages: 3,
    last_seq: 4,
  });
  const incidents = ended.filter(({ code }) => code === "INTERNAL");
  expect(incidents).toHaveLength(3);
  for (const { incident_id, err } of incidents) {
    expect(incident_id).toMatch(/^[0-9a-f-]{36}$/);
    expect(err).toMatchObject({ type: "DatabaseError", code: expect.any(String) });
  }

  expect(server.output()).not.toContain(MARK);
  expect(postgresLog).toContain("database system is ready");
  expect(postgresLog).not.toContain(MARK);
});
