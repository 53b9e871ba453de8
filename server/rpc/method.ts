// The shape of an RPC: what validates its request and what answers it.
import type { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import type { AgentStoreAdminService } from "../../gen/agentstore/v1/agent_store_admin.js";
import { present } from "../present.js";
import type { CallContext, Limits } from "./call.js";
import type { FieldChecks } from "./field-checks.js";

/** A response whose bytes the handler has made itself. */
export class Encoded<Response> {
  /** Exists for the type alone. */
  declare readonly response?: Response;

  #bytes: Buffer | undefined;
  readonly #release: () => void;

  /**
   * @param bytes the encoded response
   * @param release called when the bytes are taken: their memory may be used again. One that is
   *   never sent keeps its memory to itself.
   */
  constructor(bytes: Buffer, release: () => void) {
    this.#bytes = bytes;
    this.#release = release;
  }

  /**
   * The bytes, to be copied at once: whatever is encoded next may use their memory.
   *
   * @throws Error when they were taken before, as their memory may be somebody else's by now
   */
  take(): Buffer {
    const bytes = present(this.#bytes);
    this.#bytes = undefined;
    this.#release();
    return bytes;
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

/** An RPC that takes a stream of requests and answers once. */
export interface ClientStreamRpc<Request, Response> {
  /** Adds what is wrong with one of the requests to the checks. */
  validate(request: Request, check: FieldChecks, limits: Limits): void;
  /** Answers valid requests, each of which is sent for when the one before was taken. */
  handle(
    requests: AsyncIterable<Request>,
    context: CallContext,
  ): Promise<Response | Encoded<Response>>;
}

/** Any RPC, as what runs it knows it. */
export type AnyRpc =
  | UnaryRpc<unknown, unknown>
  | StreamRpc<unknown, unknown>
  | ClientStreamRpc<unknown, unknown>;

type RpcOf<M> = M extends {
  requestStream: infer TakesStream;
  responseStream: infer IsStream;
  requestDeserialize: (bytes: Buffer) => infer Request;
  responseSerialize: (value: infer Response) => Buffer;
}
  ? TakesStream extends true
    ? ClientStreamRpc<Request, Response>
    : IsStream extends true
      ? StreamRpc<Request, Response>
      : UnaryRpc<Request, Response>
  : never;

/** An implementation of every RPC of a service. */
export type RpcsOf<Service> = { [Name in keyof Service]: RpcOf<Service[Name]> };

/** An implementation of the service AgentStore. */
export type Rpcs = RpcsOf<typeof AgentStoreService>;

/** An implementation of the service AgentStoreAdmin. */
export type AdminRpcs = RpcsOf<typeof AgentStoreAdminService>;
