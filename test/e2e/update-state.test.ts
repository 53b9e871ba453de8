// GetState and UpdateState: a document comes back byte for byte, and etags tell writes apart.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { AgentState, UpdateStateRequest } from "../../gen/agentstore/v1/state.js";
import { failure } from "./faults.js";
import { type Part, userMessage, useStore } from "./store.js";

const store = useStore();

async function get(conversationId: bigint): Promise<AgentState> {
  return (await store.call("getState", { conversationId })).state!;
}

async function put(conversationId: bigint, state: string, fields: Part<UpdateStateRequest> = {}) {
  return await store.call("updateState", { conversationId, state, ...fields });
}

async function revisionOf(conversationId: bigint): Promise<bigint> {
  return (await store.call("getSession", { conversationId })).session!.revision;
}

test("there is no state until one is written", async () => {
  const id = await store.newSession();
  expect(await get(id)).toEqual({
    conversationId: id,
    state: "",
    etag: "",
    revision: 0n,
    updatedAt: undefined,
  });
});

test.each([
  ["an empty object", "{}"],
  ["white space, order and repeats of keys", ' {"b" : 1,\r\n\t"a":2, "b":[ ] } \n'],
  ["numbers that no double holds", '{"id":12345678901234567890,"x":1.10,"e":1E400,"z":-0}'],
  ["escapes as they were written", '{"a":"\\u0041\\u0000\\ud83d\\ude00\\/ \\ud800"}'],
  ["all Unicode", JSON.stringify({ "é e\u0301": "👩‍👩‍👧‍👦\u2028\uFFFF\u{10FFFF}" })],
  ["a text", '"just text"'],
  ["a number", "0"],
  ["null", "null"],
  ["an array", "[1,[2,[3]]]"],
  ["a key that objects have anyway", '{"__proto__":1,"constructor":2}'],
  ["what is nested 10,000 deep", `${"[".repeat(10_000)}${"]".repeat(10_000)}`],
  ["4 MiB", JSON.stringify("é".repeat(2 * 1024 * 1024 - 1))],
])("keeps %s byte for byte", async (_, state) => {
  const id = await store.newSession();
  await put(id, state);
  expect((await get(id)).state === state).toBe(true);
});

test("a write raises the session's revision and answers the etag that GetState shows", async () => {
  const id = await store.newConversation(2);
  const before = await revisionOf(id);
  const { state: written, replayed } = await put(id, '{"n":1}');
  expect(replayed).toBe(false);
  expect(await revisionOf(id)).toBe(before + 1n);
  const state = await get(id);
  expect(state).toEqual({ ...written, state: '{"n":1}' });
  expect(written).toMatchObject({ conversationId: id, state: "", revision: before + 1n });
  expect(state.etag).not.toBe("");
  const { session } = await store.call("getSession", { conversationId: id });
  expect(session).toMatchObject({ lastSeq: 2n, updatedAt: expect.any(Date) });
  expect(session!.updatedAt!.getTime()).toBeGreaterThanOrEqual(state.updatedAt!.getTime());
});

describe("expected_etag", () => {
  test("lets a write through that knows the present state", async () => {
    const id = await store.newSession();
    const first = await put(id, "1", { expectedEtag: "" });
    const second = await put(id, "2", { expectedEtag: first.state!.etag });
    expect(second.state!.etag).not.toBe(first.state!.etag);
    expect(await get(id)).toMatchObject({ state: "2", etag: second.state!.etag });
  });

  test("refuses a write that does not, and names the current one", async () => {
    const id = await store.newSession();
    const missing = { conversation_id: String(id), etag: "" };
    const some = { conversationId: id, state: "0", expectedEtag: "AAAAAAAAAAAAAAAA" };
    await store.refuses("updateState", some, { reason: "ETAG_MISMATCH", metadata: missing });
    const first = (await put(id, "1")).state!.etag;
    const second = (await put(id, "1")).state!.etag;
    for (const expectedEtag of ["", first, `${second}x`, second.toLowerCase() + second]) {
      const request = { conversationId: id, state: "9", expectedEtag };
      const metadata = { conversation_id: String(id), etag: second };
      const fault = await store.refuses("updateState", request, {
        reason: "ETAG_MISMATCH",
        metadata,
      });
      expect(fault.code).toBe("ABORTED");
    }
    expect(await get(id)).toMatchObject({ state: "1", etag: second });
  });

  test("knows no etag of another session", async () => {
    const [one, two] = [await store.newSession(), await store.newSession()];
    const { state } = await put(one, "1");
    await put(two, "1");
    const request = { conversationId: two, state: "2", expectedEtag: state!.etag };
    await store.refuses("updateState", request, { reason: "ETAG_MISMATCH" });
  });

  test.each(["", "present"])("lets exactly one of many racing writes win: %s", async (start) => {
    const id = await store.newSession();
    const expectedEtag = start === "" ? "" : (await put(id, '"start"')).state!.etag;
    const before = await revisionOf(id);
    const answers = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) => put(id, String(index), { expectedEtag })),
    );
    const winners = answers.flatMap((answer, index) =>
      answer.status === "fulfilled" ? [{ index, etag: answer.value.state!.etag }] : [],
    );
    expect(winners).toHaveLength(1);
    const { index, etag } = winners[0]!;
    expect(await get(id)).toMatchObject({ state: String(index), etag });
    expect(await revisionOf(id)).toBe(before + 1n);
  });
});

describe("with an append", () => {
  test("messages and state are written together", async () => {
    const id = await store.newConversation(1);
    const answer = await store.call("addMessages", {
      conversationId: id,
      messages: [userMessage("a"), userMessage("b")],
      state: { state: ' {"turn":1}', expectedEtag: "" },
    });
    const state = await get(id);
    expect(state).toMatchObject({ state: ' {"turn":1}', etag: answer.stateEtag });
    expect(state.revision).toBe(answer.messages.at(-1)!.revision);
    expect(await revisionOf(id)).toBe(state.revision);
    const next = await store.call("addMessage", {
      conversationId: id,
      message: userMessage("c"),
      state: { state: "[]", expectedEtag: answer.stateEtag },
    });
    expect(await get(id)).toMatchObject({ state: "[]", etag: next.stateEtag });
  });

  test("an append without one leaves the state as it is", async () => {
    const id = await store.newSession();
    const { state } = await put(id, "1");
    const { stateEtag } = await store.call("addMessage", {
      conversationId: id,
      message: userMessage("a"),
    });
    expect(stateEtag).toBe("");
    expect((await get(id)).etag).toBe(state!.etag);
    await put(id, "2", { expectedEtag: state!.etag });
  });

  test.each([
    ["a wrong etag", { state: { state: "9", expectedEtag: "no" } }, "ETAG_MISMATCH"],
    ["a wrong last_seq", { state: { state: "9" }, expectedLastSeq: 7n }, "LAST_SEQ_MISMATCH"],
  ])("%s writes neither", async (_, change, reason) => {
    const id = await store.newConversation(1);
    const { state } = await put(id, "1");
    const request = { conversationId: id, message: userMessage("a"), ...change };
    await store.refuses("addMessage", request, { reason });
    expect((await get(id)).etag).toBe(state!.etag);
    const { session } = await store.call("getSession", { conversationId: id });
    expect(session).toMatchObject({ lastSeq: 1n, revision: state!.revision });
  });

  test("a repeat answers the etag of then, and writes nothing", async () => {
    const id = await store.newSession();
    const request = {
      conversationId: id,
      message: userMessage("a"),
      state: { state: "1", expectedEtag: "" },
      requestId: randomUUID(),
    };
    const first = await store.call("addMessage", request);
    const later = await put(id, "2");
    expect(await store.call("addMessage", request)).toEqual({ ...first, replayed: true });
    expect(await get(id)).toMatchObject({ state: "2", etag: later.state!.etag });
    const other = { ...request, state: { ...request.state, state: "3" } };
    await store.refuses("addMessage", other, {
      reason: "REQUEST_ID_REUSED",
      fields: ["request_id"],
    });
  });

  test("of many at once that know the same state, one wins, and all others write nothing", async () => {
    const id = await store.newSession();
    const answers = await Promise.allSettled(
      Array.from({ length: 20 }, (_, index) =>
        store.call("addMessage", {
          conversationId: id,
          message: userMessage(String(index)),
          state: { state: String(index), expectedEtag: "" },
        }),
      ),
    );
    const won = answers.findIndex(({ status }) => status === "fulfilled");
    expect(answers.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const { messages } = await store.call("getMessages", { conversationId: id });
    expect(messages.map(({ content }) => content)).toEqual([String(won)]);
    expect((await get(id)).state).toBe(String(won));
  });

  test.each([
    [{ state: "" }, "state.state"],
    [{ state: "{" }, "state.state"],
    [{ state: `"${"a".repeat(4 * 1024 * 1024)}"` }, "state.state"],
    [{ state: "{}", expectedEtag: "e".repeat(129) }, "state.expected_etag"],
  ])("refuses %#", async (state, field) => {
    const id = await store.newSession();
    const expected = { reason: "INVALID_FIELD", fields: [field] };
    const one = { conversationId: id, message: userMessage("a"), state };
    await store.refuses("addMessage", one, expected);
    const several = { conversationId: id, messages: [userMessage("a")], state };
    await store.refuses("addMessages", several, expected);
    expect(await revisionOf(id)).toBe(1n);
  });
});

describe("request_id", () => {
  test("replays the first answer and writes nothing", async () => {
    const id = await store.newSession();
    const request = { conversationId: id, state: "1", expectedEtag: "", requestId: randomUUID() };
    const first = await store.call("updateState", request);
    await put(id, "2");
    expect(await store.call("updateState", request)).toEqual({ ...first, replayed: true });
    expect((await get(id)).state).toBe("2");
  });

  test("lets one of many identical requests at once write, whatever etag they expect", async () => {
    const id = await store.newSession();
    const request = { conversationId: id, state: "1", expectedEtag: "", requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => store.call("updateState", request)),
    );
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(new Set(answers.map(({ state }) => state!.etag)).size).toBe(1);
    expect(await revisionOf(id)).toBe(2n);
  });

  test.each([{ state: "2" }, { expectedEtag: "" }])("refuses another body: %j", async (change) => {
    const id = await store.newSession();
    const request = { conversationId: id, state: "1", requestId: randomUUID() };
    await store.call("updateState", request);
    const expected = { reason: "REQUEST_ID_REUSED", fields: ["request_id"] };
    await store.refuses("updateState", { ...request, ...change }, expected);
  });
});

describe("refusals", () => {
  test.each([
    [{ conversationId: 0n }, ["conversation_id"]],
    [{ conversationId: -1n }, ["conversation_id"]],
    [{ state: "" }, ["state"]],
    [{ state: "{" }, ["state"]],
    [{ state: "{'a':1}" }, ["state"]],
    [{ state: '{"a":1,}' }, ["state"]],
    [{ state: "NaN" }, ["state"]],
    [{ state: "1 2" }, ["state"]],
    [{ state: '"\0"' }, ["state"]],
    [{ state: '\uFEFF"a"' }, ["state"]],
    [{ state: '"secret-in-the-state' }, ["state"]],
    [{ state: JSON.stringify("é".repeat(2 * 1024 * 1024)) }, ["state"]],
    [{ state: "[".repeat(2_000_000) }, ["state"]],
    [{ expectedEtag: "e".repeat(129) }, ["expected_etag"]],
    [{ expectedEtag: "\0" }, ["expected_etag"]],
    [{ requestId: "r".repeat(129) }, ["request_id"]],
  ])("%#", async (change, fields) => {
    const id = await store.newSession();
    const request = { conversationId: id, state: "{}", ...change };
    const expected = { reason: "INVALID_FIELD", fields };
    const fault = await store.refuses("updateState", request, expected);
    expect(fault.everything).not.toContain("secret-in-the-state");
    expect((await get(id)).etag).toBe("");
  });

  test("a session that is not there", async () => {
    const id = (1n << 63n) - 1n;
    const expected = {
      reason: "SESSION_NOT_FOUND",
      metadata: { conversation_id: String(id) },
    };
    await store.refuses("getState", { conversationId: id }, expected);
    for (const requestId of ["", randomUUID()]) {
      const request = { conversationId: id, state: "{}", requestId };
      await store.refuses("updateState", request, expected);
    }
    await store.refuses(
      "getState",
      { conversationId: 0n },
      { reason: "INVALID_FIELD", fields: ["conversation_id"] },
    );
  });

  test("the state goes with its session", async () => {
    const id = await store.newSession();
    await put(id, "1");
    await store.call("deleteSession", { conversationId: id });
    const fault = await failure(get(id));
    expect(fault.reason).toBe("SESSION_NOT_FOUND");
  });
});
