// GetModelPolicy and UpdateModelPolicy: what a mask names, and nothing else; for operators alone.
import { createHash, randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import type { ModelPolicy } from "../../gen/agentstore/v1/policies.js";
import { adminCall, allEvents } from "../harness/admin-stubs.js";
import { startServer, type TestServer } from "../harness/server.js";
import { failureOf, Stubs } from "../harness/stubs.js";

let server: TestServer;
let stubs: Stubs;

beforeAll(async () => {
  server = await startServer();
  stubs = new Stubs(server.address);
});

afterAll(async () => {
  stubs.close();
  await server.stop();
});

const DAY = { seconds: 86_400n, nanos: 0 };

async function get(modelId: string): Promise<ModelPolicy> {
  return (await adminCall(stubs.channel, "getModelPolicy", { modelId })).policy!;
}

async function update(policy: ModelPolicy, updateMask: string[], requestId = "") {
  return await adminCall(stubs.channel, "updateModelPolicy", { policy, updateMask, requestId });
}

test("a model has none until one is set, and need not have sessions for it", async () => {
  const modelId = `model-${randomUUID()}`;
  expect(await get(modelId)).toEqual({ modelId });
  const { policy, replayed } = await update({ modelId, retention: DAY }, ["retention"]);
  expect(replayed).toBe(false);
  expect(policy).toEqual({ modelId, retention: DAY, updatedAt: expect.any(Date) });
  expect(await get(modelId)).toEqual(policy);
});

test("a mask changes what it names, and clears what is absent", async () => {
  const modelId = `model-${randomUUID()}`;
  const snapshotPolicy = { everyMessages: 20n, everyMinutes: 0n };
  const retention = { seconds: 61n, nanos: 5_000_000 };
  await update({ modelId, retention: DAY, snapshotPolicy }, ["snapshot_policy"]);
  expect(await get(modelId)).toMatchObject({ retention: undefined, snapshotPolicy });
  await update({ modelId, retention }, ["retention", "retention"]);
  expect(await get(modelId)).toMatchObject({ retention, snapshotPolicy });
  await update({ modelId }, ["snapshot_policy"]);
  expect(await get(modelId)).toMatchObject({ retention, snapshotPolicy: undefined });
  await update({ modelId }, ["retention", "snapshot_policy"]);
  expect(await get(modelId)).toEqual({ modelId, updatedAt: expect.any(Date) });
});

test("a repeat replays the first answer, one of many at once writes, another body is refused", async () => {
  const modelId = `model-${randomUUID()}`;
  const requestId = randomUUID();
  const answers = await Promise.all(
    Array.from({ length: 10 }, () => update({ modelId, retention: DAY }, ["retention"], requestId)),
  );
  expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
  await update({ modelId }, ["retention"]);
  const again = await update({ modelId, retention: DAY }, ["retention"], requestId);
  expect(again).toMatchObject({ policy: { retention: DAY }, replayed: true });
  expect((await get(modelId)).retention).toBeUndefined();
  const other = await failureOf(update({ modelId }, ["retention"], requestId));
  expect(other.reason).toBe("REQUEST_ID_REUSED");
  const create = { modelId, requestId };
  expect((await failureOf(stubs.call("createSession", create))).reason).toBe("REQUEST_ID_REUSED");
  const events = await allEvents(stubs.channel, { requestId });
  expect(events).toMatchObject([{ rpc: "UpdateModelPolicy", fields: ["retention"] }]);
});

describe("refusals", () => {
  const modelId = "m";
  test.each<[Partial<ModelPolicy> | undefined, string[] | undefined, string]>([
    [undefined, ["retention"], "policy"],
    [{ modelId: "" }, ["retention"], "policy.model_id"],
    [{ modelId: "m".repeat(257) }, ["retention"], "policy.model_id"],
    [{ modelId: "\0" }, ["retention"], "policy.model_id"],
    [
      { modelId, retention: { seconds: 59n, nanos: 999_999_999 } },
      ["retention"],
      "policy.retention",
    ],
    [{ modelId, retention: { seconds: 0n, nanos: 0 } }, ["retention"], "policy.retention"],
    [{ modelId, retention: { seconds: -86_400n, nanos: 0 } }, ["retention"], "policy.retention"],
    [
      { modelId, retention: { seconds: 36_500n * 86_400n, nanos: 1_000_000 } },
      ["retention"],
      "policy.retention",
    ],
    [
      { modelId, retention: { seconds: (1n << 63n) - 1n, nanos: 0 } },
      ["retention"],
      "policy.retention",
    ],
    [
      { modelId, snapshotPolicy: { everyMessages: -1n, everyMinutes: 0n } },
      ["snapshot_policy"],
      "policy.snapshot_policy.every_messages",
    ],
    [
      { modelId, snapshotPolicy: { everyMessages: 0n, everyMinutes: 1n << 40n } },
      ["snapshot_policy"],
      "policy.snapshot_policy.every_minutes",
    ],
    [{ modelId }, [], "update_mask"],
    [{ modelId }, undefined, "update_mask"],
    [{ modelId }, ["retention", "model_id"], "update_mask"],
    [{ modelId }, ["*"], "update_mask"],
  ])("%# %o", async (policy, updateMask, field) => {
    const request = { policy: policy as ModelPolicy, updateMask };
    const failure = await failureOf(adminCall(stubs.channel, "updateModelPolicy", request));
    expect(failure).toMatchObject({ reason: "INVALID_FIELD", metadata: { field } });
    expect(await get(modelId)).toEqual({ modelId });
  });

  test.each(["", "\0", "m".repeat(257)])("of GetModelPolicy: %j", async (bad) => {
    const failure = await failureOf(get(bad));
    expect(failure).toMatchObject({ reason: "INVALID_FIELD", metadata: { field: "model_id" } });
  });
});

test("the client says it in milliseconds", async () => {
  const modelId = `model-${randomUUID()}`;
  await using client = new AgentStoreClient(server.url);
  expect(await client.getModelPolicy(modelId)).toEqual({ modelId });
  const changes = { retentionMs: 90_061_001, snapshotPolicy: { everyMessages: 5 } };
  const expected = {
    modelId,
    retentionMs: 90_061_001n,
    snapshotPolicy: { everyMessages: 5n, everyMinutes: 0n },
    updatedAt: expect.any(Date),
  };
  expect(await client.updateModelPolicy(modelId, changes)).toEqual(expected);
  await client.updateModelPolicy(modelId, { snapshotPolicy: null });
  expect(await client.getModelPolicy(modelId)).toEqual({ ...expected, snapshotPolicy: undefined });
  await expect(client.updateModelPolicy(modelId, { other: 1 } as never)).rejects.toMatchObject({
    metadata: { field: "other" },
  });
  await client.createSession(modelId, { ownerId: modelId });
  expect(await client.eraseOwner(modelId)).toMatchObject({ sessions: 1n, messages: 0n });
  expect(await client.eraseOwner(modelId)).toMatchObject({ sessions: 0n, keptAnswers: 0n });
});

test("is each tenant's own, and an operator's alone", async () => {
  const directory = await mkdtemp(join(tmpdir(), "policies-"));
  const hash = (token: string) => createHash("sha256").update(token).digest("hex");
  const tokensFile = join(directory, "tokens");
  const lines = [`us alice ${hash("us")} admin`, `them bob ${hash("them")} admin`];
  await writeFile(tokensFile, `${lines.join("\n")}\nus carol ${hash("user")}\n`);
  const guarded = await startServer({ tokensFile });
  const channel = new Stubs(guarded.address);
  try {
    const request = { policy: { modelId: "m", retention: DAY }, updateMask: ["retention"] };
    await adminCall(channel.channel, "updateModelPolicy", request, "us");
    const theirs = await adminCall(channel.channel, "getModelPolicy", { modelId: "m" }, "them");
    expect(theirs.policy).toEqual({ modelId: "m" });
    for (const [name, asked] of [
      ["updateModelPolicy", request],
      ["getModelPolicy", { modelId: "m" }],
      ["eraseOwner", { ownerId: "o" }],
    ] as const) {
      const failure = await failureOf(adminCall(channel.channel, name, asked, "user"));
      expect(failure.code).toBe("PERMISSION_DENIED");
    }
  } finally {
    channel.close();
    await guarded.stop();
    await rm(directory, { recursive: true });
  }
});
