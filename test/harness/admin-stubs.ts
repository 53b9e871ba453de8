// The generated stubs of AgentStoreAdmin as promises, with failures decoded.
import { type Client as GrpcClient, Metadata } from "@grpc/grpc-js";
import { errorFromStatus, isEndStatus } from "../../client/status.js";
import { AgentStoreAdminService } from "../../gen/agentstore/v1/agent_store_admin.js";
import {
  type AuditEvent,
  ListAuditEventsRequest,
  VerifyAuditRequest,
  type VerifyAuditResponse,
} from "../../gen/agentstore/v1/audit.js";
import {
  GetSearchStatusRequest,
  ListEmbeddingFailuresRequest,
  RetryEmbeddingsRequest,
} from "../../gen/agentstore/v1/embeddings.js";
import { EraseOwnerRequest } from "../../gen/agentstore/v1/erasure.js";
import {
  GetModelPolicyRequest,
  UpdateModelPolicyRequest,
} from "../../gen/agentstore/v1/policies.js";

const REQUESTS = {
  listAuditEvents: ListAuditEventsRequest,
  verifyAudit: VerifyAuditRequest,
  getModelPolicy: GetModelPolicyRequest,
  updateModelPolicy: UpdateModelPolicyRequest,
  eraseOwner: EraseOwnerRequest,
  getSearchStatus: GetSearchStatusRequest,
  listEmbeddingFailures: ListEmbeddingFailuresRequest,
  retryEmbeddings: RetryEmbeddingsRequest,
};

type Name = keyof typeof REQUESTS;
type Service = typeof AgentStoreAdminService;
type RequestOf<N extends Name> = Parameters<Service[N]["requestSerialize"]>[0];
type ResponseOf<N extends Name> = ReturnType<Service[N]["responseDeserialize"]>;

/**
 * Calls an RPC of AgentStoreAdmin.
 *
 * @throws AgentStoreError
 */
export function adminCall<N extends Name>(
  channel: GrpcClient,
  name: N,
  // oxlint-disable-next-line typescript/no-generated-empty-object-type -- GetSearchStatus takes nothing
  request: Partial<RequestOf<N>>,
  token?: string,
): Promise<ResponseOf<N>> {
  const method = AgentStoreAdminService[name];
  const codec = REQUESTS[name] as unknown as { fromPartial(fields: object): RequestOf<N> };
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  return new Promise((resolve, reject) => {
    channel.makeUnaryRequest(
      method.path,
      method.requestSerialize as (value: unknown) => Buffer,
      method.responseDeserialize as (bytes: Buffer) => ResponseOf<N>,
      codec.fromPartial(request),
      metadata,
      (failure, response) => {
        if (failure) reject(isEndStatus(failure) ? errorFromStatus(failure, {}) : failure);
        else resolve(response as ResponseOf<N>);
      },
    );
  });
}

/** All events that a filter leaves, page by page. */
export async function allEvents(
  channel: GrpcClient,
  filter: Partial<ListAuditEventsRequest> = {},
  token?: string,
): Promise<AuditEvent[]> {
  const events: AuditEvent[] = [];
  let pageToken = "";
  do {
    const page = await adminCall(channel, "listAuditEvents", { ...filter, pageToken }, token);
    events.push(...page.events);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return events;
}

/** Holds the whole log against its hashes. */
export async function verifyAll(channel: GrpcClient, token?: string): Promise<VerifyAuditResponse> {
  let from: Partial<VerifyAuditRequest> = {};
  let checked = 0n;
  for (;;) {
    const answer = await adminCall(channel, "verifyAudit", from, token);
    checked += answer.checked;
    if (!answer.more) return { ...answer, checked };
    from = { afterPosition: answer.position, afterChain: answer.chain };
  }
}
