// Random histories for property tests: plain data, so that a failing one shrinks and can be read.
import fc from "fast-check";
import { MessageOrder, type NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import { type AgentSession, SessionState } from "../../gen/agentstore/v1/sessions.js";
import { RestoreMode } from "../../gen/agentstore/v1/snapshots.js";
import { newMessage } from "./stubs.js";

/** One step of a history. Sessions, requests and seqs are chosen modulo what there is by then. */
export type Step =
  | { do: "create"; fields: SessionFields; requestId: string }
  | {
      do: "append";
      session: number;
      messages: NewMessage[];
      requestId: string;
      expect: Expect;
      state: StateChange | undefined;
    }
  | {
      do: "append one";
      session: number;
      message: NewMessage;
      requestId: string;
      expect: Expect;
      state: StateChange | undefined;
    }
  | ({ do: "write state"; session: number; requestId: string } & StateChange)
  | { do: "read state"; session: number }
  | { do: "retry"; request: number; change: Change }
  | { do: "update"; session: number; fields: SessionFields; mask: string[]; requestId: string }
  | { do: "delete"; session: number; requestId: string }
  | {
      do: "edit";
      session: number;
      seq: number;
      message: NewMessage;
      mask: string[];
      requestId: string;
      expect: Expect;
    }
  | {
      do: "delete message" | "undelete message";
      session: number;
      seq: number;
      requestId: string;
      expect: Expect;
    }
  | {
      do: "revert";
      session: number;
      seq: number;
      version: number;
      requestId: string;
      expect: Expect;
    }
  | { do: "fork"; session: number; atSeq: number | undefined; requestId: string }
  | { do: "take snapshot"; session: number; name: string; requestId: string }
  | {
      do: "restore snapshot";
      session: number;
      snapshot: number;
      mode: RestoreMode;
      requestId: string;
      expect: Expect;
    }
  | { do: "delete snapshot"; session: number; snapshot: number; requestId: string }
  | { do: "read snapshots"; session: number; snapshot: number }
  | { do: "versions"; session: number; seq: number }
  | { do: "get session"; session: number }
  | { do: "get message"; session: number; seq: number; version: number; showDeleted: boolean }
  | { do: "page"; session: number; range: Range; offset: number; appendBetween: boolean }
  | { do: "stream"; session: number; range: Range }
  | { do: "list"; pageSize: number; filter: FilterChoice | undefined }
  | { do: "stats"; session: number }
  | { do: "search"; query: string; limit: number };

/** What the caller says of the session's last_seq, or of a revision. */
export type Expect = "nothing" | "right" | "too low" | "too high";

/** A state to write: `too low` expects one of before, `too high` one that never was. */
export interface StateChange {
  document: string;
  expect: Expect;
}

/** A filter for what a session has; the i-th bit of a number chooses its i-th tag. */
export interface FilterChoice {
  session: number;
  allTags: number;
  anyTags: number;
  owner: boolean;
  metadata: boolean;
  state: SessionState;
  created: boolean;
  lastMessage: boolean;
}

/** What a retry changes in the request. */
export type Change = "nothing" | "body" | "rpc" | "request_id";

/** What callers set of a session. */
export type SessionFields = Pick<
  AgentSession,
  "title" | "ownerId" | "tags" | "metadata" | "expiresAt"
>;

/** Which messages to read, relative to how many there are. */
export interface Range {
  pageSize: number;
  afterSeq: number;
  beforeSeq: number;
  lastN: number;
  order: MessageOrder;
  showDeleted: boolean;
}

const ODD_TEXTS = [
  "",
  "\0",
  "before\0after\0",
  "\uFFFD",
  " leading and trailing \t\r\n",
  "\uFEFFwith a mark",
  "e\u0301 is not \u00e9",
  "👩‍👩‍👧‍👦 and 🏳️‍🌈",
  "\u202Eright to left\u202C",
  "\uFFFF\u{10FFFF}\u{10000}",
  "100% _under_ back\\slash 'quote' \"double\" $1 %s;--",
  "你好，世界。これは長い文です",
  "ΌΣΟΣ Straße İstanbul ǅ ﬁ",
  "😀".repeat(150) + "\0" + "a".repeat(150),
  "x".repeat(199) + "😀y",
];

/** Text as agents write it, and as they do not: any Unicode that UTF-8 can carry. */
export const text: fc.Arbitrary<string> = fc.oneof(
  { arbitrary: fc.constantFrom(...ODD_TEXTS), weight: 2 },
  { arbitrary: fc.string({ unit: "grapheme", maxLength: 30 }), weight: 2 },
  { arbitrary: fc.string({ unit: "binary", maxLength: 30 }), weight: 2 },
  { arbitrary: fc.lorem({ maxCount: 8 }), weight: 1 },
);

/** Text for what Postgres indexes, which has no U+0000. */
const plainText = text.map((value) => value.replaceAll("\0", ""));

// JSON that survives as a Struct and in jsonb: no U+0000, and no -0, which JSON.stringify forgets.
const json = fc.letrec<{ value: unknown; object: Record<string, unknown> }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    plainText,
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 3 }),
    tie("object"),
  ),
  object: fc.dictionary(
    plainText.filter((key) => key !== "__proto__"),
    tie("value"),
    { maxKeys: 3, noNullPrototype: true },
  ),
})).object;

const tokens = fc.bigInt({ min: 0n, max: 10n ** 15n });

const time: fc.Arbitrary<bigint | undefined> = fc.oneof(
  { arbitrary: fc.constant(undefined), weight: 3 },
  { arbitrary: fc.constantFrom(-1_000n, 0n, 1n, 1_000n, 1_700_000_000_000n), weight: 3 },
  { arbitrary: fc.bigInt({ min: -62_135_596_800_000n, max: 253_402_300_799_999n }), weight: 1 },
);

function shortText(most: number): fc.Arbitrary<string> {
  return text.map((value) => [...value].slice(0, most).join(""));
}

/** A message that the service accepts. */
export const message: fc.Arbitrary<NewMessage> = fc
  .record(
    {
      role: fc.constantFrom(Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.TOOL),
      content: text,
      timestampMs: time,
      name: text,
      toolCalls: fc.array(fc.record({ id: text, name: text, arguments: text }), { maxLength: 3 }),
      toolCallId: text,
      payload: text,
      payloadType: shortText(100),
      metadata: json,
      usage: fc.record({
        inputTokens: tokens,
        outputTokens: tokens,
        cachedTokens: tokens,
        reasoningTokens: tokens,
        costMicros: tokens,
      }),
    },
    { requiredKeys: ["role", "content"] },
  )
  .map((fields) => {
    const { toolCalls = [], toolCallId = "", payload = "", payloadType = "", ...rest } = fields;
    return newMessage({
      ...rest,
      toolCalls: fields.role === Role.ASSISTANT ? toolCalls : [],
      toolCallId: fields.role === Role.TOOL ? toolCallId : "",
      payload,
      payloadType: payloadType || (payload && "text"),
    });
  });

const fields: fc.Arbitrary<SessionFields> = fc.record({
  title: plainText,
  ownerId: fc.string({ maxLength: 10, unit: "grapheme" }),
  tags: fc.array(
    shortText(100).map((tag) => tag.replaceAll("\0", "") || "tag"),
    { maxLength: 4 },
  ),
  metadata: fc.option(json, { nil: undefined }),
  expiresAt: fc.constantFrom(undefined, new Date(1_000), new Date("2999-01-01")),
});

// Few enough that some meet again by themselves.
const requestId = fc.oneof(fc.constant(""), fc.uuid(), fc.constantFrom("once", "twice", "U-é-😀"));

const session = fc.nat({ max: 6 });

const expectation = fc.oneof(
  { arbitrary: fc.constant<Expect>("nothing"), weight: 3 },
  { arbitrary: fc.constantFrom<Expect>("right", "too low", "too high"), weight: 1 },
);

// What is written is what comes back, so white space and the order of keys count.
const document: fc.Arbitrary<string> = fc.oneof(
  json.map((value) => JSON.stringify(value, undefined, 1)),
  fc.constantFrom("0", "null", ' {"b":1 ,"a":2,"b":1e400}\r\n', '"\\u0000\\ud800"', "[[]]"),
);

const stateChange: fc.Arbitrary<StateChange> = fc.record({ document, expect: expectation });

const filterChoice: fc.Arbitrary<FilterChoice> = fc.record({
  session,
  allTags: fc.nat({ max: 3 }),
  anyTags: fc.nat({ max: 3 }),
  owner: fc.boolean(),
  metadata: fc.boolean(),
  state: fc.constantFrom(SessionState.UNSPECIFIED, SessionState.ACTIVE, SessionState.EXPIRED),
  created: fc.boolean(),
  lastMessage: fc.boolean(),
});

const range: fc.Arbitrary<Range> = fc.record({
  pageSize: fc.oneof(fc.integer({ min: 1, max: 7 }), fc.constantFrom(0, 1_000)),
  afterSeq: fc.oneof(fc.constant(0), fc.nat({ max: 30 })),
  beforeSeq: fc.oneof(fc.constant(0), fc.nat({ max: 30 })),
  lastN: fc.oneof(fc.constant(0), fc.nat({ max: 12 })),
  order: fc.constantFrom(
    MessageOrder.UNSPECIFIED,
    MessageOrder.OLDEST_FIRST,
    MessageOrder.NEWEST_FIRST,
  ),
  showDeleted: fc.boolean(),
});

// Mostly a message that is there.
const seq = fc.nat({ max: 30 });

// What goes together is changed together, so that any message can be put in the place of any other.
const mask = fc
  .tuple(
    fc.subarray(["content", "name", "timestamp_ms", "metadata", "usage"], { minLength: 1 }),
    fc.boolean(),
    fc.boolean(),
  )
  .map(([paths, payload, role]) => [
    ...paths,
    ...(payload ? ["payload", "payload_type"] : []),
    ...(role ? ["role", "tool_calls", "tool_call_id"] : []),
  ]);

const change = { session, seq, requestId, expect: expectation };

const life: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("edit" as const), ...change, message, mask }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("delete message" as const), ...change }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("undelete message" as const), ...change }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("revert" as const),
      ...change,
      version: fc.integer({ min: 1, max: 6 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("fork" as const),
      session,
      atSeq: fc.option(fc.nat({ max: 30 }), { nil: undefined }),
      requestId,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("take snapshot" as const),
      session,
      name: fc.constantFrom("", "a name"),
      requestId,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("restore snapshot" as const),
      session,
      snapshot: fc.nat({ max: 3 }),
      mode: fc.constantFrom(RestoreMode.FORK, RestoreMode.ROLL_BACK, RestoreMode.ROLL_BACK),
      requestId,
      expect: expectation,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("delete snapshot" as const),
      session,
      snapshot: fc.nat({ max: 3 }),
      requestId,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("read snapshots" as const),
      session,
      snapshot: fc.nat({ max: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("versions" as const), session, seq }) },
);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 24, arbitrary: life },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("create" as const), fields, requestId }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("append" as const),
      session,
      messages: fc.array(message, { minLength: 1, maxLength: 8 }),
      requestId,
      expect: expectation,
      state: fc.option(stateChange, { nil: undefined, freq: 3 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("append one" as const),
      session,
      message,
      requestId,
      expect: expectation,
      state: fc.option(stateChange, { nil: undefined, freq: 3 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc
      .record({ do: fc.constant("write state" as const), session, requestId, change: stateChange })
      .map(({ change, ...step }) => ({ ...step, ...change })),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("read state" as const), session }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("retry" as const),
      request: fc.nat({ max: 40 }),
      change: fc.constantFrom<Change>("nothing", "nothing", "body", "rpc", "request_id"),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("update" as const),
      session,
      fields,
      mask: fc.subarray(["title", "owner_id", "tags", "metadata", "expires_at"], { minLength: 1 }),
      requestId,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("delete" as const), session, requestId }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("get session" as const), session }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("get message" as const),
      session,
      seq,
      version: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 4 })),
      showDeleted: fc.boolean(),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("page" as const),
      session,
      range,
      offset: fc.oneof(fc.constant(0), fc.nat({ max: 12 })),
      appendBetween: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("stream" as const), session, range }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("list" as const),
      pageSize: fc.integer({ min: 1, max: 5 }),
      filter: fc.option(filterChoice, { nil: undefined, freq: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("stats" as const), session }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("search" as const),
      query: fc.constantFrom("A", "lo", "%", "_", "\\", "\uFFFD", "你好", "😀", "É", "σ", "'", "x"),
      limit: fc.constantFrom(1, 5, 1_000),
    }),
  },
);

/** A history of up to so many steps, which begins with a session. */
export function history(maxLength: number): fc.Arbitrary<Step[]> {
  const begin = fc.record({
    do: fc.constant("create" as const),
    fields,
    requestId: fc.constant(""),
  });
  return fc
    .tuple(begin, fc.array(step, { maxLength, size: "max" }))
    .map(([first, rest]) => [first, ...rest]);
}
