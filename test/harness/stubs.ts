// The generated stubs as promises, with failures decoded: a caller that adds nothing of its own.
import {
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Client as GrpcClient,
  Metadata,
} from "@grpc/grpc-js";
import type { AgentStoreError } from "../../client/errors.js";
import { errorFromStatus, isEndStatus } from "../../client/status.js";
import { AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import { LoadContextRequest, RepairSessionRequest } from "../../gen/agentstore/v1/context.js";
import { ForkSessionRequest } from "../../gen/agentstore/v1/forks.js";
import * as leases from "../../gen/agentstore/v1/leases.js";
import * as messages from "../../gen/agentstore/v1/messages.js";
import { SearchMessagesRequest } from "../../gen/agentstore/v1/search.js";
import * as sessions from "../../gen/agentstore/v1/sessions.js";
import * as snapshots from "../../gen/agentstore/v1/snapshots.js";
import * as state from "../../gen/agentstore/v1/state.js";
import * as versions from "../../gen/agentstore/v1/versions.js";

const REQUESTS = {
  createSession: sessions.CreateSessionRequest,
  getSession: sessions.GetSessionRequest,
  updateSession: sessions.UpdateSessionRequest,
  listSessions: sessions.ListSessionsRequest,
  listTags: sessions.ListTagsRequest,
  deleteSession: sessions.DeleteSessionRequest,
  addMessage: messages.AddMessageRequest,
  addMessages: messages.AddMessagesRequest,
  getMessage: messages.GetMessageRequest,
  getMessages: messages.GetMessagesRequest,
  streamMessages: messages.StreamMessagesRequest,
  updateMessage: versions.UpdateMessageRequest,
  deleteMessage: versions.DeleteMessageRequest,
  undeleteMessage: versions.UndeleteMessageRequest,
  revertMessage: versions.RevertMessageRequest,
  listMessageVersions: versions.ListMessageVersionsRequest,
  forkSession: ForkSessionRequest,
  createSnapshot: snapshots.CreateSnapshotRequest,
  listSnapshots: snapshots.ListSnapshotsRequest,
  getSnapshot: snapshots.GetSnapshotRequest,
  restoreSnapshot: snapshots.RestoreSnapshotRequest,
  deleteSnapshot: snapshots.DeleteSnapshotRequest,
  searchMessages: SearchMessagesRequest,
  getSessionStats: sessions.GetSessionStatsRequest,
  acquireLease: leases.AcquireLeaseRequest,
  renewLease: leases.RenewLeaseRequest,
  releaseLease: leases.ReleaseLeaseRequest,
  loadContext: LoadContextRequest,
  repairSession: RepairSessionRequest,
  getState: state.GetStateRequest,
  updateState: state.UpdateStateRequest,
};

/** An RPC by its name in the generated service. */
export type RpcName = keyof typeof REQUESTS;

/** What an RPC takes, each field optional. */
export type RequestOf<Name extends RpcName> = Partial<
  Parameters<(typeof AgentStoreService)[Name]["requestSerialize"]>[0]
>;

/** What an RPC answers, or what each response of its stream holds. */
export type ResponseOf<Name extends RpcName> = ReturnType<
  (typeof AgentStoreService)[Name]["responseDeserialize"]
>;

/** How a call is made. */
export interface StubOptions {
  /** From now, in milliseconds; without one the call waits for ever. */
  deadlineMs?: number;
  signal?: AbortSignal;
  /** The x-request-id to send. */
  callId?: string;
}

/** A message to append with only what a test cares about. */
export function newMessage(fields: Partial<messages.NewMessage> = {}): messages.NewMessage {
  return messages.NewMessage.fromPartial({ role: messages.Role.USER, ...fields } as never);
}

/** One channel to a server. */
export class Stubs {
  readonly channel: GrpcClient;
  readonly #token: string | undefined;

  /** @param address HOST:PORT; a token makes the calls on behalf of its tenant */
  constructor(address: string, { token }: { token?: string } = {}) {
    this.channel = new GrpcClient(address, credentials.createInsecure(), {
      "grpc.max_receive_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.initial_reconnect_backoff_ms": 50,
      "grpc.max_reconnect_backoff_ms": 200,
    });
    this.#token = token;
  }

  /**
   * Makes a unary call.
   *
   * @throws AgentStoreError with code, reason, metadata, violations and retryDelayMs of the status
   */
  call<Name extends Exclude<RpcName, "streamMessages">>(
    name: Name,
    request: RequestOf<Name>,
    options: StubOptions = {},
  ): Promise<ResponseOf<Name>> {
    const method = AgentStoreService[name];
    return new Promise((resolve, reject) => {
      const cancel = () => call.cancel();
      const call: ClientUnaryCall = this.channel.makeUnaryRequest(
        method.path,
        method.requestSerialize as (value: unknown) => Buffer,
        method.responseDeserialize as (bytes: Buffer) => ResponseOf<Name>,
        complete(name, request),
        this.#metadata(options),
        callOptions(options),
        (failure, response) => {
          options.signal?.removeEventListener("abort", cancel);
          if (failure) reject(decoded(failure));
          else resolve(response as ResponseOf<Name>);
        },
      );
      options.signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Opens a stream of messages; `pages` and `failureOf` read it. */
  stream(
    request: RequestOf<"streamMessages">,
    options: StubOptions = {},
  ): ClientReadableStream<messages.StreamMessagesResponse> {
    const method = AgentStoreService.streamMessages;
    const stream = this.channel.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      complete("streamMessages", request),
      this.#metadata(options),
      callOptions(options),
    );
    options.signal?.addEventListener("abort", () => stream.cancel(), { once: true });
    // Whoever reads it hears of the end; a stream that nobody reads any more must not crash.
    stream.on("error", () => {});
    return stream;
  }

  /** Reads a whole stream. */
  async readStream(
    request: RequestOf<"streamMessages">,
    options: StubOptions = {},
  ): Promise<messages.StreamMessagesResponse[]> {
    const read: messages.StreamMessagesResponse[] = [];
    for await (const page of pages(this.stream(request, options))) read.push(page);
    return read;
  }

  close(): void {
    this.channel.close();
  }

  #metadata({ callId }: StubOptions): Metadata {
    const metadata = new Metadata();
    if (this.#token !== undefined) metadata.set("authorization", `Bearer ${this.#token}`);
    if (callId !== undefined) metadata.set("x-request-id", callId);
    return metadata;
  }
}

/** Iterates over a stream's pages; throws its failure as an AgentStoreError. */
export async function* pages(
  stream: ClientReadableStream<messages.StreamMessagesResponse>,
): AsyncGenerator<messages.StreamMessagesResponse, void, undefined> {
  try {
    yield* stream as AsyncIterable<messages.StreamMessagesResponse>;
  } catch (failure) {
    throw decoded(failure);
  }
}

/** Waits for a call to fail and returns how. */
export async function failureOf(call: Promise<unknown>): Promise<AgentStoreError> {
  const outcome = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome === undefined) throw new Error("the call was expected to fail, and did not");
  return outcome as AgentStoreError;
}

// The generated fromPartial has a type of its own for each message, which no union can be called as.
function complete<Name extends RpcName>(name: Name, request: RequestOf<Name>) {
  const codec = REQUESTS[name] as unknown as { fromPartial(fields: object): Message<Name> };
  return codec.fromPartial(request);
}

type Message<Name extends RpcName> = Parameters<
  (typeof AgentStoreService)[Name]["requestSerialize"]
>[0];

function decoded(failure: unknown): unknown {
  return isEndStatus(failure) ? errorFromStatus(failure, {}) : failure;
}

function callOptions({ deadlineMs }: StubOptions): { deadline?: number } {
  return deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
}
