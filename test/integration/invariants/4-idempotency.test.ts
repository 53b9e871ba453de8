// A request_id makes a write happen once: its answer is kept in the transaction of the write.
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentStoreError } from "../../../client/errors.js";
import { Role } from "../../../gen/agentstore/v1/messages.js";
import { assertCountersAgree } from "../../harness/counters.js";
import { withClient } from "../../harness/postgres.js";
import { holdSession, untilBlocked, untilQuiet } from "../../harness/postgres-watch.js";
import { type ServerPair, startServerPair } from "../../harness/server-pair.js";
import { failureOf, newMessage, type RequestOf, type RpcName } from "../../harness/stubs.js";

type Write = Extract<
  RpcName,
  "createSession" | "updateSession" | "deleteSession" | "addMessage" | "addMessages"
>;

let pair: ServerPair;
let conversationId: bigint;

beforeEach(async () => {
  pair = await startServerPair();
  conversationId = await pair.createSession(2);
});

afterEach(() => pair.stop());

test.each<[Write, (id: bigint) => RequestOf<Write>]>([
  ["createSession", () => ({ modelId: "new-model", title: "title", metadata: { a: 1 } })],
  ["updateSession", (id) => ({ session: sessionWith(id, "new title"), updateMask: ["title"] })],
  ["deleteSession", (id) => ({ conversationId: id })],
  ["addMessage", (id) => ({ conversationId: id, message: newMessage({ content: "once" }) })],
  [
    "addMessages",
    (id) => ({ conversationId: id, messages: [newMessage(), newMessage({ content: "\0" })] }),
  ],
])("%s, 20 times at once through two servers, happens once", async (name, requestFor) => {
  const request = { ...requestFor(conversationId), requestId: "the same" };
  const before = await rows();
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, n) => pair.both[n % 2]!.call(name, request)),
  );
  const written = answers.filter(({ replayed }) => !replayed);
  expect(written).toHaveLength(1);
  for (const answer of answers) {
    expect({ ...answer, replayed: false }).toEqual({ ...written[0], replayed: false });
  }
  const after = await rows();
  const growth = {
    createSession: { sessions: 1, messages: 0, requests: 1 },
    updateSession: { sessions: 0, messages: 0, requests: 1 },
    deleteSession: { sessions: -1, messages: -2, requests: 1 },
    addMessage: { sessions: 0, messages: 1, requests: 1 },
    addMessages: { sessions: 0, messages: 2, requests: 1 },
  }[name];
  expect(difference(after, before)).toEqual(growth);
  await assertCountersAgree(pair.databaseUrl);

  // Much later, through the other server, it still is the first answer.
  const late = await pair.two.call(name, request);
  expect(late).toEqual({ ...written[0], replayed: true });
  const other = { ...request, ...anotherBody(name, conversationId) };
  if (name !== "deleteSession") {
    const refused = await failureOf(pair.one.call(name, other));
    expect(refused).toMatchObject({ code: "INVALID_ARGUMENT", reason: "REQUEST_ID_REUSED" });
    expect(refused.violations.map(({ field }) => field)).toEqual(["request_id"]);
  }
  expect(await rows()).toEqual(after);
});

test("of 20 different requests under one request_id, one is written and 19 refused", async () => {
  const calls = Array.from({ length: 20 }, (_, n) =>
    pair.both[n % 2]!.call("addMessage", {
      conversationId,
      message: newMessage({ content: `number ${n}` }),
      requestId: "the same",
    }).then(
      () => "written",
      (error: AgentStoreError) => error.reason,
    ),
  );
  const outcomes = await Promise.all(calls);
  expect(outcomes.filter((outcome) => outcome === "written")).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === "REQUEST_ID_REUSED")).toHaveLength(19);
  expect(await rows()).toMatchObject({ messages: 3, requests: 1 });
});

test("a request_id is one over all RPCs of a session", async () => {
  const message = newMessage({ content: "x" });
  await pair.one.call("addMessage", { conversationId, message, requestId: "r" });
  for (const call of [
    () => pair.one.call("addMessages", { conversationId, messages: [message], requestId: "r" }),
    () => pair.one.call("deleteSession", { conversationId, requestId: "r" }),
    () =>
      pair.one.call("updateSession", {
        session: sessionWith(conversationId, "t"),
        updateMask: ["title"],
        requestId: "r",
      }),
  ]) {
    expect((await failureOf(call())).reason).toBe("REQUEST_ID_REUSED");
  }
  expect(await rows()).toEqual({ sessions: 1, messages: 3, requests: 1 });
});

test("the same request_id in two sessions means two requests", async () => {
  const other = await pair.createSession();
  for (const id of [conversationId, other]) {
    const request = { conversationId: id, message: newMessage({ content: "x" }), requestId: "r" };
    expect((await pair.one.call("addMessage", request)).replayed).toBe(false);
  }
});

test("a replay answers what was answered then, not what is true now", async () => {
  const create = { modelId: "gpt-4", title: "first", requestId: "create" };
  const created = await pair.one.call("createSession", create);
  const id = created.session!.id;
  const append = { conversationId: id, message: newMessage({ content: "a" }), requestId: "append" };
  const appended = await pair.one.call("addMessage", append);
  const update = { session: sessionWith(id, "second"), updateMask: ["title"], requestId: "update" };
  const updated = await pair.one.call("updateSession", update);
  await pair.one.call("updateSession", { ...update, session: sessionWith(id, "3"), requestId: "" });

  expect(await pair.two.call("createSession", create)).toEqual({ ...created, replayed: true });
  expect(await pair.two.call("addMessage", append)).toEqual({ ...appended, replayed: true });
  expect(await pair.two.call("updateSession", update)).toEqual({ ...updated, replayed: true });
});

test("a replay goes before an expected_last_seq that has become wrong by the write itself", async () => {
  const request = {
    conversationId,
    message: newMessage({ role: Role.ASSISTANT }),
    requestId: "r",
    expectedLastSeq: 2n,
  };
  const first = await pair.one.call("addMessage", request);
  expect(await pair.two.call("addMessage", request)).toEqual({ ...first, replayed: true });
});

test("what was rolled back leaves no answer behind", async () => {
  const append = (content: string, expectedLastSeq?: bigint) => ({
    conversationId,
    message: newMessage({ content }),
    requestId: "r",
    expectedLastSeq,
  });
  const before = await rows();
  const mismatch = await failureOf(pair.one.call("addMessage", append("mismatch", 77n)));
  expect(mismatch).toMatchObject({ code: "ABORTED", reason: "LAST_SEQ_MISMATCH" });
  expect(await rows()).toEqual(before);

  await withClient(pair.databaseUrl, (client) =>
    client.query("ALTER TABLE conversation_messages ADD CHECK (content <> 'refused')"),
  );
  const refused = await failureOf(pair.one.call("addMessage", append("refused")));
  expect(refused.reason).toBe("SCHEMA_CONFLICT");
  expect(await rows()).toEqual(before);

  const lock = await holdSession(pair.databaseUrl, conversationId);
  const abort = new AbortController();
  const call = pair.one.call("addMessage", append("cancelled"), { signal: abort.signal });
  const failure = failureOf(call);
  await untilBlocked(pair.databaseUrl);
  abort.abort();
  expect((await failure).code).toBe("CANCELLED");
  await untilQuiet(pair.databaseUrl);
  await lock.release();
  expect(await rows()).toEqual(before);

  // So the request_id is still free, for whatever body.
  expect((await pair.two.call("addMessage", append("written"))).replayed).toBe(false);
});

function sessionWith(id: bigint, title: string) {
  return {
    id,
    title,
    tags: [] as string[],
    ownerId: "",
  } as unknown as RequestOf<"updateSession">["session"];
}

function anotherBody(name: Write, id: bigint): object {
  switch (name) {
    case "createSession":
      return { title: "another" };
    case "updateSession":
      return { session: sessionWith(id, "another") };
    case "addMessage":
      return { message: newMessage({ content: "once", timestampMs: 1n }) };
    default:
      return { expectedLastSeq: 2n };
  }
}

interface Rows {
  sessions: number;
  messages: number;
  requests: number;
}

async function rows(): Promise<Rows> {
  return await withClient(pair.databaseUrl, async (client) => {
    const { rows } = await client.query<Rows>(
      `SELECT (SELECT count(*)::int FROM conversations) AS sessions,
              (SELECT count(*)::int FROM conversation_messages) AS messages,
              ((SELECT count(*) FROM conversation_requests)
                + (SELECT count(*) FROM tenant_requests))::int AS requests`,
    );
    return rows[0]!;
  });
}

function difference(after: Rows, before: Rows): Rows {
  return {
    sessions: after.sessions - before.sessions,
    messages: after.messages - before.messages,
    requests: after.requests - before.requests,
  };
}
