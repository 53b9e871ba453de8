// CreateSession: a new session, and its model when that is new too.
import pg from "pg";
import type {
  CreateSessionRequest,
  CreateSessionResponse,
} from "../../gen/agentstore/v1/sessions.js";
import { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { recordAudit } from "../audit/record.js";
import { recordChange } from "../changes/record.js";
import type { Queries } from "../db/database.js";
import { RpcError } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import {
  checkRequestId,
  findTenantAnswer,
  keepTenantAnswer,
  TryAgain,
} from "../idempotency/requests.js";
import { present } from "../present.js";
import type { CallContext } from "../rpc/call.js";
import type { UnaryRpc } from "../rpc/method.js";
import { syncLabels } from "./labels.js";
import { checkSessionFields, distinctTags, toAgentSession } from "./session.js";
import * as sql from "./sql.js";

export const createSession: UnaryRpc<CreateSessionRequest, CreateSessionResponse> = {
  validate(request, check, limits) {
    check.requiredText("model_id", request.modelId, limits.idCharacters);
    checkSessionFields(request, check, limits);
    checkRequestId(check, request.requestId);
  },

  async handle(request, context) {
    context.note({ model_id: request.modelId });
    const print = fingerprint(context, "CreateSession", request);
    const replay = async () => {
      const answer = await findTenantAnswer(context, request.requestId, print);
      return answer && { session: AgentSession.decode(answer), replayed: true };
    };
    const replayed = await replay();
    if (replayed) return replayed;
    try {
      const session = await context.db.transaction(
        (queries) => insert(queries, request, context, print),
        context.signal,
      );
      context.note({ conversation_id: session.id });
      return { session, replayed: false };
    } catch (error) {
      const answer = error instanceof TryAgain ? await replay() : null;
      if (answer) return answer;
      throw error;
    }
  },
};

async function insert(
  queries: Queries,
  request: CreateSessionRequest,
  context: CallContext,
  print: Buffer,
): Promise<AgentSession> {
  const { tenant } = context.principal;
  const now = new Date();
  try {
    await queries.query(sql.registerModel, [request.modelId]);
  } catch (error) {
    throw await modelNotRegistered(error, request.modelId, context);
  }
  const [row] = await queries.query(sql.insertSession, [
    tenant,
    request.modelId,
    request.title,
    request.ownerId,
    distinctTags(request.tags),
    request.metadata,
    request.expiresAt,
    now,
  ]);
  const session = toAgentSession(present(row));
  const answer = AgentSession.encode(session).finish();
  const { requestId } = request;
  await Promise.all([
    syncLabels(queries, session.id),
    keepTenantAnswer(
      queries,
      { tenant, requestId, fingerprint: print, conversationId: session.id },
      answer,
      now,
    ),
    recordChange(
      queries,
      { conversationId: session.id, tenant, firstRevision: 1n, lastRevision: session.revision },
      now,
    ),
    recordAudit(queries, context, { rpc: "CreateSession", conversationId: session.id, requestId }),
  ]);
  return session;
}

/**
 * Makes MODEL_NOT_REGISTERED of the error that Postgres gave: the table of models may have columns
 * that only its owner can fill. Any other error is returned as it is.
 */
export async function modelNotRegistered(
  error: unknown,
  modelId: string,
  context: CallContext,
): Promise<unknown> {
  if (!(error instanceof pg.DatabaseError) || !/^(23|42501)/.test(error.code ?? "")) return error;
  const columns = await context.db.query(sql.requiredModelColumns, [], context.signal);
  const names = columns.map(({ name }) => name).filter((name) => name !== "id");
  const insertion =
    `INSERT INTO models (${["id", ...names].join(", ")}) ` +
    `VALUES (${["'THE MODEL ID'", ...names.map((name) => `'THE ${name.toUpperCase()}'`)].join(", ")})`;
  return new RpcError(
    "MODEL_NOT_REGISTERED",
    `the models table does not allow the service to register this model; register it with SQL: ${insertion}`,
    {
      metadata: { model_id: modelId, ...(error.column ? { column: error.column } : {}) },
      cause: error,
    },
  );
}
