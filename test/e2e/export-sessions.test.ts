// ExportSessions: each form, what is chosen, and where a stream goes on.
import { parse } from "csv-parse/sync";
import { describe, expect, test } from "vitest";
import type { NewMessage } from "../../gen/agentstore/v1/messages.js";
import { Role } from "../../gen/agentstore/v1/messages.js";
import { SessionState } from "../../gen/agentstore/v1/sessions.js";
import { ExportFormat } from "../../gen/agentstore/v1/transfer.js";
import { expectFault, failure } from "./faults.js";
import { type Part, uniqueModel, userMessage, useStore } from "./store.js";
import { exportLines, exportPieces, exportText } from "./transfers.js";

const store = useStore();

const FORMATS = [
  ExportFormat.JSONL,
  ExportFormat.JSON,
  ExportFormat.CSV,
  ExportFormat.OPENAI,
] as const;

// What spreadsheets, parsers and terminals stumble over.
const ODD = [
  "=1+1",
  "+49 30 1234",
  "-1",
  "@SUM(A1:A9)",
  "\t=1",
  "  =cmd|' /C calc'!A0",
  "\r\n=1",
  "＝1+1",
  'He said "no", twice',
  "one\ntwo\r\nthree\rfour",
  ",;|\t'",
  "漢字 👩‍👩‍👧 \u{1F3F3}\u{FE0F}\u200D\u{1F308} é e\u0301",
  "\u2028\u2029\uFEFF",
  "'quoted already",
  '""',
  "",
  " spaces ",
];

async function conversation(messages: Part<NewMessage>[], fields = {}): Promise<bigint> {
  const conversationId = await store.newSession(fields);
  await store.call("addMessages", { conversationId, messages });
  return conversationId;
}

describe("CSV", () => {
  test("is read by another program: formulas, quotes, line breaks and emoji", async () => {
    const title = '=HYPERLINK("http://example.com")';
    const id = await conversation(ODD.map(userMessage), { title, tags: ["a", "=b"] });
    const text = await exportText(store, { conversationIds: [id], format: ExportFormat.CSV });
    const rows = parse<Record<string, string>>(text, {
      columns: true,
      record_delimiter: "\r\n",
    });
    expect(rows.map(({ seq }) => Number(seq))).toEqual(ODD.map((_, index) => index + 1));
    const formulas = new Set(ODD.slice(0, 8));
    rows.forEach(({ content, title: shown, role, conversation_id }, index) => {
      const given = ODD[index]!;
      expect(content).toBe(formulas.has(given) ? `'${given}` : given);
      expect({ shown, role, conversation_id }).toEqual({
        shown: `'${title}`,
        role: "user",
        conversation_id: String(id),
      });
    });
    // Nowhere does a field begin as a formula does.
    const cells = rows.flatMap((row) => Object.values(row));
    expect(cells.filter((cell) => /^\s*[=+\-@＝]/.test(cell))).toEqual([]);
  });

  test("has a header, CRLF, and all that a message has", async () => {
    const id = await conversation([
      {
        role: Role.ASSISTANT,
        content: "",
        timestampMs: 1_700_000_000_123n,
        name: "planner",
        toolCalls: [{ id: "c1", name: "find", arguments: '{"a": 1.0}' }],
        metadata: { a: ["x"] },
        usage: { inputTokens: 1n, outputTokens: 2n, costMicros: 3n },
      },
    ]);
    const text = await exportText(store, { conversationIds: [id], format: ExportFormat.CSV });
    const [header, ...rest] = text.split("\r\n");
    expect(header).toBe(
      "conversation_id,model_id,title,owner_id,tags,seq,role,time,name,content,tool_calls," +
        "tool_call_id,metadata,payload,payload_type,input_tokens,output_tokens,cached_tokens," +
        "reasoning_tokens,cost_micros,edited_at",
    );
    expect(rest).toHaveLength(2);
    const [row] = parse<Record<string, string>>(text, { columns: true });
    expect(row).toMatchObject({
      time: "2023-11-14T22:13:20.123Z",
      name: "planner",
      content: "",
      tool_calls: JSON.stringify([{ id: "c1", name: "find", arguments: '{"a": 1.0}' }]),
      metadata: '{"a":["x"]}',
      input_tokens: "1",
      cached_tokens: "0",
      cost_micros: "3",
    });
  });
});

describe("JSON", () => {
  test("is one array of sessions with their messages", async () => {
    const ids = [
      await conversation(ODD.map(userMessage)),
      await store.newSession(),
      await conversation([userMessage("\0 and \u2028")]),
    ];
    const text = await exportText(store, { conversationIds: ids, format: ExportFormat.JSON });
    const parsed = JSON.parse(text) as {
      session: { id: string };
      messages: { content?: string; seq: string }[];
    }[];
    expect(parsed.map(({ session }) => session.id)).toEqual(ids.map(String));
    expect(parsed[0]!.messages.map(({ content = "" }) => content)).toEqual(ODD);
    expect(parsed[1]!.messages).toEqual([]);
    expect(parsed[2]!.messages[0]!.content).toBe("\0 and \u2028");
  });
});

describe("OpenAI's form", () => {
  test("is a line of chat messages for each session; a payload comes back as it was", async () => {
    const payload = '{"role": "user", "content": [{"type": "text", "text": "Hi"}], "n": 1.0}';
    const id = await conversation([
      { role: Role.SYSTEM, content: "Be brief." },
      { role: Role.USER, content: "Hi", payload, payloadType: "openai.chat.message" },
      {
        role: Role.ASSISTANT,
        toolCalls: [{ id: "c1", name: "find", arguments: "{}" }],
      },
      { role: Role.TOOL, content: "found\nit", toolCallId: "c1" },
      { role: Role.USER, content: "x", payload: "no JSON", payloadType: "openai.chat.message" },
    ]);
    const other = await conversation([userMessage("=1")]);
    const text = await exportText(store, {
      conversationIds: [id, other],
      format: ExportFormat.OPENAI,
    });
    const [first, second, end] = text.split("\n");
    expect(end).toBe("");
    expect(first).toContain(payload);
    expect(JSON.parse(first!)).toEqual({
      messages: [
        { role: "system", content: "Be brief." },
        JSON.parse(payload),
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "c1", type: "function", function: { name: "find", arguments: "{}" } }],
        },
        { role: "tool", content: "found\nit", tool_call_id: "c1" },
        { role: "user", content: "x" },
      ],
    });
    expect(JSON.parse(second!)).toEqual({ messages: [{ role: "user", content: "=1" }] });
  });
});

describe("JSONL", () => {
  test("has a header, and what each session has before its end", async () => {
    const id = await store.newConversation(3);
    const lines = await exportLines(store, { conversationIds: [id] });
    expect(lines.map((line) => Object.keys(line))).toEqual([
      ["header"],
      ["session"],
      ["message"],
      ["message"],
      ["message"],
      ["end"],
    ]);
    expect(lines[0]!.header).toEqual({ schemaVersion: 1, time: expect.any(String) });
    expect(lines[5]!.end).toEqual({ conversationId: String(id), messages: "3" });
  });

  test("has deleted messages and earlier versions, which the other forms leave out", async () => {
    const conversationId = await store.newConversation(3);
    const message = { conversationId, seq: 1n, content: "edited" };
    await store.call("updateMessage", { message, updateMask: ["content"] });
    await store.call("deleteMessage", { conversationId, seq: 2n });
    await store.call("updateState", { conversationId, state: '{"a": 1.0}' });
    await store.call("createSnapshot", { conversationId, name: "mine" });
    const lines = await exportLines(store, { conversationIds: [conversationId] });
    expect(lines.map((line) => Object.keys(line)[0])).toEqual(
      "header session message message message version version state snapshot end".split(" "),
    );
    expect(lines[7]!.state).toMatchObject({ state: '{"a": 1.0}' });
    expect(lines[7]!.state).not.toHaveProperty("etag");
    expect(lines[8]!.snapshot).toMatchObject({ name: "mine", state: '{"a": 1.0}' });
    expect(lines[9]!.end).toMatchObject({ messages: "3", versions: "2", snapshots: "1" });
    for (const format of FORMATS.slice(1)) {
      const text = await exportText(store, { conversationIds: [conversationId], format });
      expect(text).toContain("edited");
      expect(text).not.toMatch(/"1"\}?,"timestamp|"content":"2"|,2,user/);
    }
  });
});

describe("what is exported", () => {
  test("the sessions of a model by id, in the order of their ids", async () => {
    const modelId = uniqueModel();
    const ids = [];
    for (let n = 0; n < 5; n++) ids.push(await conversation([userMessage(`${n}`)], { modelId }));
    await store.appendNumbered(ids[0]!, 2, 3);
    const lines = await exportLines(store, { modelId });
    const sessions = lines.flatMap(({ session }) => (session ? [session.id] : []));
    expect(sessions).toEqual(ids.map(String));
  });

  test("the sessions that a filter chooses", async () => {
    const modelId = uniqueModel();
    const ids = {
      red: await store.newSession({ modelId, tags: ["red"], ownerId: "o", metadata: { a: 1 } }),
      both: await store.newSession({ modelId, tags: ["red", "blue"], ownerId: "o" }),
      none: await store.newSession({ modelId }),
    };
    const chosen = async (filter: object) => {
      const lines = await exportLines(store, { modelId, filter });
      return lines.flatMap(({ session }) => (session ? [BigInt(session.id as string)] : []));
    };
    expect(await chosen({})).toEqual([ids.red, ids.both, ids.none]);
    expect(await chosen({ allTags: ["red", "blue"] })).toEqual([ids.both]);
    expect(await chosen({ anyTags: ["red", "blue"] })).toEqual([ids.red, ids.both]);
    expect(await chosen({ ownerId: "o", metadata: { a: 1 } })).toEqual([ids.red]);
    expect(await chosen({ state: SessionState.EXPIRED })).toEqual([]);
    expect(await chosen({ created: { end: new Date(0) } })).toEqual([]);
  });

  test.each(FORMATS)("nothing, in form %i, when there is nothing", async (format) => {
    const pieces = await exportPieces(store, { modelId: uniqueModel(), format });
    const text = Buffer.concat(pieces.map(({ chunk }) => chunk)).toString();
    if (format === ExportFormat.JSON) expect(JSON.parse(text)).toEqual([]);
    if (format === ExportFormat.OPENAI) expect(text).toBe("");
    if (format === ExportFormat.CSV) expect(text.split("\r\n")).toHaveLength(2);
    expect(pieces.at(-1)!.resumeToken).not.toBe("");
  });
});

describe("a stream that is cut off", () => {
  test.each(FORMATS)("in form %i goes on after any complete session", async (format) => {
    const modelId = uniqueModel();
    // Each session fills pieces of its own.
    const text = "x".repeat(100_000);
    const ids = [];
    for (let n = 0; n < 6; n++) {
      ids.push(await conversation([userMessage(`${n}${text}`), userMessage(text)], { modelId }));
    }
    const whole = await exportPieces(store, { modelId, format });
    const untimed = (bytes: Buffer) => bytes.toString().replace(/"time":"[^"]+"/, "");
    const expected = untimed(Buffer.concat(whole.map(({ chunk }) => chunk)));
    const tokens = whole.flatMap(({ resumeToken }, index) => (resumeToken ? [index] : []));
    expect(tokens.length).toBeGreaterThan(5);
    expect(whole.at(-1)!.sessions).toBe(6n);
    for (const index of tokens) {
      const { resumeToken } = whole[index]!;
      const rest = await exportPieces(store, { modelId, format, resumeToken });
      const before = whole.slice(0, index + 1).map(({ chunk }) => chunk);
      expect(untimed(Buffer.concat([...before, ...rest.map(({ chunk }) => chunk)]))).toBe(expected);
    }
  });

  test("goes on with what is there by then", async () => {
    const ids = [await store.newConversation(1), await store.newConversation(1)];
    const request = { conversationIds: ids, format: ExportFormat.OPENAI };
    const big = "y".repeat(100_000);
    await store.call("addMessage", { conversationId: ids[0]!, message: userMessage(big) });
    const [first] = await exportPieces(store, request);
    await store.call("addMessage", { conversationId: ids[1]!, message: userMessage("later") });
    const rest = await exportPieces(store, { ...request, resumeToken: first!.resumeToken });
    expect(rest[0]!.chunk.toString()).toContain("later");
  });
});

describe("refusals", () => {
  test.each([
    [{ format: ExportFormat.UNSPECIFIED }, ["format"]],
    [{ format: 99 as ExportFormat }, ["format"]],
    [{ conversationIds: [0n] }, ["conversation_ids[0]"]],
    [{ conversationIds: [1n, -1n] }, ["conversation_ids[1]"]],
    [{ conversationIds: Array.from({ length: 1_001 }, () => 1n) }, ["conversation_ids"]],
    [{ modelId: "m".repeat(257) }, ["model_id"]],
    [{ modelId: "\0" }, ["model_id"]],
    [{ conversationIds: [1n], modelId: "m" }, ["model_id"]],
    [{ conversationIds: [1n], filter: { ownerId: "o" } }, ["filter"]],
    [{ filter: { allTags: ["t".repeat(129)] } }, ["filter.all_tags[0]"]],
    [{ filter: { created: { start: new Date(1), end: new Date(1) } } }, ["filter.created.end"]],
  ])("%#", async (change, fields) => {
    const fault = await failure(exportPieces(store, { format: ExportFormat.JSONL, ...change }));
    expectFault(fault, { reason: "INVALID_FIELD", fields });
    await store.answers();
  });

  test("a session that is not there, before anything is sent", async () => {
    const id = await store.newSession();
    const request = { conversationIds: [id, (1n << 62n) + 1n], format: ExportFormat.JSONL };
    const fault = await failure(exportPieces(store, request));
    expectFault(fault, {
      reason: "SESSION_NOT_FOUND",
      metadata: { conversation_id: String((1n << 62n) + 1n) },
    });
  });

  test("a token that was altered or is another export's", async () => {
    const modelId = uniqueModel();
    await store.newSession({ modelId });
    const request = { modelId, format: ExportFormat.JSONL };
    const resumeToken = (await exportPieces(store, request)).at(-1)!.resumeToken;
    for (const other of [
      { ...request, resumeToken: `${resumeToken}A` },
      { ...request, resumeToken: "garbage" },
      { ...request, format: ExportFormat.CSV, resumeToken },
      { ...request, modelId: uniqueModel(), resumeToken },
      { ...request, filter: { ownerId: "o" }, resumeToken },
    ]) {
      const fault = await failure(exportPieces(store, other));
      expectFault(fault, { reason: "INVALID_PAGE_TOKEN", fields: ["resume_token"] });
    }
  });
});
