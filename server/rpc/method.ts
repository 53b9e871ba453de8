// The shape of an RPC: what validates its request and what answers it.
import type { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import type { CallContext, Limits } from "./call.js";
import type { FieldChecks } from "./field-checks.js";

/** A response whose bytes the handler has made itself. */
export class Encoded<Response> {
  /** Exists for the type alone. */
  declare readonly response?: Response;

  readonly #bytes: Buffer;
  readonly #release: () => void;

  /**
   * @param bytes the encoded response
   * @param release called when the bytes have been sent or copied: their memory may be used again
   */
  constructor(bytes: Buffer, release: () => void) {
    this.#bytes = bytes;
    this.#release = release;
  }

  /** The bytes, to be copied at once: whatever is encoded next may use their memory. */
  take(): Buffer {
    this.#release();
    return this.#bytes;
  }
}

/** An RPC that answers once. */
export interface UnaryRpc<Request, Response> {
  /** Adds what is wrong with the request to the checks. */
  validate(request: Request, check: FieldChecks, limits: Limits): void;
  /** Answers a valid request. */
  handle(request: Request, context: CallContext): Promise<Response | Encoded<Response>>;
}

/** An RPC that answers with a stream; it is asked for the next page when one has been sent. */
export interface StreamRpc<Request, Response> {
  /** Adds what is wrong with the request to the checks. */
  validate(request: Request, check: FieldChecks, limits: Limits): void;
  /** Answers a valid request. */
  handle(request: Request, context: CallContext): AsyncIterable<Response | Encoded<Response>>;
}

type Service = typeof AgentStoreService;

type RpcOf<M> = M extends {
  responseStream: infer IsStream;
  requestDeserialize: (bytes: Buffer) => infer Request;
  responseSerialize: (value: infer Response) => Buffer;
}
  ? IsStream extends true
    ? StreamRpc<Request, Response>
    : UnaryRpc<Request, Response>
  : never;

/** An implementation of every RPC of the service. */
export type Rpcs = { [Name in keyof Service]: RpcOf<Service[Name]> };
