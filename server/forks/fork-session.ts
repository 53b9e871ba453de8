// ForkSession: a new session that begins with the messages of another one.
import type { ForkSessionRequest, ForkSessionResponse } from "../../gen/agentstore/v1/forks.js";
import { AgentSession } from "../../gen/agentstore/v1/sessions.js";
import { recordAudit } from "../audit/record.js";
import { sessionNotFound } from "../errors/rpc-error.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { checkRequestId, findAnswer, keepAnswer, repeatable } from "../idempotency/requests.js";
import { messageNotFound } from "../messages/errors.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { makeFork } from "./fork.js";
import * as sql from "./sql.js";

export const forkSession: UnaryRpc<ForkSessionRequest, ForkSessionResponse> = {
  validate({ conversationId, atSeq, requestId }, check) {
    check.positive("conversation_id", conversationId);
    check.notNegative("at_seq", atSeq ?? 0n);
    checkRequestId(check, requestId);
  },

  async handle(request, context) {
    const { conversationId, requestId } = request;
    const { principal } = context;
    const write = {
      conversationId,
      tenant: principal.tenant,
      requestId,
      fingerprint: fingerprint(context, "ForkSession", request),
    };
    context.note({ conversation_id: conversationId });
    const answered = await repeatable(context, async (queries) => {
      const kept = await findAnswer(queries, write);
      if (kept) return { session: AgentSession.decode(present(kept.answer)), replayed: true };
      const [point] = await queries.query(sql.readPoint, [conversationId, principal.tenant]);
      if (!point) throw sessionNotFound(conversationId);
      const { last_seq: lastSeq, revision } = point;
      const seq = request.atSeq ?? lastSeq;
      if (seq > lastSeq) throw messageNotFound({ conversationId, seq }, lastSeq);
      const now = new Date();
      // A state belongs to the end of the conversation, not to a place before it.
      const state = seq === lastSeq ? point.state : null;
      const from = { conversationId, seq, revision, state };
      const session = await makeFork(queries, context, from, now);
      const change = { rpc: "ForkSession", conversationId: session.id, seq, requestId };
      await Promise.all([
        keepAnswer(queries, write, { answer: AgentSession.encode(session).finish() }, now),
        recordAudit(queries, context, change),
      ]);
      return { session, replayed: false };
    });
    const { session, replayed } = answered;
    context.note({ fork: session.id, messages: session.lastSeq, replayed });
    return answered;
  },
};
