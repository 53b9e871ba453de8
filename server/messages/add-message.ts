// AddMessage: one message at the end of a session.
import type { AddMessageRequest, AddMessageResponse } from "../../gen/agentstore/v1/messages.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { append } from "./append.js";
import { checkAppend, checkMessage } from "./check-message.js";

export const addMessage: UnaryRpc<AddMessageRequest, AddMessageResponse> = {
  validate(request, check, limits) {
    checkAppend(request, check, limits);
    if (request.message) checkMessage("message", request.message, check, limits);
    else check.fail("message", "is required");
  },

  handle(request, context) {
    const write = {
      conversationId: request.conversationId,
      tenant: context.principal.tenant,
      by: context.principal.name,
      requestId: request.requestId,
      fingerprint: fingerprint(context, "AddMessage", request),
      expectedLastSeq: request.expectedLastSeq,
      fencingToken: request.fencingToken,
      messages: [present(request.message)],
      state: request.state,
    };
    return append(context, "AddMessage", write, request.view);
  },
};
