// The generated client as promises, and what each test file needs around it.
import { randomUUID } from "node:crypto";
import { type CallOptions, type Client, credentials, Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect } from "vitest";
import { AgentStoreClient, type AgentStoreService } from "../../gen/agentstore/v1/agent_store.js";
import { LoadContextRequest, RepairSessionRequest } from "../../gen/agentstore/v1/context.js";
import { ForkSessionRequest } from "../../gen/agentstore/v1/forks.js";
import * as leases from "../../gen/agentstore/v1/leases.js";
import * as messages from "../../gen/agentstore/v1/messages.js";
import { SearchMessagesRequest } from "../../gen/agentstore/v1/search.js";
import * as sessions from "../../gen/agentstore/v1/sessions.js";
import * as snapshots from "../../gen/agentstore/v1/snapshots.js";
import * as state from "../../gen/agentstore/v1/state.js";
import * as versions from "../../gen/agentstore/v1/versions.js";
import { RawConnection } from "../harness/raw-grpc.js";
import { type ExpectedFault, expectFault, type Fault, failure, unpack } from "./faults.js";
import { findTarget, type Target } from "./target.js";

type Service = typeof AgentStoreService;
/** An RPC as the generated client names it; those that carry files or events have helpers of their own. */
export type Rpc = Exclude<
  keyof Service,
  "exportSessions" | "importSessions" | "watchSession" | "watchSessions"
>;
type Unary = Exclude<Rpc, "streamMessages">;
type Request<Name extends Rpc> = Parameters<Service[Name]["requestSerialize"]>[0];
type Response<Name extends Rpc> = ReturnType<Service[Name]["responseDeserialize"]>;

/** A request with any of its fields left out. */
export type Part<T> = T extends Date | bigint
  ? T
  : T extends (infer Item)[]
    ? Part<Item>[]
    : T extends object
      ? { [Key in keyof T]?: Part<T[Key]> | undefined }
      : T;

const requests: { [Name in Rpc]: { fromPartial(part: never): Request<Name> } } = {
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

/** What a call carries besides its request. */
export interface CallExtras {
  /** A time, or so many milliseconds from now. */
  deadline?: Date | number;
  metadata?: Record<string, string>;
}

/** One test file's view of the server. */
export class Store {
  readonly #created = new Set<bigint>();
  #target: Target | undefined;
  #client: AgentStoreClient | undefined;
  #raw: RawConnection | undefined;
  #anchor = 0n;

  /** Connects; call it before all tests. */
  async open(): Promise<void> {
    this.#target = await findTarget();
    this.#client = this.connect(AgentStoreClient);
    this.#anchor = await this.newSession();
  }

  /** Deletes the sessions that were created here; call it after all tests. */
  async close(): Promise<void> {
    try {
      for (const conversationId of this.#created) {
        await this.call("deleteSession", { conversationId });
      }
    } finally {
      this.#client?.close();
      await this.#raw?.close();
      await this.#target?.stop();
    }
  }

  get target(): Target {
    return this.#target!;
  }

  /** The generated client. */
  get client(): AgentStoreClient {
    return this.#client!;
  }

  /** Makes another client of the server. */
  connect<T extends Client>(
    type: new (
      address: string,
      channel: ReturnType<typeof credentials.createInsecure>,
      options: object,
    ) => T,
  ): T {
    const { address, ca } = this.target;
    const channel = ca ? credentials.createSsl(ca) : credentials.createInsecure();
    const options = { "grpc.max_receive_message_length": -1, "grpc.use_local_subchannel_pool": 1 };
    return new type(address, channel, options);
  }

  /** The call's metadata, with the token if there is one. */
  metadata(extra: Record<string, string> = {}): Metadata {
    const metadata = new Metadata();
    if (this.target.token) metadata.set("authorization", `Bearer ${this.target.token}`);
    for (const [key, value] of Object.entries(extra)) metadata.set(key, value);
    return metadata;
  }

  /** Calls a unary RPC. */
  async call<Name extends Unary>(
    name: Name,
    request: Part<Request<Name>>,
    extras: CallExtras = {},
  ): Promise<Response<Name>> {
    const full = requests[name].fromPartial(request as never);
    const method = this.client[name].bind(this.client) as unknown as (
      request: Request<Name>,
      metadata: Metadata,
      options: Partial<CallOptions>,
      respond: (error: Error | null, response: Response<Name>) => void,
    ) => void;
    const response = await new Promise<Response<Name>>((resolve, reject) => {
      method(full, this.metadata(extras.metadata), options(extras), (error, answer) => {
        if (error) reject(error);
        else resolve(answer);
      });
    });
    if (name === "createSession") {
      this.#created.add((response as sessions.CreateSessionResponse).session!.id);
    }
    return response;
  }

  /** Calls StreamMessages. */
  stream(request: Part<messages.StreamMessagesRequest>, extras: CallExtras = {}) {
    const full = messages.StreamMessagesRequest.fromPartial(request);
    return this.client.streamMessages(full, this.metadata(extras.metadata), options(extras));
  }

  /** All pages of a stream. */
  async pages(
    request: Part<messages.StreamMessagesRequest>,
    extras: CallExtras = {},
  ): Promise<messages.StreamMessagesResponse[]> {
    const pages: messages.StreamMessagesResponse[] = [];
    for await (const page of this.stream(request, extras)) {
      pages.push(page as messages.StreamMessagesResponse);
    }
    return pages;
  }

  /** Calls any RPC and throws its answer away. */
  async any<Name extends Rpc>(
    name: Name,
    request: Part<Request<Name>>,
    extras: CallExtras = {},
  ): Promise<unknown> {
    if (name === "streamMessages") {
      return await this.pages(request as Part<messages.StreamMessagesRequest>, extras);
    }
    return await this.call(name, request, extras);
  }

  /** Asserts that a call fails with this fault, and that the server answers the next one. */
  async refuses<Name extends Rpc>(
    name: Name,
    request: Part<Request<Name>>,
    expected: ExpectedFault,
  ): Promise<Fault> {
    const fault = await failure(this.any(name, request));
    expectFault(fault, expected);
    await this.answers();
    return fault;
  }

  /** Asserts that the bytes of a request fail with this fault, and that the server still answers. */
  async refusesBytes(name: Rpc, request: Uint8Array, expected: ExpectedFault): Promise<Fault> {
    const raw = await this.raw();
    const { code, text, details } = await raw.call(rpcName(name), request);
    const fault = unpack(code, text, details);
    expectFault(fault, expected);
    await this.answers();
    return fault;
  }

  /** A bare HTTP/2 connection; a new one when the last one was closed. */
  async raw(): Promise<RawConnection> {
    if (!this.#raw || this.#raw.session.closed || this.#raw.session.destroyed) {
      this.#raw = await RawConnection.open(this.target);
    }
    return this.#raw;
  }

  /** Asserts that an ordinary call is answered. */
  async answers(): Promise<void> {
    const { session } = await this.call("getSession", { conversationId: this.#anchor });
    expect(session?.id).toBe(this.#anchor);
  }

  /** Creates a session, of a model of its own unless one is given. */
  async newSession(fields: Part<sessions.CreateSessionRequest> = {}): Promise<bigint> {
    const request = { modelId: uniqueModel(), ...fields };
    return (await this.call("createSession", request)).session!.id;
  }

  /** Creates a session of so many messages with the contents "1", "2", … */
  async newConversation(count: number): Promise<bigint> {
    const conversationId = await this.newSession();
    await this.appendNumbered(conversationId, 1, count);
    return conversationId;
  }

  /** Appends user messages whose contents are the numbers from one to another. */
  async appendNumbered(conversationId: bigint, first: number, last: number): Promise<void> {
    for (let start = first; start <= last; start += 1_000) {
      const length = Math.min(1_000, last - start + 1);
      const batch = Array.from({ length }, (_, index) => userMessage(String(start + index)));
      await this.call("addMessages", { conversationId, messages: batch });
    }
  }
}

/** Makes a Store that is open while the tests of the file run. */
export function useStore(): Store {
  const store = new Store();
  beforeAll(() => store.open());
  afterAll(() => store.close());
  return store;
}

/** A model that no other test uses. */
export function uniqueModel(): string {
  return `e2e-${randomUUID()}`;
}

/** A message of the role user. */
export function userMessage(content: string): Part<messages.NewMessage> {
  return { role: messages.Role.USER, content };
}

/** The RPC's name in the .proto files. */
export function rpcName(name: Rpc): string {
  return `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
}

function options({ deadline }: CallExtras): Partial<CallOptions> {
  if (deadline === undefined) return {};
  return { deadline: deadline instanceof Date ? deadline : Date.now() + deadline };
}
