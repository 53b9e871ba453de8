// The interceptor between grpc-js and the handlers: an answer's message and its status are handed over together.
import {
  Metadata,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  status,
} from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { oneMessage } from "../../server/rpc/one-message.js";

type Method = Parameters<ServerInterceptor>[0];
type Listener = Parameters<ServerInterceptingCallInterface["start"]>[0];

const OK = { code: status.OK, details: "OK", metadata: null };

/** A call of grpc-js that notes what is sent, and never says that a message was written. */
function intercept(method: { requestStream: boolean; responseStream: boolean }) {
  const sent: unknown[] = [];
  let listener: Listener | undefined;
  const next = {
    start: (given: Listener) => {
      listener = given;
    },
    sendMetadata: () => sent.push("metadata"),
    sendMessage: (message: unknown) => sent.push(message),
    sendStatus: ({ code }: { code: number }) => sent.push(code),
  } as unknown as ServerInterceptingCallInterface;
  const call = oneMessage({ path: "/", ...method } as Method, next);
  call.start({
    onReceiveMetadata: () => {},
    onReceiveMessage: () => {},
    onReceiveHalfClose: () => {},
    onCancel: () => {},
  });
  listener?.onReceiveMetadata(new Metadata());
  listener?.onReceiveMessage(Buffer.from("request"));
  listener?.onReceiveHalfClose();
  return { call, sent };
}

test("the status of an answer does not wait until its message is written", () => {
  for (const requestStream of [false, true]) {
    const { call, sent } = intercept({ requestStream, responseStream: false });
    call.sendMessage("answer", () => call.sendStatus(OK));
    expect(sent).toEqual(["metadata", "answer", OK.code]);
  }
});

test("the next page of a stream waits until the one before is written", () => {
  const { call, sent } = intercept({ requestStream: false, responseStream: true });
  call.sendMetadata(new Metadata());
  call.sendMessage("page", () => call.sendStatus(OK));
  expect(sent).toEqual(["metadata", "page"]);
});
