// AddMessages: several messages at the end of a session, all or none.
import type { AddMessagesRequest, AddMessagesResponse } from "../../gen/agentstore/v1/messages.js";
import { fingerprint } from "../idempotency/fingerprint.js";
import type { UnaryRpc } from "../rpc/method.js";
import { append } from "./append.js";
import { checkAppend, checkMessage } from "./check-message.js";

export const addMessages: UnaryRpc<AddMessagesRequest, AddMessagesResponse> = {
  validate(request, check, limits) {
    checkAppend(request, check, limits);
    const { messages } = request;
    if (messages.length < 1 || messages.length > limits.batchMessages) {
      check.fail("messages", `must be 1 to ${limits.batchMessages}, not ${messages.length}`);
      return;
    }
    messages.forEach((message, index) => {
      checkMessage(`messages[${index}]`, message, check, limits);
    });
  },

  handle(request, context) {
    const write = {
      conversationId: request.conversationId,
      tenant: context.principal.tenant,
      by: context.principal.name,
      requestId: request.requestId,
      fingerprint: fingerprint(context, "AddMessages", request),
      expectedLastSeq: request.expectedLastSeq,
      fencingToken: request.fencingToken,
      messages: request.messages,
      state: request.state,
    };
    return append(context, "AddMessages", write, request.view);
  },
};
