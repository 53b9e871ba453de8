// Refuses calls that send no request message, or more than one, with a reason.
import {
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
} from "@grpc/grpc-js";
import { RpcError } from "../errors/rpc-error.js";
import { toServiceError } from "../errors/status.js";

/**
 * grpc-js answers such calls itself, before any handler, as UNIMPLEMENTED. A
 * frame that is cut off counts as no message.
 */
export const oneMessage: ServerInterceptor = (method, call) => {
  if (method.requestStream) return new ServerInterceptingCall(call);
  let messages = 0;
  let ended = false;
  const listener = new ServerListenerBuilder()
    .withOnReceiveMessage((message, next) => {
      messages++;
      next(message);
    })
    .withOnReceiveHalfClose((next) => {
      ended = true;
      next();
    })
    .build();
  const responder = new ResponderBuilder()
    .withStart((next) => next(listener))
    .withSendStatus((status, next) => {
      if (messages > 1 || (ended && messages === 0)) {
        const { code, details, metadata } = toServiceError(
          new RpcError(
            "MALFORMED_REQUEST",
            `the call must send one whole request message, not ${messages}`,
          ),
        );
        next({ code, details, metadata });
      } else {
        next(status);
      }
    })
    .build();
  return new ServerInterceptingCall(call, responder);
};
