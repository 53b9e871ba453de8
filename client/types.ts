// The public types of the client: what goes into its calls and what comes out of them.

/** Who speaks in a message. */
export type Role = "system" | "user" | "assistant" | "tool";

/** Anything that JSON can say, as an object. Numbers are doubles: keep larger integers as strings. */
export type JsonObject = { [key: string]: unknown };

/** A tool that an assistant turn asks for. */
export interface ToolCall {
  /** The call's id; the tool message that answers it carries it as `toolCallId`. */
  id: string;
  /** The tool's name. */
  name: string;
  /** The arguments as the model wrote them, byte for byte: commonly JSON text, never parsed. */
  arguments: string;
}

/** What a model's turn used. */
export interface Usage {
  /** Tokens read, cached ones included. */
  inputTokens: bigint;
  /** Tokens written, those of reasoning included. */
  outputTokens: bigint;
  /** Those of `inputTokens` that came from the provider's cache. */
  cachedTokens: bigint;
  /** Those of `outputTokens` that were spent on reasoning. */
  reasoningTokens: bigint;
  /** The price, in millionths of the operator's currency unit. */
  costMicros: bigint;
}

/** A usage as it is handed in: what is left out is zero; numbers must be whole and not negative. */
export type NewUsage = { [key in keyof Usage]?: bigint | number | undefined };

/** A message to append. At most 4 MiB encoded, unless the operator set another limit. */
export interface NewMessage {
  role: Role;
  /** The text; may be empty (the default) and may hold any text, U+0000 included. */
  content?: string | undefined;
  /** When it was said, in milliseconds since 1970; the server's clock when left out. */
  timestampMs?: bigint | number | undefined;
  /** Who speaks, where a role has several speakers, or the tool's name; up to 1,024 characters. */
  name?: string | undefined;
  /** The tools that an assistant turn asks for, in order; up to 1,000; role assistant only. */
  toolCalls?: readonly ToolCall[] | undefined;
  /** Which tool call this message answers; up to 1,024 characters; role tool only. */
  toolCallId?: string | undefined;
  /** The whole message in the caller's own form, commonly JSON text, kept byte for byte. */
  payload?: string | undefined;
  /** What `payload` is, for example `openai.chat.message`; required with `payload`. */
  payloadType?: string | undefined;
  /** Anything to keep with the message: up to 256 KiB as JSON. */
  metadata?: JsonObject | undefined;
  /** What the model's turn used. */
  usage?: NewUsage | undefined;
  /** What the content means, where you have embedded it; the server may do that otherwise. */
  embedding?: Embedding | undefined;
}

/** What a text means, as a vector. */
export interface Embedding {
  /** The model that made it; 1 to 256 characters. */
  model: string;
  /** 1 to 4,000 finite numbers, not all 0. Only the direction counts. */
  values: readonly number[];
}

/** One entry of a session, as it is stored. Its key is (`conversationId`, `seq`). */
export interface AgentMessage {
  /** A number of the message that is unique in the whole store. */
  id: bigint;
  /** The session. */
  conversationId: bigint;
  /** Who speaks; `unknown` for a row of an older table whose role is none of the others. */
  role: Role | "unknown";
  /** The text, exactly as it was given. */
  content: string;
  /** When it was said, in milliseconds since 1970; 0 when not known. Never the order: see `seq`. */
  timestampMs: bigint;
  /** The message's place in its session: 1, 2, 3 …, never reused. */
  seq: bigint;
  /** Who speaks, where a role has several speakers, or the tool's name; empty when not given. */
  name: string;
  /** The tools that an assistant turn asks for, in order. */
  toolCalls: ToolCall[];
  /** Which tool call a message of the role tool answers; empty when not given. */
  toolCallId: string;
  /** The whole message in the caller's own form, byte for byte; empty when not given. */
  payload: string;
  /** What `payload` is, for example `openai.chat.message`. */
  payloadType: string;
  /** Anything the caller keeps with the message. */
  metadata?: JsonObject | undefined;
  /** What the model's turn used; absent when not given. */
  usage?: Usage | undefined;
  /** The session's revision at which the message was last written. */
  revision: bigint;
  /** When what the message says was last changed; absent when it never was. */
  editedAt?: Date | undefined;
  /** Raised by every change to the message: 1, 2, 3 … */
  version: bigint;
  /** When the message was deleted; absent when it is not. */
  deletedAt?: Date | undefined;
}

/** A message as it was at some time. */
export interface MessageVersion {
  /** The message; its `version` and `revision` say which one it was, and since when. */
  message: AgentMessage;
  /** What made this version; `forked` is version 1 in a fork. */
  change: "appended" | "updated" | "deleted" | "undeleted" | "reverted" | "forked" | "unknown";
  /** Who made it; empty where that was not recorded. */
  changedBy: string;
  /** When it was made, by the server's clock; absent where that was not recorded. */
  changedAt?: Date | undefined;
}

/** What the server gave a message that was appended. */
export type MessageKeys = Pick<
  AgentMessage,
  "id" | "conversationId" | "seq" | "timestampMs" | "revision"
>;

/** One conversation with one model. */
export interface AgentSession {
  /** The session's id: `conversationId` in messages and in all calls. */
  id: bigint;
  /** The model that the session talks to. */
  modelId: string;
  /** When the session was created, by the server's clock. */
  createdAt: Date;
  /** A title for people; empty when none was given. */
  title: string;
  /** Whom the conversation belongs to, in the caller's own terms; empty when none was given. */
  ownerId: string;
  /** Labels, in the order given, without repeats. */
  tags: string[];
  /** Anything the caller keeps with the session. */
  metadata?: JsonObject | undefined;
  /** `expired` once `expiresAt` has passed: it can still be read, written and extended. */
  state: "active" | "expired" | "unknown";
  /** Raised by every change to the session or its messages; 1 when new. */
  revision: bigint;
  /** The highest seq given in the session; 0 while it has no messages. */
  lastSeq: bigint;
  /** When the session or its messages last changed, by the server's clock. */
  updatedAt: Date;
  /** When the session is to be removed; absent when it is to be kept. */
  expiresAt?: Date | undefined;
  /** Where the session was forked from; absent for one that began by itself. */
  parent?: SessionParent | undefined;
  /** When snapshots are taken by themselves; absent where the model's policy holds, if any. */
  snapshotPolicy?: SnapshotPolicy | undefined;
}

/** Where a session was forked from. */
export interface SessionParent {
  /** The session that was forked. It may have been removed since. */
  conversationId: bigint;
  /** The last message that was taken over; 0 for none. */
  seq: bigint;
}

/** When snapshots are taken by themselves. What is 0 makes none due; with both 0, none is taken. */
export interface SnapshotPolicy {
  /** One is due when so many messages have been appended since the last one; up to 1,000,000. */
  everyMessages: bigint;
  /** One is due when so many minutes have passed and the session is changed; up to 525,600. */
  everyMinutes: bigint;
}

/** A policy as it is handed in: what is left out is zero. */
export type NewSnapshotPolicy = { [Key in keyof SnapshotPolicy]?: bigint | number | undefined };

/** A point of a session's life that can be gone back to. It is removed with its session. */
export interface SessionSnapshot {
  /** The snapshot's id, unique in the whole store. */
  id: bigint;
  /** The session. */
  conversationId: bigint;
  /** A name for people; empty when none was given. */
  name: string;
  /** True when a policy took it. */
  byPolicy: boolean;
  /** The session's revision at which it was taken. */
  revision: bigint;
  /** The session's last_seq at which it was taken. */
  lastSeq: bigint;
  /** How many messages the session had, without deleted ones. */
  messageCount: bigint;
  /** The session's state, as JSON text; absent when it had none, and but for `getSnapshot`. */
  state?: string | undefined;
  /** Who took it; `system` for a policy. */
  createdBy: string;
  /** When it was taken, by the server's clock. */
  createdAt: Date;
}

/** A session with what a list of sessions shows of it. */
export interface SessionSummary {
  session: AgentSession;
  /** How many messages the session has, without deleted ones. */
  messageCount: bigint;
  /** The latest `timestampMs` of the session's messages; absent when it has none. */
  lastMessageTime?: Date | undefined;
  /** The first 200 characters of the first message that is not deleted; absent without one. */
  firstMessage?: string | undefined;
}

/** A tag with how often it is used. */
export interface TagCount {
  tag: string;
  /** How many sessions have it. */
  sessionCount: bigint;
}

/** The JSON document that an agent keeps with a session. */
export interface AgentState {
  /** The session. */
  conversationId: bigint;
  /** The document, byte for byte as it was given; empty while none was written. */
  state: string;
  /** Stands for this very write of it: pass it as `expectedEtag`. Empty while none was written. */
  etag: string;
  /** The session's revision at which it was written; 0 while none was. */
  revision: bigint;
  /** When it was written, by the server's clock; absent while none was. */
  updatedAt?: Date | undefined;
}

/** The right to run a session until it expires or is released. */
export interface Lease {
  /** The session. */
  conversationId: bigint;
  /** Who holds it, as given to `acquireLease`. */
  holder: string;
  /** Rises by one with each acquisition of the session's lease, from 1. Pass it to appends. */
  fencingToken: bigint;
  /** Until when nobody else can acquire it, by the clock of the store's database. */
  expiresAt: Date;
}

/** A tool call that no tool message answers. */
export interface UnpairedToolCall {
  /** The seq of the assistant message that asks for it. */
  seq: bigint;
  /** The call's id. */
  toolCallId: string;
  /** The tool's name. */
  name: string;
}

/** What the next call of a session's model needs. */
export interface SessionContext {
  session: AgentSession;
  /**
   * The leading system messages, then the newest messages that fit, in order. No tool message is
   * among them without its call, and no call without the tool messages that the session has for it.
   */
  messages: AgentMessage[];
  /** How many messages of the session were left out. */
  omittedMessages: bigint;
  /** How many characters the messages have, as `maxCharacters` counts them. */
  characters: bigint;
  /** How many tokens the messages have, as `maxTokens` counts them. */
  tokens: bigint;
  /** The tool calls among the messages that have no answer: pending, or interrupted. */
  unpairedToolCalls: UnpairedToolCall[];
}

/** The counts and sums of one session. */
export interface SessionStats {
  totalMessages: bigint;
  userMessages: bigint;
  assistantMessages: bigint;
  systemMessages: bigint;
  toolMessages: bigint;
  /** The earliest `timestampMs` of the messages; absent when there are none. */
  firstMessageTime?: Date | undefined;
  /** The latest `timestampMs` of the messages; absent when there are none. */
  lastMessageTime?: Date | undefined;
  /** The length of all contents together, in Unicode code points. */
  totalCharacters: bigint;
  /** The sums of the messages' usages; all zero when none was given. */
  totalUsage: Usage;
}
