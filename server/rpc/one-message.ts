// Refuses calls that send no request message, or more than one, with a reason; and hands a message and
// its status over together where a call is answered once.
import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import { RpcError } from "../errors/rpc-error.js";
import { toServiceError } from "../errors/status.js";

type Method = Parameters<ServerInterceptor>[0];
type Listener = Parameters<ServerInterceptingCallInterface["start"]>[0];
type Status = Parameters<ServerInterceptingCallInterface["sendStatus"]>[0];

/**
 * grpc-js answers calls without one request message itself, before any handler, as UNIMPLEMENTED. A
 * frame that is cut off counts as no message.
 *
 * It also keeps the status of an answer back until the message has been written, a turn of the event
 * loop later.
 */
export const oneMessage: ServerInterceptor = (method, call) => new OneMessageCall(method, call);

// All that grpc-js' own class does besides is to wait for interceptors that do not answer at once.
class OneMessageCall extends ServerInterceptingCall {
  #messages = 0;
  #ended = false;
  #sentMetadata = false;
  readonly #method: Method;
  readonly #next: ServerInterceptingCallInterface;

  constructor(method: Method, next: ServerInterceptingCallInterface) {
    super(next);
    this.#method = method;
    this.#next = next;
  }

  override start(listener: Listener): void {
    this.#next.start({
      onReceiveMetadata: (metadata) => listener.onReceiveMetadata(metadata),
      onReceiveMessage: (message) => {
        this.#messages++;
        listener.onReceiveMessage(message);
      },
      onReceiveHalfClose: () => {
        this.#ended = true;
        listener.onReceiveHalfClose();
      },
      onCancel: () => listener.onCancel(),
    });
  }

  override sendMetadata(metadata: Metadata): void {
    this.#sentMetadata = true;
    this.#next.sendMetadata(metadata);
  }

  override sendMessage(message: unknown, callback: () => void): void {
    // As grpc-js would; so it also passes over the second status of a message that it cannot encode.
    if (!this.#sentMetadata) this.sendMetadata(new Metadata());
    if (this.#method.responseStream) {
      this.#next.sendMessage(message, callback);
    } else {
      this.#next.sendMessage(message, () => {});
      callback();
    }
  }

  override sendStatus(status: Status): void {
    this.#next.sendStatus(this.#hasOneMessage ? status : this.#refusal());
  }

  // A call that has not ended may still send one.
  get #hasOneMessage(): boolean {
    if (this.#method.requestStream) return true;
    return this.#messages === 1 || (this.#messages === 0 && !this.#ended);
  }

  #refusal(): Status {
    const { code, details, metadata } = toServiceError(
      new RpcError(
        "MALFORMED_REQUEST",
        `the call must send one whole request message, not ${this.#messages}`,
      ),
    );
    return { code, details, metadata };
  }
}
