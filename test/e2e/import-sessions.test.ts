// ImportSessions: what comes back, what is refused and where, and what a stream that was cut leaves.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { expectFault, failure } from "./faults.js";
import { uniqueModel, userMessage, useStore } from "./store.js";
import { exportLines, importText, jsonl } from "./transfers.js";

const store = useStore();

type Line = Record<string, Record<string, unknown>>;

const HEADER = { header: { schemaVersion: 1 } };
const TIME = "2024-02-29T12:00:00.123Z";

function session(fields: object = {}) {
  return {
    session: {
      id: "7",
      modelId: "m",
      revision: "9",
      createdAt: TIME,
      updatedAt: TIME,
      ...fields,
    },
  };
}

function message(seq: number, fields: object = {}, around: object = {}) {
  return {
    message: {
      message: {
        conversationId: "7",
        seq: String(seq),
        role: "ROLE_USER",
        content: `${seq}`,
        timestampMs: "1",
        revision: String(seq + 1),
        version: "1",
        ...fields,
      },
      change: "MESSAGE_CHANGE_APPENDED",
      changedBy: "alice",
      changedAt: TIME,
      ...around,
    },
  };
}

function version(seq: number, number: number, fields: object = {}) {
  return { version: message(seq, { version: String(number), ...fields }).message };
}

function end(fields: object = {}) {
  return { end: { conversationId: "7", ...fields } };
}

/** An export with the ids, and what only this store knows, taken out. */
function plain(lines: Line[]): unknown[] {
  const ids = new Map<unknown, number>();
  const nth = (id: unknown) => ids.get(id) ?? ids.set(id, ids.size).get(id);
  for (const line of lines) if (line.session) nth(line.session.id);
  return lines
    .filter((line) => !line.header)
    .map((line) => {
      const read: unknown = JSON.parse(JSON.stringify(line), (key, value: unknown) => {
        if (key === "conversationId") return nth(value);
        return key === "id" && typeof value === "string" && /^\d+$/.test(value) ? undefined : value;
      });
      return read;
    });
}

describe("a round trip", () => {
  test("gives equal sessions: messages, versions, state, snapshots, labels, parents, times", async () => {
    const modelId = uniqueModel();
    const conversationId = await store.newSession({
      modelId,
      title: "A title 漢字",
      ownerId: "owner",
      tags: ["b", "a"],
      metadata: { a: [1, null, { b: "=1" }] },
      expiresAt: new Date("2099-01-01T00:00:00.001Z"),
    });
    await store.call("addMessages", {
      conversationId,
      messages: [
        { role: Role.SYSTEM, content: "\0 \u2028 👩‍👩‍👧", timestampMs: 0n },
        {
          role: Role.ASSISTANT,
          name: "n\0",
          toolCalls: [{ id: "c", name: "f", arguments: ' {"x": 1.00}\n' }],
          payload: '{"exact":  1.0}\0',
          payloadType: "p",
          usage: { inputTokens: 5n, costMicros: 10n ** 15n },
        },
        { role: Role.TOOL, content: "", toolCallId: "c", metadata: {} },
        userMessage("to be deleted"),
      ],
    });
    const edited = { conversationId, seq: 1n, content: "edited \0" };
    await store.call("updateMessage", { message: edited, updateMask: ["content"] });
    await store.call("deleteMessage", { conversationId, seq: 4n });
    await store.call("updateState", { conversationId, state: ' {"exact": 1.00}' });
    await store.call("createSnapshot", { conversationId, name: "first" });
    await store.call("updateState", { conversationId, state: "[]" });
    await store.call("revertMessage", { conversationId, seq: 1n, version: 1n });
    await store.call("forkSession", { conversationId, atSeq: 2n });
    await store.newSession({ modelId });

    const before = await exportLines(store, { modelId });
    const importId = randomUUID();
    const { sessions, messages } = await importText(store, jsonl(before), {
      importId,
      chunkBytes: 37,
    });
    expect(sessions.map(({ replayed }) => replayed)).toEqual([false, false, false]);
    expect(messages).toBe(6n);
    const conversationIds = sessions.map((one) => one.conversationId);
    const after = await exportLines(store, { conversationIds });
    expect(plain(after)).toEqual(plain(before));
    expect(before.map((line) => Object.keys(line)[0])).toContain("snapshot");

    // And by all other ways to read it.
    const [copy, fork] = conversationIds as [bigint, bigint];
    for (const [name, request] of [
      ["getSession", {}],
      ["getSessionStats", {}],
      ["getMessages", { showDeleted: true }],
    ] as const) {
      const read = async (id: bigint) =>
        JSON.parse(
          JSON.stringify(
            await store.call(name, { conversationId: id, ...request }),
            (key, value: unknown) =>
              typeof value === "bigint" ? (/[iI]d$/.test(key) ? "id" : String(value)) : value,
          ),
        ) as unknown;
      expect(await read(copy)).toEqual(await read(conversationId));
    }
    const { session: forked } = await store.call("getSession", { conversationId: fork });
    expect(forked!.parent).toEqual({ conversationId: copy, seq: 2n });
    const listed = await store.call("listSessions", { modelId, filter: { allTags: ["a", "b"] } });
    expect(listed.sessions.map((one) => one.session!.id)).toContain(copy);
    // It goes on as the other one would.
    const appended = await store.call("addMessage", {
      conversationId: copy,
      message: userMessage("on"),
      expectedLastSeq: 4n,
    });
    expect(appended.message!.seq).toBe(5n);
  });

  test("of a session without messages, and of what is named by no model yet", async () => {
    const modelId = uniqueModel();
    const lines = [HEADER, session({ modelId }), end()];
    const { sessions } = await importText(store, jsonl(lines), { importId: randomUUID() });
    const { session: imported } = await store.call("getSession", {
      conversationId: sessions[0]!.conversationId,
    });
    expect(imported).toMatchObject({ modelId, revision: 9n, createdAt: new Date(TIME) });
  });
});

describe("the same import again", () => {
  const lines = [HEADER, session({ lastSeq: "2" }), message(1), message(2), end({ messages: "2" })];

  test("writes nothing and answers with the same sessions", async () => {
    const importId = randomUUID();
    const first = await importText(store, jsonl(lines), { importId });
    const again = await importText(store, jsonl(lines), { importId });
    expect(again).toEqual({
      sessions: [{ ...first.sessions[0]!, replayed: true }],
      messages: 0n,
    });
  });

  test("at the same time imports once", async () => {
    const importId = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => importText(store, jsonl(lines), { importId })),
    );
    const sessions = answers.flatMap((answer) => answer.sessions);
    expect(new Set(sessions.map(({ conversationId }) => conversationId)).size).toBe(1);
    expect(sessions.filter(({ replayed }) => !replayed)).toHaveLength(1);
  });

  test("under another id imports once more; after DeleteSession, too", async () => {
    const importId = randomUUID();
    const one = (await importText(store, jsonl(lines), { importId })).sessions[0]!;
    const two = (await importText(store, jsonl(lines), { importId: randomUUID() })).sessions[0]!;
    expect(two.conversationId).not.toBe(one.conversationId);
    await store.call("deleteSession", { conversationId: one.conversationId });
    const three = (await importText(store, jsonl(lines), { importId })).sessions[0]!;
    expect(three).toMatchObject({ replayed: false });
  });

  test("with another content of a session is refused", async () => {
    const importId = randomUUID();
    await importText(store, jsonl(lines), { importId });
    const other = lines.with(2, message(1, { content: "other" }));
    const fault = await failure(importText(store, jsonl(other), { importId }));
    expectFault(fault, { reason: "REQUEST_ID_REUSED", fields: ["import_id"] });
  });
});

describe("a stream that is cut", () => {
  const text = "x".repeat(10_000);
  const sessions = (modelId: string) =>
    jsonl([
      HEADER,
      ...["1", "2", "3"].flatMap((id) => [
        session({ id, modelId, lastSeq: "50", revision: "99" }),
        ...Array.from({ length: 50 }, (_, index) =>
          message(index + 1, { conversationId: id, content: text }),
        ),
        end({ conversationId: id, messages: "50" }),
      ]),
    ]);

  async function imported(modelId: string): Promise<bigint[]> {
    const page = await store.call("listSessions", { modelId });
    return page.sessions.map(({ messageCount }) => messageCount);
  }

  test("by the end of its text leaves the sessions before it, whole, and names the line", async () => {
    const modelId = uniqueModel();
    const whole = sessions(modelId);
    const importId = randomUUID();
    const cut = whole.slice(0, Math.floor(whole.length / 2));
    const fault = await failure(importText(store, cut, { importId }));
    const line = String(cut.split("\n").length);
    expectFault(fault, {
      reason: "INVALID_IMPORT",
      fields: [`lines[${line}]`],
      metadata: { line, sessions: "1" },
    });
    expect(await imported(modelId)).toEqual([50n]);
    const rest = await importText(store, whole, { importId });
    expect(rest.sessions.map(({ replayed }) => replayed)).toEqual([true, false, false]);
    expect(await imported(modelId)).toEqual([50n, 50n, 50n]);
  });

  test("between two lines names the line that is missing", async () => {
    const whole = sessions(uniqueModel()).split("\n");
    const fault = await failure(
      importText(store, whole.slice(0, 20).join("\n"), { importId: randomUUID() }),
    );
    expectFault(fault, { reason: "INVALID_IMPORT", fields: ["lines[21]"] });
    expect(fault.text).toContain("in the middle of session 1");
  });

  test("by its caller going away leaves whole sessions", async () => {
    const modelId = uniqueModel();
    const importId = randomUUID();
    const whole = sessions(modelId);
    // The first session is there while the second one is still on its way.
    const until = async () => {
      await expect.poll(() => imported(modelId), { timeout: 30_000 }).toEqual([50n]);
    };
    const cut = whole.slice(0, Math.floor(whole.length / 2));
    const fault = await failure(importText(store, cut, { importId, until }));
    expect(fault.code).toBe("CANCELLED");
    expect(await imported(modelId)).toEqual([50n]);
    await importText(store, whole, { importId });
    expect(await imported(modelId)).toEqual([50n, 50n, 50n]);
  });
});

describe("refusals name the line and its field", () => {
  const one = (...lines: object[]) => [HEADER, session({ lastSeq: "1" }), ...lines];
  const whole = one(message(1), end({ messages: "1" }));

  test.each<[string, unknown[], string]>([
    ["no header", [session(), end()], "lines[1]"],
    ["a later schema", [{ header: { schemaVersion: 2 } }], "lines[1].header.schema_version"],
    ["no object", [HEADER, []], "lines[2]"],
    ["null", [HEADER, null], "lines[2]"],
    ["an empty object", [HEADER, {}], "lines[2]"],
    ["two members", [HEADER, { ...session(), ...end() }], "lines[2]"],
    ["an unknown member", [HEADER, { session: { ...session().session, x: 1 } }], "lines[2]"],
    ["a number for a text", [HEADER, session({ title: 5 })], "lines[2]"],
    ["no number", [HEADER, session({ revision: "x" })], "lines[2]"],
    ["no time", [HEADER, session({ createdAt: "yesterday" })], "lines[2]"],
    ["no model", [HEADER, session({ modelId: "" })], "lines[2].session.model_id"],
    ["no id", [HEADER, session({ id: "0" })], "lines[2].session.id"],
    ["no revision", [HEADER, session({ revision: "0" })], "lines[2].session.revision"],
    ["no created_at", [HEADER, session({ createdAt: undefined })], "lines[2].session.created_at"],
    [
      "a negative policy",
      [HEADER, session({ snapshotPolicy: { everyMessages: "-1" } })],
      "lines[2].session.snapshot_policy.every_messages",
    ],
    ["a long tag", [HEADER, session({ tags: ["t".repeat(10_000)] })], "lines[2].session.tags[0]"],
    [
      "1,000 tags",
      [HEADER, session({ tags: Array.from({ length: 1_000 }, (_, n) => `${n}`) })],
      "lines[2].session.tags",
    ],
    [
      "metadata nested 100 deep",
      [HEADER, session({ metadata: JSON.parse(`${'{"a":'.repeat(100)}1${"}".repeat(100)}`) })],
      "lines[2]",
    ],
    [
      "metadata nested 40 deep",
      [HEADER, session({ metadata: JSON.parse(`${'{"a":'.repeat(40)}1${"}".repeat(40)}`) })],
      "lines[2].session.metadata",
    ],
    ["a message of no session", [HEADER, message(1)], "lines[2]"],
    ["an unknown role", one(message(1, { role: "ROLE_KING" })), "lines[3]"],
    ["no role", one(message(1, { role: undefined })), "lines[3].message.message.role"],
    ["a gap", one(message(2)), "lines[3].message.message.seq"],
    ["seq 1 twice", one(message(1), message(1)), "lines[4].message.message.seq"],
    [
      "a message of another session",
      one(message(1, { conversationId: "8" })),
      "lines[3].message.message.conversation_id",
    ],
    [
      "a revision beyond the session's",
      one(message(1, { revision: "10" })),
      "lines[3].message.message.revision",
    ],
    ["no version", one(message(1, { version: "0" })), "lines[3].message.message.version"],
    ["no change", one(message(1, {}, { change: 0 })), "lines[3].message.change"],
    [
      "tool calls of a user",
      one(message(1, { toolCalls: [{ id: "c" }] })),
      "lines[3].message.message.tool_calls",
    ],
    [
      "a version that is not before the message's",
      one(message(1), version(1, 1)),
      "lines[4].version.message.version",
    ],
    [
      "versions out of order",
      one(message(1, { version: "3" }), version(1, 2), version(1, 1)),
      "lines[5].version.message.version",
    ],
    [
      "a message after versions",
      one(message(1, { version: "2" }), version(1, 1), message(2)),
      "lines[5]",
    ],
    [
      "a state that is no JSON",
      one(message(1), {
        state: { conversationId: "7", state: "{", revision: "1", updatedAt: TIME },
      }),
      "lines[4].state.state",
    ],
    [
      "a snapshot beyond the session",
      one(message(1), {
        snapshot: { conversationId: "7", revision: "2", lastSeq: "2", createdAt: TIME },
      }),
      "lines[4].snapshot.last_seq",
    ],
    ["an end too early", one(end({ messages: "1" })), "lines[3].end.messages"],
    ["an end that counts wrong", one(message(1), end({ messages: "2" })), "lines[4].end.messages"],
    ["an end without its session", [HEADER, end()], "lines[2]"],
    ["a session in a session", one(session()), "lines[3]"],
    [
      "a wrong line after a whole session",
      [...whole, session({ id: "-1" })],
      "lines[5].session.id",
    ],
  ])("%s", async (_, lines, field) => {
    const fault = await failure(importText(store, jsonl(lines), { importId: randomUUID() }));
    const line = /\d+/.exec(field)![0];
    expectFault(fault, { reason: "INVALID_IMPORT", fields: [field], metadata: { line } });
    expect(fault.text).toContain(`line ${line}: `);
  });

  test.each<[string, string | Buffer, number]>([
    ["no JSON", '{"header":{"schemaVersion":1}}\n{"session":\n', 2],
    ["a depth that no parser stands", "[".repeat(1_000_000), 1],
    ["no UTF-8", Buffer.from([0x7b, 0xff, 0x7d, 0x0a]), 1],
    ["half a surrogate pair", '{"header":{"schemaVersion":1}}\n{"session":{"title":"\\ud800"}}', 2],
  ])("%s", async (_, text, line) => {
    const fault = await failure(importText(store, text, { importId: randomUUID() }));
    expectFault(fault, { reason: "INVALID_IMPORT", fields: [`lines[${line}]`] });
  });

  test("and quote nothing of its content", async () => {
    const secret = "the secret of the session";
    for (const line of [
      message(1, { role: secret }),
      message(1, { seq: secret }),
      message(1, { content: { [secret]: 1 } }),
      message(1, { name: secret.repeat(100) }),
    ]) {
      const fault = await failure(importText(store, jsonl(one(line)), { importId: randomUUID() }));
      expect(fault.reason).toBe("INVALID_IMPORT");
      expect(fault.everything).not.toContain(secret);
    }
  });

  test("a message over the limit", async () => {
    const lines = one(message(1, { content: "x".repeat(4_200_000) }));
    const fault = await failure(importText(store, jsonl(lines), { importId: randomUUID() }));
    expectFault(fault, { reason: "MESSAGE_TOO_LARGE", fields: ["lines[3].message.message"] });
  });

  test.each([
    ["no import_id", ""],
    ["a long import_id", "i".repeat(129)],
    ["U+0000 in the import_id", "\0"],
  ])("%s", async (_, importId) => {
    const fault = await failure(importText(store, jsonl(whole), { importId }));
    expectFault(fault, { reason: "INVALID_FIELD", fields: ["import_id"] });
  });

  test("a chunk over the limit", async () => {
    const text = " ".repeat(4 * 1024 * 1024 + 1);
    const options = { importId: randomUUID(), chunkBytes: text.length };
    const fault = await failure(importText(store, text, options));
    expectFault(fault, { reason: "INVALID_FIELD", fields: ["chunk"] });
  });

  test("a stream without a message", async () => {
    const empty = new Promise((resolve, reject) => {
      const call = store.client.importSessions(store.metadata(), (error, answer) => {
        if (error) reject(error);
        else resolve(answer);
      });
      call.end();
    });
    const fault = await failure(empty);
    expectFault(fault, { reason: "INVALID_FIELD", fields: ["import_id"] });
  });
});
