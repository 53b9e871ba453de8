// Tests which error a status becomes, with and without the details that say why.
import { Metadata, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import * as client from "../../../client/index.js";
import { AgentStoreClient, AgentStoreError } from "../../../client/index.js";
import { ErrorReason } from "../../../gen/agentstore/v1/errors.js";
import { bare, type FakeServer, failure, startFakeServer } from "./fake-server.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** What a call throws when the server ends it with `error`. */
async function thrownFor(
  error: unknown,
  options: client.CallOptions = {},
): Promise<{ thrown: AgentStoreError; server: FakeServer; callId: unknown }> {
  let callId: unknown;
  const server = await startFakeServer({
    getMessage(_, call) {
      callId = call.metadata.get("x-request-id")[0];
      throw error;
    },
  });
  const store = new AgentStoreClient({ url: server.url, maxAttempts: 1 });
  closers.push(
    () => store.close(),
    () => server.stop(),
  );
  const thrown = await store.getMessage(42, 7, options).catch((e: unknown) => e);
  return { thrown: thrown as AgentStoreError, server, callId };
}

const REASONS = [
  ["INVALID_ARGUMENT", "INVALID_FIELD", "InvalidFieldError"],
  ["INVALID_ARGUMENT", "INVALID_UTF8", "InvalidFieldError"],
  ["INVALID_ARGUMENT", "MALFORMED_REQUEST", "AgentStoreError"],
  ["INVALID_ARGUMENT", "MESSAGE_TOO_LARGE", "MessageTooLargeError"],
  ["INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "InvalidPageTokenError"],
  ["INVALID_ARGUMENT", "REQUEST_ID_REUSED", "RequestIdReusedError"],
  ["NOT_FOUND", "SESSION_NOT_FOUND", "SessionNotFoundError"],
  ["NOT_FOUND", "MESSAGE_NOT_FOUND", "MessageNotFoundError"],
  ["ABORTED", "LAST_SEQ_MISMATCH", "LastSeqMismatchError"],
  ["ABORTED", "ETAG_MISMATCH", "EtagMismatchError"],
  ["FAILED_PRECONDITION", "EMBEDDINGS_NOT_CONFIGURED", "AgentStoreError"],
  ["FAILED_PRECONDITION", "VECTOR_INDEX_REQUIRED", "AgentStoreError"],
  ["UNAVAILABLE", "EMBEDDINGS_UNAVAILABLE", "UnavailableError"],
  ["OUT_OF_RANGE", "REVISION_AHEAD", "RevisionAheadError"],
  ["OUT_OF_RANGE", "POSITION_EXPIRED", "PositionExpiredError"],
  ["ABORTED", "REVISION_MISMATCH", "RevisionMismatchError"],
  ["NOT_FOUND", "VERSION_NOT_FOUND", "VersionNotFoundError"],
  ["NOT_FOUND", "MESSAGE_DELETED", "MessageDeletedError"],
  ["FAILED_PRECONDITION", "MESSAGE_NOT_DELETED", "MessageNotDeletedError"],
  ["NOT_FOUND", "SNAPSHOT_NOT_FOUND", "SnapshotNotFoundError"],
  ["FAILED_PRECONDITION", "TOO_MANY_SNAPSHOTS", "TooManySnapshotsError"],
  ["ABORTED", "WRITE_CONFLICT", "WriteConflictError"],
  ["FAILED_PRECONDITION", "LEASE_HELD", "LeaseHeldError"],
  ["FAILED_PRECONDITION", "LEASE_LOST", "LeaseLostError"],
  ["INVALID_ARGUMENT", "BUDGET_TOO_SMALL", "BudgetTooSmallError"],
  ["FAILED_PRECONDITION", "MODEL_NOT_REGISTERED", "ModelNotRegisteredError"],
  ["FAILED_PRECONDITION", "SCHEMA_CONFLICT", "SchemaConflictError"],
  ["UNAUTHENTICATED", "UNAUTHENTICATED", "UnauthenticatedError"],
  ["PERMISSION_DENIED", "PERMISSION_DENIED", "PermissionDeniedError"],
  ["INVALID_ARGUMENT", "INVALID_IMPORT", "InvalidImportError"],
  ["RESOURCE_EXHAUSTED", "OVERLOADED", "OverloadedError"],
  ["RESOURCE_EXHAUSTED", "STORAGE_EXHAUSTED", "StorageExhaustedError"],
  ["UNAVAILABLE", "DATABASE_UNAVAILABLE", "UnavailableError"],
  ["UNAVAILABLE", "SHUTTING_DOWN", "UnavailableError"],
  ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "DeadlineExceededError"],
  ["CANCELLED", "CANCELLED", "CancelledError"],
  ["INTERNAL", "INTERNAL", "InternalError"],
  ["NOT_FOUND", "A_REASON_OF_TOMORROW", "AgentStoreError"],
  ["UNAVAILABLE", "A_REASON_OF_TOMORROW", "UnavailableError"],
] as const;

describe("an error with its reason", () => {
  it.each(REASONS)("%s / %s is a %s", async (code, reason, name) => {
    const { thrown, callId } = await thrownFor(
      failure(status[code], reason, { message: "The text.", metadata: { key: "value" } }),
    );
    expect(thrown.constructor).toBe(client[name]);
    expect(thrown).toBeInstanceOf(AgentStoreError);
    expect(thrown).toMatchObject({
      code,
      reason,
      message: "The text.",
      metadata: { key: "value" },
      violations: [],
      attempts: 1,
      callId,
    });
    expect(callId).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("is tested for every reason that there is", () => {
    const tested = new Set<string>(REASONS.map(([, reason]) => reason));
    const reasons = Object.keys(ErrorReason).filter((reason) => !/^UN(SPEC|REC)/.test(reason));
    expect(reasons.filter((reason) => !tested.has(reason))).toEqual([]);
  });

  it("hands on what belongs to it", async () => {
    const mismatch = failure(status.ABORTED, "LAST_SEQ_MISMATCH", {
      metadata: { conversation_id: "9007199254740993", expected_last_seq: "6", last_seq: "7" },
    });
    expect((await thrownFor(mismatch)).thrown).toMatchObject({
      conversationId: 9007199254740993n,
      expectedLastSeq: 6n,
      lastSeq: 7n,
    });
    const missing = failure(status.NOT_FOUND, "MESSAGE_NOT_FOUND", {
      metadata: { conversation_id: "42", seq: "7", last_seq: "not a number" },
    });
    expect((await thrownFor(missing)).thrown).toMatchObject({
      conversationId: 42n,
      seq: 7n,
      lastSeq: undefined,
    });
    const metadata = { conversation_id: "42", holder: "w", expires_at: "2026-01-31T09:30:00.000Z" };
    const held = failure(status.FAILED_PRECONDITION, "LEASE_HELD", { metadata });
    expect((await thrownFor(held)).thrown).toMatchObject({
      conversationId: 42n,
      holder: "w",
      expiresAt: new Date("2026-01-31T09:30:00Z"),
    });
    const unclear = failure(status.FAILED_PRECONDITION, "LEASE_HELD", { metadata: {} });
    expect((await thrownFor(unclear)).thrown).toMatchObject({
      holder: undefined,
      expiresAt: undefined,
    });
    const violations = [
      { field: "messages[3].content", description: "too long" },
      { field: "page_size", description: "negative" },
    ];
    const invalid = failure(status.INVALID_ARGUMENT, "INVALID_FIELD", { violations });
    expect((await thrownFor(invalid)).thrown.violations).toEqual(violations);
    const full = failure(status.RESOURCE_EXHAUSTED, "OVERLOADED", { retryDelayMs: 1_250 });
    expect((await thrownFor(full)).thrown.retryDelayMs).toBe(1_250);
  });

  it("is told by its details, never by its text", async () => {
    const { thrown } = await thrownFor(
      failure(status.NOT_FOUND, "MESSAGE_NOT_FOUND", { message: "SESSION_NOT_FOUND" }),
    );
    expect(thrown).toBeInstanceOf(client.MessageNotFoundError);
  });
});

describe("an error without its reason", () => {
  it.each([
    ["UNAUTHENTICATED", "UnauthenticatedError"],
    ["CANCELLED", "CancelledError"],
    ["INTERNAL", "InternalError"],
    ["NOT_FOUND", "AgentStoreError"],
    ["INVALID_ARGUMENT", "AgentStoreError"],
    ["UNIMPLEMENTED", "AgentStoreError"],
  ] as const)("%s is a %s and names the server", async (code, name) => {
    const { thrown, server } = await thrownFor(bare(status[code], "gateway says no"));
    expect(thrown.constructor).toBe(client[name]);
    expect(thrown).toMatchObject({ code, reason: "" });
    expect(thrown.message).toContain("gateway says no");
    expect(thrown.message).toContain(`127.0.0.1:${server.port}`);
  });

  it("takes no reason from another domain, nor from bytes that are none", async () => {
    const foreign = failure(status.NOT_FOUND, "SESSION_NOT_FOUND", { domain: "example.com" });
    expect((await thrownFor(foreign)).thrown.constructor).toBe(AgentStoreError);
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from([0xff, 0xff, 0xff, 0x01]));
    const garbled = { code: status.NOT_FOUND, details: "gone", metadata };
    expect((await thrownFor(garbled)).thrown).toMatchObject({ code: "NOT_FOUND", reason: "" });
  });
});

describe("an error's stack", () => {
  it("leads to the caller", async () => {
    async function theCallersFunction(): Promise<unknown> {
      return thrownFor(failure(status.NOT_FOUND, "SESSION_NOT_FOUND", { message: "Gone." }));
    }
    const { thrown } = (await theCallersFunction()) as { thrown: AgentStoreError };
    expect(thrown.stack).toMatch(/^SessionNotFoundError: Gone\.\n {4}at /);
    expect(thrown.stack).toContain("AgentStoreClient.getMessage");
    expect(thrown.stack).toContain("thrownFor");
    expect(thrown.stack).toContain("errors.test.ts");
  });

  it("leads to whoever asked for a stream", async () => {
    const server = await startFakeServer({
      async streamMessages() {
        throw failure(status.NOT_FOUND, "SESSION_NOT_FOUND", { message: "Gone." });
      },
    });
    const store = new AgentStoreClient(server.url);
    closers.push(
      () => store.close(),
      () => server.stop(),
    );
    async function theReadersFunction(): Promise<void> {
      for await (const message of store.streamMessages(1)) throw new Error(message.content);
    }
    const thrown = (await theReadersFunction().catch((e: unknown) => e)) as AgentStoreError;
    expect(thrown).toBeInstanceOf(client.SessionNotFoundError);
    expect(thrown.stack).toContain("theReadersFunction");
  });
});
