// The calls about sessions: what they take, what they return, and how both look on the wire.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import type * as wire from "../gen/agentstore/v1/sessions.js";
import { answered, paginate, write } from "./calls.js";
import type { Connection } from "./connection.js";
import { InvalidFieldError } from "./errors.js";
import {
  date,
  int32OrZero,
  int64,
  int64OrZero,
  jsonObject,
  list,
  text,
  textOrEmpty,
} from "./fields.js";
import type {
  CallOptions,
  CreateSessionOptions,
  ListSessionsOptions,
  ListTagsOptions,
  SessionChanges,
  SessionPage,
  TagPage,
  WriteOptions,
} from "./options.js";
import { filterToWire } from "./session-filter.js";
import type {
  AgentSession,
  NewSnapshotPolicy,
  SessionStats,
  SessionSummary,
  Usage,
} from "./types.js";

const STATES: readonly AgentSession["state"][] = ["unknown", "active", "expired"];
const NO_USAGE: Readonly<Usage> = {
  inputTokens: 0n,
  outputTokens: 0n,
  cachedTokens: 0n,
  reasoningTokens: 0n,
  costMicros: 0n,
};
const MASK_PATHS = new Map<string, string>([
  ["title", "title"],
  ["ownerId", "owner_id"],
  ["tags", "tags"],
  ["metadata", "metadata"],
  ["expiresAt", "expires_at"],
  ["snapshotPolicy", "snapshot_policy"],
]);

export async function createSession(
  connection: Connection,
  modelId: string,
  options: CreateSessionOptions,
): Promise<AgentSession> {
  const fields = sessionFields(options, "");
  const response = await write(
    connection,
    AgentStoreService.createSession,
    { modelId: text(modelId, "model_id"), ...fields },
    options,
  );
  return sessionFromWire(answered(response.session));
}

export async function getSession(
  connection: Connection,
  id: bigint | number,
  options: CallOptions,
): Promise<AgentSession> {
  const { response } = await connection.unary(
    AgentStoreService.getSession,
    { conversationId: int64(id, "conversation_id") },
    options,
  );
  return sessionFromWire(answered(response.session));
}

export async function updateSession(
  connection: Connection,
  id: bigint | number,
  changes: SessionChanges,
  options: WriteOptions,
): Promise<AgentSession> {
  const updateMask: string[] = [];
  for (const [key, value] of Object.entries(changes)) {
    const path = MASK_PATHS.get(key);
    if (path === undefined) throw InvalidFieldError.of(key, "is nothing that can be changed");
    if (value !== undefined) updateMask.push(path);
  }
  const session = {
    ...EMPTY_SESSION,
    id: int64(id, "session.id"),
    ...sessionFields(changes, "session."),
    snapshotPolicy: policyToWire(changes.snapshotPolicy ?? undefined),
  };
  const response = await write(
    connection,
    AgentStoreService.updateSession,
    { session, updateMask },
    options,
  );
  return sessionFromWire(answered(response.session));
}

export async function listSessions(
  connection: Connection,
  modelId: string,
  options: ListSessionsOptions,
): Promise<SessionPage> {
  const { response } = await connection.unary(
    AgentStoreService.listSessions,
    {
      modelId: text(modelId, "model_id"),
      pageSize: int32OrZero(options.pageSize, "page_size"),
      pageToken: textOrEmpty(options.pageToken, "page_token"),
      filter: filterToWire(options.filter),
    },
    options,
  );
  const { sessions, nextPageToken } = response;
  return { sessions: sessions.map(summaryFromWire), nextPageToken };
}

export function iterateSessionPages(
  connection: Connection,
  modelId: string,
  options: ListSessionsOptions,
): AsyncGenerator<SessionPage, void, undefined> {
  return paginate(options, (page) => listSessions(connection, modelId, page));
}

export async function listTags(connection: Connection, options: ListTagsOptions): Promise<TagPage> {
  const { response } = await connection.unary(
    AgentStoreService.listTags,
    {
      pageSize: int32OrZero(options.pageSize, "page_size"),
      pageToken: textOrEmpty(options.pageToken, "page_token"),
    },
    options,
  );
  return response;
}

export function iterateTagPages(
  connection: Connection,
  options: ListTagsOptions,
): AsyncGenerator<TagPage, void, undefined> {
  return paginate(options, (page) => listTags(connection, page));
}

export async function deleteSession(
  connection: Connection,
  id: bigint | number,
  options: WriteOptions,
): Promise<boolean> {
  const response = await write(
    connection,
    AgentStoreService.deleteSession,
    { conversationId: int64(id, "conversation_id") },
    options,
  );
  return response.deleted;
}

export async function getSessionStats(
  connection: Connection,
  id: bigint | number,
  options: CallOptions,
): Promise<SessionStats> {
  const { response } = await connection.unary(
    AgentStoreService.getSessionStats,
    { conversationId: int64(id, "conversation_id") },
    options,
  );
  const stats = answered(response.stats);
  return { ...stats, totalUsage: stats.totalUsage ?? { ...NO_USAGE } };
}

const EMPTY_SESSION: wire.AgentSession = {
  id: 0n,
  modelId: "",
  title: "",
  ownerId: "",
  tags: [],
  state: 0,
  revision: 0n,
  lastSeq: 0n,
};

/** The fields that callers set, as they go on the wire: null and what is left out are both empty. */
function sessionFields(
  given: SessionChanges,
  prefix: string,
): Pick<wire.AgentSession, "title" | "ownerId" | "tags" | "metadata" | "expiresAt"> {
  return {
    title: textOrEmpty(given.title ?? undefined, `${prefix}title`),
    ownerId: textOrEmpty(given.ownerId ?? undefined, `${prefix}owner_id`),
    tags: list(given.tags ?? [], `${prefix}tags`).map((tag, index) =>
      text(tag, `${prefix}tags[${index}]`),
    ),
    metadata: jsonObject(given.metadata ?? undefined, `${prefix}metadata`),
    expiresAt: given.expiresAt ? date(given.expiresAt, `${prefix}expires_at`) : undefined,
  };
}

function policyToWire(policy: NewSnapshotPolicy | undefined): wire.SnapshotPolicy | undefined {
  const field = "session.snapshot_policy";
  return (
    policy && {
      everyMessages: int64OrZero(policy.everyMessages, `${field}.every_messages`),
      everyMinutes: int64OrZero(policy.everyMinutes, `${field}.every_minutes`),
    }
  );
}

/** Makes the decoded session the public one, in place. */
export function sessionFromWire(session: wire.AgentSession): AgentSession {
  const known: Omit<wire.AgentSession, "state"> = session;
  return Object.assign(known, { state: STATES[session.state] ?? "unknown" }) as AgentSession;
}

function summaryFromWire(summary: wire.SessionSummary): SessionSummary {
  return { ...summary, session: sessionFromWire(answered(summary.session)) };
}
