// The generated client of AgentStoreAdmin's audit log as promises.
import type { Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll } from "vitest";
import { AgentStoreAdminClient } from "../../gen/agentstore/v1/agent_store_admin.js";
import {
  type AuditEvent,
  ListAuditEventsRequest,
  type ListAuditEventsResponse,
  VerifyAuditRequest,
  type VerifyAuditResponse,
} from "../../gen/agentstore/v1/audit.js";
import type { Store } from "./store.js";

type Respond<Response> = (error: Error | null, response: Response) => void;

/** The operator's side of the server that a store talks to. */
export class Admin {
  #client: AgentStoreAdminClient | undefined;

  constructor(readonly store: Store) {}

  open(): void {
    this.#client = this.store.connect(AgentStoreAdminClient);
  }

  close(): void {
    this.#client?.close();
  }

  listAuditEvents(request: Partial<ListAuditEventsRequest>): Promise<ListAuditEventsResponse> {
    const full = ListAuditEventsRequest.fromPartial(request);
    return this.#call((metadata, respond) =>
      this.#client!.listAuditEvents(full, metadata, respond),
    );
  }

  verifyAudit(request: Partial<VerifyAuditRequest>): Promise<VerifyAuditResponse> {
    const full = VerifyAuditRequest.fromPartial(request);
    return this.#call((metadata, respond) => this.#client!.verifyAudit(full, metadata, respond));
  }

  /** All events that a filter leaves, page by page. */
  async events(filter: Partial<ListAuditEventsRequest>): Promise<AuditEvent[]> {
    const events: AuditEvent[] = [];
    let pageToken = "";
    do {
      const page = await this.listAuditEvents({ ...filter, pageToken });
      events.push(...page.events);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return events;
  }

  #call<Response>(
    make: (metadata: Metadata, respond: Respond<Response>) => unknown,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      make(this.store.metadata(), (error, response) => {
        if (error) reject(error);
        else resolve(response);
      });
    });
  }
}

/** Makes an Admin that is open while the tests of the file run. */
export function useAdmin(store: Store): Admin {
  const admin = new Admin(store);
  beforeAll(() => admin.open());
  afterAll(() => admin.close());
  return admin;
}
